"""Directives that write the reference from the tables and parsers that the program itself uses.

`serve-options` uses server/options.py, and `command-options` uses argparse, for exec and stats.
"""

import argparse
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


class Written(Directive):
    """A directive whose content is the Markdown that `lines` yields."""

    def lines(self) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        parent = nodes.section()
        parent.document = self.state.document
        self.state.nested_parse(StringList(list(self.lines()), self.name), 0, parent)
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


class ServeOptions(Written):
    """The options of `serve`, of one group or of all groups, as a definition list."""

    optional_arguments = 1

    def lines(self) -> Iterator[str]:
        for option in OPTIONS:
            if self.arguments and option.group != self.arguments[0]:
                continue
            yield f"`{_written(option)}`"
            yield f": {option.help[0].upper()}{option.help[1:]}."
            yield ""
            yield "  " + " · ".join(self._facts(option))
            yield ""

    def _facts(self, option: Option) -> Iterator[str]:
        if option.kind != FLAG and (default := option.holds):
            is_value = option.default not in (None, ())
            yield f"Default: `{default}`." if is_value else f"Default: {default}."
        if not option.start:
            yield f"Configuration file: `{option.name}`."
        yield f"Environment: `{PREFIX}{option.name.upper()}`" + (
            f", `{option.variable}`." if option.variable else "."
        )
        if isinstance(option.kind, Each):
            yield "May be given several times."


class CommandOptions(Written):
    """The options of another command, which the argument names."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        parser = _subparsers()[self.arguments[0]]
        for action in parser._actions:
            if action.help in (argparse.SUPPRESS, None) or action.dest == "help":
                continue
            names = ", ".join(action.option_strings) or str(action.metavar)
            value = "|".join(map(str, action.choices)) if action.choices else action.metavar
            shown = value if value and action.option_strings else ""
            yield f"`{names} {shown}".rstrip() + "`"
            yield f": {str(action.help)[0].upper()}{str(action.help)[1:]}."
            yield ""


def _subparsers() -> dict[str, Any]:
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise LookupError("the command has no subcommands")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("serve-options", ServeOptions)
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True}
