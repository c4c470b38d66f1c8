"""Directives that write the reference from the tables and parsers that the program itself uses.

`serve-options` uses server/options.py, and `command-options` uses argparse, for exec and stats.
"""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from aiofastsocket.cli import _parser
from aiofastsocket.server.kinds import Each, Switch
from aiofastsocket.server.options import FLAG, OPTIONS, Option
from aiofastsocket.server.sources import PREFIX


def _parsed(directive: Directive, lines: Iterator[str]) -> list[nodes.Node]:
    """The nodes of a directive whose content is these lines of Markdown."""
    parent = nodes.section()
    parent.document = directive.state.document
    directive.state.nested_parse(StringList(list(lines), directive.name), 0, parent)
    return parent.children


def _written(option: Option) -> str:
    """The option as it is written on the command line."""
    if option.kind == FLAG:
        return option.flag
    if isinstance(option.kind, Switch):
        return f"{option.flag}, --no-{option.flag[2:]}"
    words = getattr(option.kind, "words", None)
    value = "|".join(words) if words else option.kind.metavar
    return ", ".join(f"{name} {value}" for name in (option.short, option.flag) if name)


def _prose(text: str) -> str:
    """A help text as Markdown: options and patterns in code font."""
    text = text[0].upper() + text[1:]
    text = re.sub(r"(?<![\w`])(--[a-z][a-z-]*)", r"`\1`", text)
    return re.sub(r"'([^']*\*[^']*)'|(?<!\w)(\*\.\w+)", lambda m: f"`{m[1] or m[2]}`", text) + "."


def _entry(signature: str, *paragraphs: str) -> Iterator[str]:
    """An option with an anchor and a place in the index."""
    yield f"````{{option}} {signature}"
    for paragraph in paragraphs:
        yield from ("", paragraph)
    yield from ("````", "")


class ServeOptions(Directive):
    """The options of `serve` of one group, or of all."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        return _parsed(self, self._lines())

    def _lines(self) -> Iterator[str]:
        yield from ("```{program} aiofastsocket serve", "```", "")
        for option in OPTIONS:
            if not self.arguments or option.group == self.arguments[0]:
                yield from _entry(
                    _written(option), _prose(option.help), " · ".join(self._facts(option))
                )

    def _facts(self, option: Option) -> Iterator[str]:
        if option.kind != FLAG and (default := option.holds):
            is_value = option.default not in (None, ())
            yield f"Default: `{default}`." if is_value else f"Default: {_prose(default)}"
        if not option.start:
            yield f"Configuration file: `{option.name}`."
        yield f"Environment: `{PREFIX}{option.name.upper()}`" + (
            f", `{option.variable}`." if option.variable else "."
        )
        if isinstance(option.kind, Each):
            yield "May be given several times."


class CommandOptions(Directive):
    """The options of another command, by its name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return _parsed(self, self._lines())

    def _lines(self) -> Iterator[str]:
        (name,) = self.arguments
        yield from (f"```{{program}} aiofastsocket {name}", "```", "")
        for action in _subparsers()[name]._actions:
            if action.help in (argparse.SUPPRESS, None) or action.dest == "help":
                continue
            value = "|".join(map(str, action.choices)) if action.choices else action.metavar
            names = action.option_strings or [str(action.metavar)]
            shown = f" {value}" if value and action.option_strings else ""
            signature = ", ".join(f"{name}{shown}" for name in names)
            yield from _entry(signature, _prose(str(action.help)))


def _subparsers() -> dict[str, Any]:
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise LookupError("the command has no subcommands")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("serve-options", ServeOptions)
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True}
