"""The program to serve: import it, detect its kind, make its protocol factory."""

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
# The number of positional arguments that each kind is called with.
_ARGUMENTS = {"protocol": 0, "stream": 2, "asgi3": 3, "wsgi": 2}
_MANY = 1 << 16
# Names of the application in a module that is given alone, as in gunicorn and mod_wsgi.
_USUAL = ("application", "app")


def check_name(target: str) -> None:
    """Raise UsageError unless the target is written as module:attribute, or as a module alone."""
    module_name, colon, path = target.partition(":")
    if path.endswith(")"):
        function = f"{module_name}:{path.partition('(')[0]}"
        raise UsageError(
            f"target {target!r}: write {function} --factory, for a function without parameters"
        )
    if not colon and module_name.endswith(".py"):
        raise UsageError(f"target {target!r} is a file: write {module_name[:-3]}:attribute")
    if "" in module_name.split(".") or (colon and "" in path.split(".")):
        raise UsageError(f"target {target!r}: write it as module:attribute")


def load(target: str, *, factory: bool = False) -> Any:
    """The object that `module:attr` names, or the application of `module` alone; with `factory`,
    the result of calling it.

    Raises UsageError if there is no such module or attribute. Errors that the module itself raises
    on import are not caught.
    """
    check_name(target)
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if the target itself, or a parent, is missing, not a module that it imports.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        place = os.path.abspath(sys.path[0])
        where = "in" if os.access(place, os.X_OK) else "that this user can read in"
        raise UsageError(
            f"target {target!r}: there is no module {error.name!r} {where} {place} (--app-dir)"
        ) from None
    if not path:
        path = next((name for name in _USUAL if hasattr(found, name)), "")
    if not path:
        raise UsageError(
            f"target {target!r} has neither {' nor '.join(map(repr, _USUAL))}: write it as "
            "module:attribute"
        )
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(f"target {target!r}: {module_name!r} has no {path!r}") from None
    if factory:
        if not callable(found):
            raise UsageError(f"target {target!r}: --factory needs a callable target")
        found = found()
    return found


def _takes(function: Any) -> tuple[int, int]:
    """The fewest and the most positional arguments of a call. A callable without a known signature
    is assumed to take any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0, _MANY
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    several = [p for p in parameters if p.kind in positional]
    fewest = sum(p.default is p.empty for p in several)
    any_more = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return fewest, _MANY if any_more else len(several)


def _is_async(found: Any) -> bool:
    function = found.func if isinstance(found, functools.partial) else found
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _is_protocol(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, asyncio.BaseProtocol)


def _can_be(kind: str, found: Any) -> bool:
    """Whether the object can be called as a target of this kind."""
    if not callable(found) or (isinstance(found, type) and kind == "stream"):
        return False
    if (_is_protocol(found) and kind != "protocol") or (
        _is_async(found) and kind in ("protocol", "wsgi")
    ):
        return False
    fewest, most = _takes(found)
    return fewest <= _ARGUMENTS[kind] <= most


def _likely(found: Any) -> tuple[str, ...]:
    """The possible kinds of a callable, the likeliest first."""
    fewest, most = _takes(found)
    if isinstance(found, type):
        # The call returns an instance: PEP 3333's iterable, or an awaitable.
        is_wsgi, is_asgi = hasattr(found, "__iter__"), hasattr(found, "__await__")
        return ("protocol",) * _is_protocol(found) + ("asgi3",) * is_asgi + ("wsgi",) * is_wsgi
    if _is_async(found):
        return ("stream", "asgi3") if fewest == 2 and most < _MANY else ("asgi3", "stream")
    makes = isinstance(found, functools.partial) and _is_protocol(found.func)
    if makes or (fewest == 0 and most < _MANY):
        return ("protocol", "wsgi", "asgi3")
    return ("wsgi", "asgi3", "protocol")


def kind_of(found: Any, interface: str = "auto") -> str:
    """The kind of a target: "asgi3", "wsgi", "stream" or "protocol".

    interface: "auto" detects the kind; a given kind is accepted if the target can be called that
    way. Raises UsageError, which lists the valid targets.
    """
    if interface != "auto":
        if not _can_be(interface, found):
            raise UsageError(
                f"target is {found!r}, which --interface {interface} cannot serve: use {KINDS}"
            )
        return interface
    kinds = _likely(found) if callable(found) else ()
    for kind in kinds:
        if _can_be(kind, found):
            return kind
    hint = ""
    if _is_protocol(found):
        hint = "; it needs arguments: wrap it in a function without parameters"
    raise UsageError(f"target is {found!r}, not {KINDS}{hint}")


def protocol_factory(found: Any, kind: str) -> ProtocolFactory:
    """The factory of protocols, one per connection, for a target of kind "protocol" or "stream"."""
    if kind == "stream":
        return functools.partial(_stream_protocol, found)
    factory: ProtocolFactory = found
    return factory if isinstance(found, type) else functools.partial(_made_by, factory)


def _made_by(factory: ProtocolFactory) -> asyncio.BaseProtocol:
    made = factory()
    if isinstance(made, type):
        raise TypeError(f"target returned the class {made!r}, not a protocol: use --factory")
    return made


def _stream_protocol(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.BaseProtocol:
    # As in asyncio.start_server.
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    return asyncio.StreamReaderProtocol(reader, handle, loop=loop)
