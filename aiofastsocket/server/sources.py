"""The sources of an option's value: the command line or a call from Python, the environment, a
file, and the default. The first source in this order that has a value decides.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SetupError, UsageError
from .kinds import Each, Field, Switch
from .options import BY_NAME, OPTIONS, Option

PREFIX = "AIOFASTSOCKET_SERVE_"
TABLE = "aiofastsocket"  # of [tool] in a pyproject.toml
FILES = ("aiofastsocket.toml", "pyproject.toml")

# Ways to give the address: only one of them is in force. Host and port are one way.
_WAYS = {"bind": "bind", "host": "host", "port": "host", "uds": "uds", "fd": "fd"}
_SWITCHES = {"true": "yes", "false": "no", "1": "yes", "0": "no", "on": "yes", "off": "no"}


@dataclass(frozen=True)
class Source:
    """One source of values. values: by the option's name, and perhaps `target`. named: the name of
    an option as the user writes it in this source. origin: the source's name for people."""

    values: Mapping[str, Any]
    named: Callable[[Option], str]
    origin: str


def given(values: Mapping[str, Any]) -> Source:
    """Values from the command line, or from Python, where None may mean that an option is not
    given."""
    known = {
        name: value
        for name, value in values.items()
        if name not in BY_NAME or value is not None or not _may_be_none(BY_NAME[name])
    }
    return Source(known, lambda option: option.flag, "command line")


def _may_be_none(option: Option) -> bool:
    return option.default in (None, ()) or option.group in ("TLS", "HTTP", "limits")


def environment() -> Source:
    """Values from each option's own variable. Raises UsageError for a variable with PREFIX that
    belongs to no option."""
    names = {PREFIX + option.name.upper(): option for option in OPTIONS}
    values: dict[str, Any] = {}
    for name, text in os.environ.items():
        if not name.startswith(PREFIX):
            continue
        if name == f"{PREFIX}TARGET":
            values["target"] = text
        elif name in names and not (text == "" and isinstance(names[name].kind, Each)):
            values[names[name].name] = _from_text(names[name], text)
        elif name not in names:
            raise UsageError(f"${name} is not an option's variable{_nearest(name, names, '$')}")
    return Source(values, lambda option: f"${PREFIX}{option.name.upper()}", "environment")


def _from_text(option: Option, text: str) -> Any:
    """The value in a variable's text. Several values are separated by commas or line ends; header
    fields by line ends only."""
    if isinstance(option.kind, Switch):
        return _SWITCHES.get(text.lower(), text)
    if isinstance(option.kind, Each):
        if not isinstance(option.kind.kind, Field):
            text = text.replace(",", "\n")
        return [part.strip() for part in text.split("\n") if part.strip()]
    return text


def variables() -> Source:
    """Values from variables that other programs use too, such as $WEB_CONCURRENCY."""
    known = {option.name: option.variable for option in OPTIONS if not option.late}
    values = {name: os.environ[v] for name, v in known.items() if v and v in os.environ}
    return Source(values, lambda option: f"${option.variable}", "environment")


def file(path: str | None) -> Source:
    """Values from a file; None: from a file in the working directory, if one has values.

    Raises UsageError for a key that is not an option, SetupError if the file cannot be read.
    """
    if path is not None and path.endswith(".py"):  # a file of gunicorn's
        raise UsageError(f"--config {path}: write it as TOML; docs/gunicorn.md has each setting")
    for name in FILES if path is None else (path,):
        try:
            with open(name, "rb") as stream:
                said = tomllib.load(stream)
        except FileNotFoundError:
            if path is None:
                continue
            raise SetupError(f"--config {name}: there is no such file") from None
        except OSError as error:
            raise SetupError(f"--config {name}: {error.strerror}") from None
        except ValueError as error:  # invalid TOML, or invalid UTF-8
            raise UsageError(f"{name} is not valid TOML: {error}") from None
        if Path(name).name == "pyproject.toml":
            for table in ("tool", TABLE):
                said = said.get(table, {})
                if not isinstance(said, dict):
                    raise UsageError(f"{name}: [tool.{TABLE}] is not a table")
        if said or path is not None:
            return _said_in(name, said)
    return Source({}, lambda option: option.name, "")


def _said_in(path: str, said: Mapping[str, Any]) -> Source:
    names = {option.name: option.name for option in OPTIONS if not option.start}
    names |= {option.flag[2:].replace("-", "_"): option.name for option in OPTIONS}
    names["target"] = "target"
    values = {}
    for key, value in said.items():
        if isinstance(value, dict) and key not in names:
            raise UsageError(f"{path}: [{key}] is a table; write options without a table")
        name = names.get(key.replace("-", "_"))
        if name in BY_NAME and BY_NAME[name].start:
            raise UsageError(f"{path}: {key} is for the command line and the environment only")
        if name is None:
            raise UsageError(f"{path}: {key} is not an option{_nearest(key, names)}")
        if name in values:
            raise UsageError(f"{path}: {key} is given twice")
        values[name] = value
    return Source(values, lambda option: f"{path}: {option.name}", path)


def _nearest(name: str, known: Mapping[str, object], before: str = "") -> str:
    found = difflib.get_close_matches(name.replace("-", "_"), known, 1, 0.5)
    return f"; did you mean {before}{found[0]}?" if found else ""


def env_file(path: str) -> None:
    """Set the variables in a file, except those that are already set. Raises SetupError, or
    UsageError for invalid text."""
    try:
        import dotenv
    except ModuleNotFoundError:
        raise SetupError("--env-file needs python-dotenv: pip install python-dotenv") from None
    if not Path(path).is_file():
        raise SetupError(f"--env-file {path}: there is no such file")
    try:
        dotenv.load_dotenv(path)
    except OSError as error:
        raise SetupError(f"--env-file {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--env-file {path}: {error}") from None


@dataclass(frozen=True)
class Gathered:
    """The values of all options, and the source of each that has one."""

    target: str | None
    values: dict[str, Any]
    origins: dict[str, str]

    def lines(self) -> Iterator[str]:
        """The options in the form of a file, each with its source; secrets are masked."""
        if self.target is not None:
            yield f"target = {json.dumps(self.target)}  # {self.origins['target']}"
        for option in OPTIONS:
            if option.start:
                continue
            value, origin = self.values[option.name], self.origins.get(option.name)
            if origin is None and option.late and option.variable in os.environ:
                value, origin = os.environ[option.variable], "environment"
            if origin is None and value in (None, ()):
                yield f"# {option.name}: {option.unset or 'not given'}"
                continue
            shown = '"***"' if option.secret else _toml(value)
            yield f"{option.name} = {shown}  # {origin or 'default'}"


def _toml(value: Any) -> str:
    if value is None:
        return '"auto"'
    if isinstance(value, float):
        return repr(value)  # TOML has inf and nan too
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        value = [b": ".join(pair).decode(errors="backslashreplace") for pair in value]
    # A JSON string is a TOML string, except for one character that JSON does not escape.
    return json.dumps(value, default=str, ensure_ascii=False).replace("\x7f", "\\u007f")


def gather(*sources: Source) -> Gathered:
    """The values of all options: each from the first source that has it, else the default.

    Raises UsageError, which names the invalid value.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    target = None
    for source in sources:
        if target is None and source.values.get("target") is not None:
            target = source.values["target"]
            origins["target"] = source.origin
        # If a stronger source gives the address in one way, other ways in weaker ones are ignored.
        way = {_WAYS[name] for name in _WAYS if name in values}
        for name, value in source.values.items():
            option = BY_NAME.get(name)
            if option is None or name in values or (way and _WAYS.get(name, *way) not in way):
                continue
            values[name] = option.kind.convert(source.named(option), value)
            origins[name] = source.origin
    if target is not None and not isinstance(target, str):
        raise UsageError(f"target {target!r} is not text: write it as module:attribute")
    for option in OPTIONS:
        values.setdefault(option.name, option.default)
    return Gathered(target, values, origins)
