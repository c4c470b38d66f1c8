"""The types of the compiled transports (native/cython), as far as this package uses them."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

class Pump:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, parse: Callable[[bytes], object]
    ) -> None: ...
    def fileno(self) -> int: ...
    def turn(self) -> None: ...
    def renew(self) -> None: ...
    def close(self) -> None: ...

class Transport(asyncio.Transport):
    _sock: Any
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...

class Connections:
    open: set[Transport]
    def __init__(
        self,
        pump: Pump,
        table: object,
        pointer: int,
        kind: tuple[int, int, int],
        factory: Callable[[], asyncio.BaseProtocol],
        context: Context,
        *,
        name: object = None,
        attach: Callable[[Connections], None] | None = None,
        detach: Callable[[Connections], None] | None = None,
        nodelay: bool = True,
    ) -> None: ...
    def take(self, slot: int, source: int, most: int) -> int: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
