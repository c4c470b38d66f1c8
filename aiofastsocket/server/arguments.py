"""From the command line, or a call from Python, to the configuration: by the table of options, and
with the values in the environment and in a file."""

import argparse
import os
from dataclasses import fields
from typing import Any

from ..choices import LOOPS
from ..errors import UsageError
from . import sources
from .bind import Bind
from .config import Config
from .http.config import HttpConfig
from .kinds import Each, Switch
from .logs import ACCESS
from .options import BY_NAME, FLAG, OPTIONS, Option
from .sources import Gathered, gather
from .tls import TlsConfig


def add(parser: argparse.ArgumentParser) -> None:
    """Put the options into the parser of `serve`. Values stay text: the table checks them."""
    groups = dict.fromkeys(option.group for option in OPTIONS)
    adders = {group: parser.add_argument_group(group) for group in groups}
    parser.add_argument(
        "target",
        nargs="?",
        metavar="module:attr",
        help="the program: an ASGI application, an asyncio.Protocol class or factory, an "
        "async def handle(reader, writer), or a WSGI application; without a target, an HTTP demo",
    )
    for option in OPTIONS:
        names = [option.short, option.flag] if option.short else [option.flag]
        adders[option.group].add_argument(*names, **_how(option))


def _how(option: Option) -> dict[str, Any]:
    """The arguments of add_argument. Options that are not given are missing from the result."""
    how: dict[str, Any] = {
        "dest": option.name,
        "default": argparse.SUPPRESS,
        "help": option.says.replace("%", "%%"),
    }
    if option.kind == FLAG:
        return how | {"action": "store_true"}
    if isinstance(option.kind, Switch):
        return how | {"action": argparse.BooleanOptionalAction}
    words = getattr(option.kind, "words", None)
    how["metavar"] = "{" + ",".join(words) + "}" if words else option.kind.metavar
    return how | ({"action": "append"} if isinstance(option.kind, Each) else {})


def from_command_line(given: dict[str, Any]) -> tuple[Gathered, Config]:
    """The configuration, and the source of each value. Raises UsageError or SetupError."""
    variables = given.get("env_file", os.environ.get(f"{sources.PREFIX}ENV_FILE"))
    if variables is not None:
        sources.env_file(variables)
    told, own = sources.given(given), sources.environment()
    path = told.values.get("config", own.values.get("config"))
    try:
        found = gather(told, own, sources.variables(), sources.file(path))
        return found, _config(found)
    except ValueError as error:  # such as a NUL in a name
        raise UsageError(f"an option has an invalid value: {error}") from None


def _config(found: Gathered) -> Config:
    options = {name: v for name, v in found.values.items() if not BY_NAME[name].start}
    binds = _binds(options)
    del options["http"]  # there is only one parser
    if options["loop"] == "auto":
        options["loop"] = LOOPS[0]
    logger = None if options["log_config"] is None else ACCESS
    http = HttpConfig(**_taken(options, HttpConfig), access_logger=logger)
    tls = TlsConfig(**_taken(options, TlsConfig))
    return Config(target=found.target, binds=binds, http=http, tls=tls, **options)


def _taken(options: dict[str, Any], of: type[HttpConfig] | type[TlsConfig]) -> dict[str, Any]:
    """Take the options that are fields of this config out of `options`."""
    return {field.name: options.pop(field.name) for field in fields(of) if field.name in options}


def from_python(app: Any, given: dict[str, Any]) -> tuple[Config, Any]:
    """The config for a call with these options, and the program (None if it is given by name).
    Raises UsageError or SetupError."""
    unknown = given.keys() - {option.name for option in OPTIONS if not option.start}
    if unknown:
        raise UsageError(f"serve() has no option {', '.join(sorted(unknown))}")
    named = app if hasattr(app, "__qualname__") else type(app)
    target = app if isinstance(app, str) else f"{named.__module__}:{named.__qualname__}"
    try:
        told = sources.given({"target": target} | given)
        wanted = _config(gather(told, sources.environment(), sources.variables()))
    except (TypeError, AttributeError, ValueError) as error:  # such as a NUL in a name
        raise UsageError(f"serve(): an option has an invalid value: {error}") from None
    if wanted.reload and not isinstance(app, str):
        raise UsageError('serve(reload=True) needs the application by name: "module:attribute"')
    return wanted, None if isinstance(app, str) else app


def _binds(options: dict[str, Any]) -> tuple[Bind, ...]:
    """The addresses to serve, from whichever options give them."""
    texts = options.pop("bind")
    host, port = options.pop("host"), options.pop("port")
    path, fd = options.pop("uds"), options.pop("fd")
    ways = [bool(texts), host is not None or port is not None, path is not None, fd is not None]
    if sum(ways) > 1:
        raise UsageError(
            "--host and --port, --uds, --fd and --bind exclude each other: use one of these ways"
        )
    if ways[1]:
        host = host if host is not None else "127.0.0.1"
        port = port if port is not None else 8000
        texts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    elif path is not None:
        texts = [f"unix:{path}"]
    elif fd is not None:
        texts = [f"fd://{fd}"]
    return tuple(map(Bind.parse, texts))
