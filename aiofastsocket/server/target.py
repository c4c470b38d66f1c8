"""The program to serve: import it, find out what kind it is, make its protocol factory."""

import asyncio
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import UsageError

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
KINDS = (
    "an ASGI or WSGI application, an asyncio.Protocol class or factory, or "
    "`async def handle(reader, writer)`"
)
_PARAMETERS = {"protocol": 0, "stream": 2, "asgi3": 3, "wsgi": 2}
_ASYNC = {"protocol": False, "stream": True, "asgi3": True, "wsgi": False}


def check_name(target: str) -> None:
    """UsageError unless it is written as module:attribute."""
    module_name, _, path = target.partition(":")
    if "" in (*module_name.split("."), *path.split(".")):
        raise UsageError(f"target {target!r}: write it as module:attribute")


def load(target: str, *, factory: bool = False) -> Any:
    """The object that `module:attr` names; with `factory`, what calling it returns.

    Raises UsageError if there is no such module or attribute. What the module itself raises on
    import is not caught.
    """
    check_name(target)
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is the target itself, or a parent, that is missing, not what it imports.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        place = sys.path[0]
        where = "in" if os.access(place, os.X_OK) else "that this user may read in"
        raise UsageError(
            f"target {target!r}: there is no module {error.name!r} {where} {place} (--app-dir)"
        ) from None
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(f"target {target!r}: {module_name!r} has no {path!r}") from None
    if factory:
        if not callable(found):
            raise UsageError(f"target {target!r}: --factory needs something callable")
        found = found()
    return found


def _required(function: Any) -> int | None:
    """How many positional arguments a call must have; None if that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def _is_async(found: Any) -> bool:
    function = found.func if isinstance(found, functools.partial) else found
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _can_be(kind: str, found: Any) -> bool:
    """Whether it can be called as that kind is; what cannot be told is believed."""
    if not callable(found) or (isinstance(found, type) and kind != "protocol"):
        return False
    if not _ASYNC[kind] and _is_async(found):
        return False
    return _required(found) in (_PARAMETERS[kind], None)


def kind_of(found: Any, interface: str = "auto") -> str:
    """The kind of a target: "asgi3", "wsgi", "stream" or "protocol".

    interface: "auto" detects, a kind insists. UsageError says what would be right.
    """
    if interface != "auto":
        if not _can_be(interface, found):
            raise UsageError(
                f"target is {found!r}, which --interface {interface} cannot serve: use {KINDS}"
            )
        return interface
    if isinstance(found, type) and not issubclass(found, asyncio.BaseProtocol):
        raise UsageError(f"target is {found!r}, not {KINDS}")
    for kind in _PARAMETERS:
        if _can_be(kind, found) and _is_async(found) == _ASYNC[kind]:
            return kind
    hint = ""
    if isinstance(found, type):
        hint = ", made without arguments; wrap it in a function without parameters"
    raise UsageError(f"target is {found!r}, not {KINDS}{hint}")


def protocol_factory(found: Any, kind: str) -> ProtocolFactory:
    """Make what serves one connection of a target of kind "protocol" or "stream"."""
    if kind == "stream":
        return functools.partial(_stream_protocol, found)
    factory: ProtocolFactory = found
    return factory if isinstance(found, type) else functools.partial(_made_by, factory)


def _made_by(factory: ProtocolFactory) -> asyncio.BaseProtocol:
    made = factory()
    if isinstance(made, type):
        raise TypeError(f"target returned the class {made!r}, no protocol: use --factory")
    return made


def _stream_protocol(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.BaseProtocol:
    # As asyncio.start_server does it.
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    return asyncio.StreamReaderProtocol(reader, handle, loop=loop)
