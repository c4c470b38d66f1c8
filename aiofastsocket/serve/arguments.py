"""The options of `serve` on the command line, as in uvicorn where they mean the same."""

import argparse
import os
from dataclasses import fields
from typing import Any

from ..channel import BACKENDS, STEERINGS
from ..errors import UsageError
from .asgi.options import LIFESPANS, HttpOptions
from .bind import Bind
from .config import INTERFACES, LOG_LEVELS, LOOPS, PINS, Config
from .tls import TlsOptions

# The only ones there are, under the names that uvicorn has for them.
HTTP = ("auto", "httptools")
WS = ("auto", "websockets", "websockets-sansio")


def _workers(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: use auto or a number")
    return int(text) if text != "auto" else text


def _workers_wanted(given: Any) -> int | None:
    """On the command line, or in the environment; None: auto."""
    if given is None:
        try:
            given = _workers(os.environ.get("WEB_CONCURRENCY", "auto"))
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"$WEB_CONCURRENCY is {error}") from None
    return None if given == "auto" else given


def _pairs(headers: Any) -> tuple[tuple[bytes, bytes], ...]:
    """From Python they may be text, or a dict."""
    headers = headers.items() if isinstance(headers, dict) else headers
    return tuple(
        (
            n if isinstance(n, bytes) else str(n).encode(),
            v if isinstance(v, bytes) else str(v).encode(),
        )
        for n, v in headers
    )


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as NAME:VALUE")
    return name.strip().encode(), value.strip().encode()


def add(parser: argparse.ArgumentParser) -> None:
    """Put them into the parser of `serve`."""
    _program(parser)
    _addresses(parser)
    _tls(parser)
    _workers_group(parser)
    _http(parser)
    _limits(parser)
    _service(parser)


def _program(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("program").add_argument
    parser.add_argument(
        "target",
        nargs="?",
        metavar="module:attr",
        help="an ASGI application, an asyncio.Protocol class or factory, or "
        "async def handle(reader, writer), or a WSGI application; without it, a demo over HTTP",
    )
    add("--interface", choices=INTERFACES, default="auto", help="kind of target (detected)")
    add("--factory", action="store_true", help="call the target to get the real one")
    add("--app-dir", default=".", metavar="DIR", help="where to import it from (here)")
    add("--preload", action="store_true", help="import it once, before the workers start")
    add("--reload", action="store_true", help="renew the workers when a Python file changes")
    add(
        "--reload-dir",
        action="append",
        dest="reload_dirs",
        metavar="DIR",
        help="where to look for them; may be repeated (--app-dir)",
    )
    add("--lifespan", choices=LIFESPANS, default="auto", help="ASGI's start and end (auto)")


def _addresses(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("addresses").add_argument
    add(
        "--bind",
        action="append",
        metavar="ADDRESS",
        help="host:port, [ipv6]:port, unix:path or fd://N; may be repeated; port 0 chooses one "
        "(127.0.0.1:8000)",
    )
    add("--host", help="as --bind HOST:PORT (127.0.0.1)")
    add("--port", type=int, help="as --bind HOST:PORT (8000)")
    add("--uds", metavar="PATH", help="as --bind unix:PATH")
    add("--fd", type=int, metavar="N", help="as --bind fd://N")
    add("--backlog", type=int, default=2048, metavar="N", help="queue of each listener (2048)")
    add(
        "--defer-accept",
        action=argparse.BooleanOptionalAction,
        help="accept a connection when its first bytes are there: only where the client speaks "
        "first (yes for ASGI; no where --forwarded-allow-ips tells of proxies: they connect ahead)",
    )


def _tls(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("TLS").add_argument
    add("--ssl-certfile", metavar="FILE", help="serve TLS with this certificate chain")
    add("--ssl-keyfile", metavar="FILE", help="its key, if not in the same file")
    add("--ssl-keyfile-password", metavar="TEXT", help="of the key, if it is encrypted")
    add(
        "--ssl-cert-reqs",
        type=int,
        metavar="N",
        help="clients' certificates: 0 not asked for, 1 optional, 2 required (0)",
    )
    add("--ssl-ca-certs", metavar="FILE", help="who may have signed those")
    add("--ssl-ciphers", metavar="LIST", help="of TLS 1.2, as ciphers(1) has them (Python's)")


def _workers_group(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("workers").add_argument
    add(
        "--workers",
        type=_workers,
        metavar="N|auto",
        help="auto: what cores and cgroup allow ($WEB_CONCURRENCY, auto)",
    )
    add("--slots", type=int, metavar="N", help="listeners of an address (twice the workers)")
    add("--backend", choices=BACKENDS, help="way to the kernel (auto)")
    add("--steer", choices=STEERINGS, default="auto", help="where new connections go (auto)")
    add("--pin", choices=PINS, default="auto", help="workers to cores (auto: if steered by core)")
    add("--loop", choices=("auto", *LOOPS), default="auto", help="event loop (auto: uvloop)")


def _http(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("HTTP").add_argument
    yes_or_no: Any = argparse.BooleanOptionalAction
    add("--http", choices=HTTP, default="auto", help="parser (auto: httptools)")
    add("--ws", choices=WS, default="auto", help="of WebSockets (auto: websockets-sansio)")
    add("--root-path", default="", metavar="PATH", help="where a proxy has mounted the application")
    add("--proxy-headers", action=yes_or_no, default=True, help="heed X-Forwarded-* (yes)")
    add(
        "--forwarded-allow-ips",
        metavar="LIST",
        help="from whom: addresses, networks or * ($FORWARDED_ALLOW_IPS, 127.0.0.1)",
    )
    add("--access-log", action=yes_or_no, default=True, help="a line for each response (yes)")
    add(
        "--header",
        action="append",
        type=_header,
        dest="headers",
        metavar="NAME:VALUE",
        help="in each response; may be repeated",
    )
    add("--server-header", action=yes_or_no, default=True, help="the field Server (yes)")
    add("--date-header", action=yes_or_no, default=True, help="the field Date (yes)")
    add("--ws-max-size", type=int, metavar="BYTES", help="of a WebSocket message (16777216)")
    add("--ws-ping-interval", type=float, metavar="SECONDS", help="ping after such a silence (20)")
    add("--ws-ping-timeout", type=float, metavar="SECONDS", help="close without its answer (20)")
    add("--ws-per-message-deflate", action=yes_or_no, default=True, help="compress messages (yes)")


def _limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add(
        "--limit-concurrency",
        type=int,
        metavar="N",
        help="connections, or requests under way, of a worker: more get 503 (no limit)",
    )
    add(
        "--limit-max-requests",
        type=int,
        metavar="N",
        help="of a worker: then another takes its place (no limit)",
    )
    add("--limit-request-line", type=int, metavar="BYTES", help="of its target: else 414 (8192)")
    add("--limit-request-fields", type=int, metavar="N", help="header fields: else 431 (100)")
    add("--limit-request-head", type=int, metavar="BYTES", help="of all fields: else 431 (65536)")
    add("--timeout-keep-alive", type=float, metavar="SECONDS", help="idle connections end (5)")
    add("--timeout-request-head", type=float, metavar="SECONDS", help="until a head is there (30)")
    add("--timeout-request-body", type=float, metavar="SECONDS", help="until a body goes on (60)")


def _service(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("service").add_argument
    add(
        "--timeout-graceful-shutdown",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="what open connections get after TERM or HUP (30)",
    )
    add("--user", help="run workers as this user, after binding")
    add("--group", help="run workers as this group")
    add("--pid-file", metavar="FILE", help="write the supervisor's process id here")
    add("--log-level", choices=LOG_LEVELS, default="info", help="(info)")
    add("--log-config", metavar="FILE", help="of Python's logging, .json or .ini; for all lines")


def config(options: dict[str, Any]) -> Config:
    """From what the parser found. Raises UsageError or SetupError."""
    binds = _binds(options)
    for name, known in (("http", HTTP), ("ws", WS)):
        value = options.pop(name)
        if value not in known:
            raise UsageError(f"--{name} {value!r} is not here: use {', '.join(known)}")
    if options["loop"] == "auto":
        options["loop"] = "uvloop"
    options["workers"] = _workers_wanted(options["workers"])
    http, tls = _taken(options, HttpOptions), _taken(options, TlsOptions)
    if "headers" in http:
        http["headers"] = _pairs(http["headers"])
    if options["log_config"] is not None:
        http["access_logger"] = "aiofastsocket.access"
    options["reload_dirs"] = tuple(options["reload_dirs"] or ())
    return Config(binds=binds, http=HttpOptions(**http), tls=TlsOptions(**tls), **options)


def _taken(options: dict[str, Any], of: type[HttpOptions] | type[TlsOptions]) -> dict[str, Any]:
    """Those of the options that are for it, if they were given."""
    found = {field.name: options.pop(field.name, None) for field in fields(of)}
    return {name: value for name, value in found.items() if value is not None}


def from_python(app: Any, options: dict[str, Any]) -> tuple[Config, Any]:
    """The config, and the program unless it is a name, of a call with these options. Raises
    UsageError or SetupError."""
    parser = argparse.ArgumentParser(add_help=False)
    add(parser)
    known = vars(parser.parse_args([]))
    named = app if hasattr(app, "__qualname__") else type(app)
    known["target"] = app if isinstance(app, str) else f"{named.__module__}:{named.__qualname__}"
    unknown = options.keys() - known.keys()
    if unknown:
        raise UsageError(f"serve() has no option {', '.join(sorted(unknown))}")
    if options.get("reload") and not isinstance(app, str):
        raise UsageError('serve(reload=True) needs the application by name: "module:attribute"')
    given = {name: _as_parsed(name, value) for name, value in options.items()}
    try:
        return config(known | given), None if isinstance(app, str) else app
    except (TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"serve(): a value of another type than the option's: {error}") from None


def _as_parsed(name: str, value: Any) -> Any:
    """What is natural in Python, as the command line would have it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if name == "reload_dirs" and isinstance(value, str):
        return [value]
    if name == "forwarded_allow_ips" and isinstance(value, (list, tuple)):
        return ",".join(value)
    return value


def _binds(options: dict[str, Any]) -> tuple[Bind, ...]:
    texts = options.pop("bind") or []
    texts = [texts] if isinstance(texts, str) else list(texts)
    host, port = options.pop("host"), options.pop("port")
    path, fd = options.pop("uds"), options.pop("fd")
    given = [bool(texts), host is not None or port is not None, path is not None, fd is not None]
    if sum(given) > 1:
        raise UsageError(
            "--host and --port, --uds, --fd and --bind do not go together: use one or the other"
        )
    if given[1]:
        host = host if host is not None else "127.0.0.1"
        port = port if port is not None else 8000
        texts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    elif path is not None:
        texts = [f"unix:{path}"]
    elif fd is not None:
        texts = [f"fd://{fd}"]
    return tuple(Bind.parse(text) for text in texts)
