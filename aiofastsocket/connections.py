"""Connections that were accepted by hand, from their descriptor to the end of their transport.

For loops that cannot tell by themselves: uvloop's servers count their own connections only.
"""

import asyncio
import logging
import socket
import weakref
from collections.abc import Callable
from typing import Any

from .listeners import ListenTable, Peer

logger = logging.getLogger("aiofastsocket")


class Client:
    """One open connection, with what asyncio.Server asks of a transport: close() and abort()."""

    def __init__(self) -> None:
        self.transport: Callable[[], Any] = lambda: None  # not to keep it alive
        self.task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Close its transport once what is buffered is sent."""
        transport = self.transport()
        if transport is not None:
            transport.close()
        elif self.task is not None:
            self.task.cancel()

    def abort(self) -> None:
        """Close its transport now."""
        transport = self.transport()
        if transport is not None:
            transport.abort()
        elif self.task is not None:
            self.task.cancel()


class _Connection(socket.socket):
    """A socket that tells when its transport is done with it.

    asyncio's transports close the socket that they were given, uvloop's detach it: either comes
    after connection_lost, so it is known exactly which connections are still being served.
    """

    left: Callable[[], None] | None = None

    def detach(self) -> int:
        self._leave()
        return super().detach()

    def close(self) -> None:
        self._leave()
        super().close()

    def _leave(self) -> None:
        left, self.left = self.left, None
        if left is not None:
            left()


class Connections:
    """Serves each accepted connection with a protocol that `factory` makes.

    opened, closed: called with each Client, before its protocol is made and after its end.
    options: of loop.connect_accepted_socket (ssl and its timeouts).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: ListenTable,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        opened: Callable[[Client], None] = lambda _: None,
        closed: Callable[[Client], None] = lambda _: None,
        **options: Any,
    ) -> None:
        self.open: set[Client] = set()
        self._loop = loop
        self._table = table
        self._factory = factory
        self._opened, self._closed = opened, closed
        self._options = options

    def begin(self, fd: int, _: Peer) -> None:
        """Serve a connection just accepted."""
        # With all three given, the constructor asks the kernel nothing.
        sock = self._table.sock
        connection = _Connection(sock.family, sock.type, sock.proto, fileno=fd)
        client = Client()
        self.open.add(client)
        self._opened(client)

        def left() -> None:
            self.open.discard(client)
            self._closed(client)

        connection.left = left
        client.task = self._loop.create_task(self._connect(connection, client))
        # A task that is cancelled before it began runs nothing of its own.
        client.task.add_done_callback(lambda task: connection.close() if task.cancelled() else None)

    async def _connect(self, connection: _Connection, client: Client) -> None:
        try:
            protocol = self._factory()
            try:
                transport, _ = await self._loop.connect_accepted_socket(
                    lambda: protocol, connection, **self._options
                )
            except (TimeoutError, OSError) as error:  # a failed TLS handshake is the client's
                logger.debug("connection failed: %s", error)
                connection.close()
                return
            if connection.left is None:  # over already
                return
            if self._options.get("ssl") is None:
                # uvloop drops a transport whose connection_made raised, its socket untold.
                client.transport = weakref.ref(transport, lambda _: connection.detach())
            else:  # uvloop's can have no weak references; TLS's own connection_made does not raise
                client.transport = lambda: transport
        except Exception as error:
            connection.close()
            self._loop.call_exception_handler(
                {"message": "connection could not be served", "exception": error}
            )
        except BaseException:
            connection.close()
            raise
        finally:
            client.task = None
