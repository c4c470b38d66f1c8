"""The names of native/python/tls.pyx that this package uses."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from .openssl import Buffers

class Tls:
    def __init__(
        self,
        buffers: Buffers,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.BaseProtocol] | None = None,
        *,
        handshake_timeout: float | None = None,
        shutdown_timeout: float | None = None,
        answer: Callable[[asyncio.Transport], bytes] | None = None,
        unready: set[Any] | None = None,
    ) -> None: ...
    def __call__(self) -> asyncio.Protocol: ...
    def upgrade(
        self,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[TlsTransport],
        *,
        is_client: bool,
        hostname: str | None,
    ) -> asyncio.Protocol: ...

class TlsTransport(asyncio.Transport):
    def _make_empty_waiter(self) -> asyncio.Future[None]: ...
    def _reset_empty_waiter(self) -> None: ...
    def unread(self, data: bytes) -> None: ...
