"""`aiofastsocket completion SHELL`: a script for completing commands and options.

The script is made from the parser that reads them.
"""

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Option:
    """An option of one command. words: the possible values, if they are few. takes: it has a value.
    is_path: the value is the name of a file or folder."""

    command: str
    flags: tuple[str, ...]
    help: str
    words: tuple[str, ...]
    takes: bool
    is_path: bool


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for the shell."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {action.dest: action.help or "" for action in commands._choices_actions}
    options = [o for name, sub in commands.choices.items() for o in _options(name, sub)]
    words = {name: _words(sub) for name, sub in commands.choices.items()}
    if shell == "fish":
        return "\n".join(_fish(helps, options, words)) + "\n"
    lines = [*_bash(helps, options, words)]
    if shell == "zsh":
        lines = ["#compdef aiofastsocket", "autoload -U +X bashcompinit && bashcompinit", *lines]
    return "\n".join(lines) + "\n"


def _options(command: str, parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if not action.option_strings or action.help == argparse.SUPPRESS:
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        words = tuple(map(str, action.choices or ()))
        if metavar.startswith("{"):
            words = tuple(metavar.strip("{}").split(","))
        yield Option(
            command,
            tuple(action.option_strings),
            " ".join(((action.help or "") % {"prog": "aiofastsocket"}).split()),
            words,
            action.nargs != 0,
            metavar in ("FILE", "DIR", "PATH", "ADDRESS"),
        )


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """The words that a command's argument may be, if they are few."""
    own = [action for action in parser._actions if not action.option_strings]
    return [str(word) for action in own for word in action.choices or ()]


def _bash(
    commands: dict[str, str], options: list[Option], arguments: dict[str, list[str]]
) -> Iterator[str]:
    yield "_aiofastsocket() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '    local words="" paths=""'
    yield '    case "$COMP_CWORD,${COMP_WORDS[1]},$before" in'
    yield f"    1,*) words={shlex.quote(' '.join(commands))} ;;"
    for option in options:
        if option.takes:
            cases = "|".join(f"*,{option.command},{flag}" for flag in option.flags)
            what = "paths=1" if option.is_path else f"words={shlex.quote(' '.join(option.words))}"
            yield f"    {cases}) {what} ;;"
    for command in commands:
        flags = " ".join(f for o in options if o.command == command for f in o.flags)
        if own := " ".join(arguments[command]):
            yield f"    *,{command},*) words={shlex.quote(own)} ;;"
        else:
            yield f"    *,{command},*) words={shlex.quote(flags)}; [[ $word == -* ]] || paths=1 ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield '    [[ -z $paths ]] || COMPREPLY+=($(compgen -f -- "$word"))'
    yield "}"
    yield "complete -o filenames -F _aiofastsocket aiofastsocket"


def _fish(
    commands: dict[str, str], options: list[Option], arguments: dict[str, list[str]]
) -> Iterator[str]:
    for command, text in commands.items():
        yield (
            "complete -c aiofastsocket -n __fish_use_subcommand -f "
            f"-a {command} -d {_fish_text(text)}"
        )
    for command, words in arguments.items():
        if words:
            seen = f"'__fish_seen_subcommand_from {command}'"
            yield f"complete -c aiofastsocket -n {seen} -f -a {_fish_text(' '.join(words))}"
    for option in options:
        line = f"complete -c aiofastsocket -n '__fish_seen_subcommand_from {option.command}'"
        for flag in option.flags:
            line += f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}"
        if option.words:
            line += f" -x -a {_fish_text(' '.join(option.words))}"
        elif option.takes:
            line += " -r" if option.is_path else " -x"
        yield f"{line} -d {_fish_text(option.help)}"


def _fish_text(text: str) -> str:
    """The text in fish's single quotes, where only a backslash and a quote are special."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
