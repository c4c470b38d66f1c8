"""Connections that were accepted by hand, from their descriptor to the end of their transport.

They count from the moment they are accepted: whoever stops then still has them to serve.
"""

import asyncio
import logging
import socket
import weakref
from collections.abc import Callable
from typing import Any, cast

from .listeners import ListenTable
from .peer import Address, Peer

logger = logging.getLogger("aiofastsocket")


class _Connection(socket.socket):
    """A socket that tells when its transport is done with it.

    asyncio's transports close the socket that they were given, uvloop's detach it: either comes
    after connection_lost, so it is known exactly which connections are still being served.
    """

    client: "Client | None" = None
    peer: Address | None = None

    def getpeername(self) -> Address:
        """What accept(2) told: after a reset, getpeername(2) tells nothing."""
        return super().getpeername() if self.peer is None else self.peer

    def detach(self) -> int:
        self._leave()
        return super().detach()

    def close(self) -> None:
        self._leave()
        super().close()

    def _leave(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            client.connections.left(client)


class Client:
    """One open connection, with what asyncio.Server asks of a transport: close() and abort()."""

    __slots__ = ("__weakref__", "connections", "failed", "task", "transport")

    def __init__(self, connections: "Connections") -> None:
        self.connections = connections
        self.task: asyncio.Task[Any] | None = None  # until there is a transport
        self.transport: Callable[[], Any] | None = None  # not to keep it alive
        self.failed = False  # no protocol could be made

    def close(self) -> None:
        """Close its transport once what is buffered is sent."""
        self._end("close")

    def abort(self) -> None:
        """Close its transport now."""
        self._end("abort")

    def _end(self, how: str) -> None:
        if self.task is not None:
            self.task.cancel()
        elif self.transport is not None:
            transport = self.transport()
            if transport is not None:
                getattr(transport, how)()

    def make_protocol(self) -> asyncio.BaseProtocol:
        """The factory's, noting if it fails: that is no client's doing."""
        self.failed = True
        protocol = self.connections.factory()
        self.failed = False
        return protocol


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
        opened: Callable[[Client], None] | None = None,
        closed: Callable[[Client], None] | None = None,
        **options: Any,
    ) -> None:
        self.open: set[Client] = set()
        self.factory = factory
        self._loop = loop
        sock = table.sock
        # With all three given, the constructor asks the kernel nothing.
        self._kind = sock.family, sock.type, sock.proto
        self._opened, self._closed = opened, closed
        self._options = {k: v for k, v in options.items() if v is not None}
        # uvloop's transports own the descriptor and ask libuv; asyncio's use the socket, and are
        # made at once, as asyncio's own servers do, but without a task.
        self._owns = not isinstance(loop, asyncio.BaseEventLoop)
        plain = not self._owns and "ssl" not in self._options
        self._make_transport: Callable[..., asyncio.BaseTransport] | None = (
            cast(Any, loop)._make_socket_transport if plain else None
        )

    def begin(self, fd: int, peer: Peer) -> None:
        """Serve a connection just accepted."""
        connection = _Connection(*self._kind, fileno=fd)
        if not self._owns:
            connection.peer = peer.address()
        client = connection.client = Client(self)
        self.open.add(client)
        if self._opened is not None:
            self._opened(client)
        if self._make_transport is not None:
            self._connect(self._make_transport, connection, client)
            return
        client.task = self._loop.create_task(
            self._loop.connect_accepted_socket(client.make_protocol, connection, **self._options)
        )
        client.task.add_done_callback(lambda task: self._connected(connection, task))

    def left(self, client: Client) -> None:
        """The connection has ended."""
        self.open.discard(client)
        if self._closed is not None:
            self._closed(client)

    def _connect(
        self, make: Callable[..., asyncio.BaseTransport], connection: _Connection, client: Client
    ) -> None:
        try:
            transport = make(connection, self.factory(), extra={"peername": connection.peer})
            client.transport = weakref.ref(transport)
        except Exception as error:
            self._failed(connection, error)

    def _connected(self, connection: _Connection, task: "asyncio.Task[Any]") -> None:
        client = connection.client
        error = None if task.cancelled() else task.exception()
        if client is None:  # over already
            return
        client.task = None
        if task.cancelled() or error is not None:
            if isinstance(error, OSError) and not client.failed:  # a failed TLS handshake, a reset
                logger.debug("connection failed: %s", error)
            elif error is not None:
                self._failed(connection, error)
            connection.close()
        elif "ssl" not in self._options:
            # uvloop drops a transport whose connection_made raised, its socket untold.
            dropped = connection.detach if self._owns else connection.close
            client.transport = weakref.ref(task.result()[0], lambda _: dropped())
        else:  # uvloop's can have no weak references; TLS's own connection_made does not raise
            transport = task.result()[0]
            client.transport = lambda: transport

    def _failed(self, connection: _Connection, error: BaseException) -> None:
        connection.close()
        self._loop.call_exception_handler(
            {"message": "connection could not be served", "exception": error}
        )
