"""The names of native/python/connections.pyx that this package uses."""

import asyncio
from collections.abc import Callable
from contextvars import Context

from .pump import Pump
from .socket_transport import SocketTransport

class Connections:
    open: set[SocketTransport]
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
    def show(self, part: int) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
