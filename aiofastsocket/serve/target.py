"""The program to serve: import it, find out what kind it is, make its protocol factory."""

import asyncio
import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import UsageError

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
KINDS = "an asyncio.Protocol class or factory, or `async def handle(reader, writer)`"


def load(target: str, *, factory: bool = False) -> Any:
    """The object that `module:attr` names; with `factory`, what calling it returns.

    Raises UsageError if there is no such module or attribute. What the module itself raises on
    import is not caught.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise UsageError(f"target {target!r}: write it as module:attribute")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if it is the target itself, or a parent, that is missing, not what it imports.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"target {target!r}: there is no module {error.name!r}") from None
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


def detect(found: Any) -> str:
    """The kind of a target, "protocol" or "stream"; UsageError names what would be right."""
    if isinstance(found, type) and issubclass(found, asyncio.BaseProtocol):
        return "protocol"
    function = found.func if isinstance(found, functools.partial) else found
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )
    required = _required(found) if callable(found) else None
    if is_async and required == 2:
        return "stream"
    if callable(found) and not is_async and required == 0:
        return "protocol"
    hint = "; ASGI applications are not served yet" if is_async and required == 3 else ""
    raise UsageError(f"target is neither {KINDS}{hint}: choose with --interface")


def protocol_factory(found: Any, interface: str = "auto") -> ProtocolFactory:
    """Make what serves one connection. interface: "auto" detects, "protocol" or "stream" insist."""
    kind = detect(found) if interface == "auto" else interface
    if not callable(found):
        raise UsageError(f"target is not callable: --interface {kind} needs {KINDS}")
    if kind == "protocol":
        factory: ProtocolFactory = found
        return factory
    return functools.partial(_stream_protocol, found)


def _stream_protocol(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.BaseProtocol:
    # As asyncio.start_server does it.
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    return asyncio.StreamReaderProtocol(reader, handle, loop=loop)
