"""The names of native/python/socket_transport.pyx that this package uses."""

import asyncio
from typing import Any

class SocketTransport(asyncio.Transport):
    _sock: Any
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...
    def unread(self, data: bytes) -> None: ...
