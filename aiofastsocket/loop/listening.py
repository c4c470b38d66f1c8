"""The common part of our two loops: it gives TCP listeners local listeners, and claims them.

It is a mixin on top of a complete loop. The loop must have asyncio's create_server in Python, that
of asyncio.BaseEventLoop. Our loop on uvloop borrows it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from ..address import address_text, is_tcp
from ..channel import Channel
from ..proc import holder_of
from ..sockopt import listens, wish
from ..table.open import open_table
from ..table.pulse import Pulse
from ..table.table import ListenTable, table_of
from .forks import Forkable
from .server import Server
from .serving import ServerSide, Serving, Waiters
from .sock_accept import Waiting, sock_accept
from .transport import (
    Pump,
    SocketTransport,
    TlsTransport,
    connections_of,
    over_tls,
    pump_for,
    send_file,
    start_tls,
)

logger = logging.getLogger("aiofastsocket")


def _reuses_addresses() -> bool:
    """Whether SO_REUSEADDR may be set, as asyncio does for a server."""
    with socket.socket() as probe:
        return wish(probe, socket.SOL_SOCKET, "SO_REUSEADDR", 1)


def _may_be_served(sock: Any) -> bool:
    """Whether the pump can serve this socket, or a new listener if it is None. Other sockets are
    left to asyncio, which may refuse them."""
    if sock is None:
        return True
    return isinstance(sock, socket.socket) and sock.fileno() >= 0 and is_tcp(sock)


class Listening(Forkable):
    """The mixin of both loops. Keyword arguments: see new_event_loop."""

    def __init__(
        self,
        *base: Any,
        backend: str | None = None,
        steer: str = "auto",
        slots: int | None = None,
    ) -> None:
        super().__init__(*base)
        self._serving: dict[int, Serving] = {}  # by the global listener's descriptor
        self._accepting: Waiting = {}
        self._own: set[ListenTable] = set()  # tables made here, so closed here
        self._pump: Pump | None = None
        try:
            self._channel = Channel(backend, steer=steer, slots=slots)
        except BaseException:
            base_loop: Any = super()
            base_loop.close()
            raise
        self._steer, self._slots = steer, slots

    # -- methods that each loop implements --

    pulse: Pulse

    def _tells_pulse(self) -> bool:
        """Whether the loop itself tells its pulse, from now on, when it waits."""
        return True

    # -- asyncio's interface --

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        reuse_port: bool | None = None,
        start_serving: bool = True,
        defer_accept: bool = False,
        **options: Any,
    ) -> asyncio.AbstractServer:
        """Like loop.create_server, but `sock` may also be a ListenTable, which stays the caller's.

        defer_accept: accept a connection only after its first bytes arrive, tcp(7)
        TCP_DEFER_ACCEPT; for protocols in which the client sends first.

        Raises ValueError for a closed table, RuntimeError for one that this loop serves already.
        """
        self._check_running_loop("create_server")
        table = self._table_for(sock)
        if isinstance(sock, ListenTable):
            sock = sock.sock
        arguments = (protocol_factory, host, port)
        options |= {"sock": sock, "reuse_port": reuse_port}
        if not _may_be_served(sock):
            create: Any = super().create_server  # type: ignore[misc]
            return cast(
                asyncio.AbstractServer,
                await create(*arguments, start_serving=start_serving, **options),
            )
        shared = table is None and (reuse_port or not await self._may_make_table(sock))
        create = asyncio.BaseEventLoop.create_server
        if sock is None and options.get("reuse_address") is None and not _reuses_addresses():
            options["reuse_address"] = False  # asyncio would set it, and fail
        server = await create(self, *arguments, start_serving=False, **options)
        server.__class__ = Server  # asyncio's create_server takes no server class
        server.slots = 0 if shared else self._slots
        server.defer_accept = defer_accept
        if start_serving:
            await server.start_serving()
        return cast(asyncio.AbstractServer, server)

    async def sock_accept(self, sock: Any) -> Any:
        """Like loop.sock_accept. From a ListenTable, or its socket, it accepts at any source."""
        table = self._table_for(sock)
        if table is None:
            return await sock_accept(cast(Any, self), self._accepting, sock)
        self._check_running_loop("sock_accept")
        waiters = self._serving.get(table.fileno())
        if waiters is None or waiters.table is not table:
            waiters = self._serving[table.fileno()] = Waiters(cast(Any, self), table)
        if not isinstance(waiters, Waiters):
            raise RuntimeError(f"{table.address} is served by a server of this loop already")
        return await waiters.accept()

    async def start_tls(self, transport: Any, *args: Any, **options: Any) -> Any:
        """Like loop.start_tls."""
        if isinstance(transport, SocketTransport | TlsTransport):
            return await start_tls(self.pump(), cast(Any, self), transport, *args, **options)
        base: Any = super()
        return await base.start_tls(transport, *args, **options)

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Like loop.sendfile."""
        if not isinstance(transport, SocketTransport | TlsTransport):
            base: Any = super()
            return cast(int, await base.sendfile(transport, file, offset, count, fallback=fallback))
        return await send_file(self, transport, file, offset, count, fallback)

    def begin_serving(self) -> None:
        """See Forkable: local listeners are claimed."""
        for serving in self._open():
            serving.begin()

    def end_serving(self) -> None:
        """See Forkable: local listeners are given up."""
        for serving in self._open():
            serving.end()

    def close(self) -> None:
        """Like asyncio's loop.close. Tables that were made here are closed."""
        base: Any = super()
        if not base.is_running():
            self._serving.clear()
            while self._own:
                self._own.pop().close()
            if self._pump is not None:
                base.remove_reader(self._pump.fileno())
                self._pump.show(0, False)
                self._pump.close()
                self._pump = None
            self._channel.close()
        base.close()

    # -- servers --

    def check_free(self, sock: socket.socket) -> None:
        """Raise RuntimeError if this loop serves the socket's table already."""
        serving = self._serving.get(sock.fileno())
        if isinstance(serving, Waiters) and serving.idle:
            self._serving.pop(sock.fileno())
            serving.end()
        elif serving is not None and not serving.table.closed:
            raise RuntimeError(f"{serving.table.address} is served by this loop already")

    def listen(
        self, sock: socket.socket, backlog: int, slots: int | None, defer_accept: bool
    ) -> None:
        """Provide a table for a server's socket: an existing one, or a new one."""
        table = self._table_for(sock)
        # Slots and connections get the options of this socket.
        wish(sock, socket.IPPROTO_TCP, "TCP_NODELAY", 1)
        if defer_accept:
            wish(sock, socket.IPPROTO_TCP, "TCP_DEFER_ACCEPT", 1)
        if table is not None:
            table.copy_options()
            return
        self._own.add(
            open_table(self._channel, sock, slots=slots, backlog=backlog, steer=self._steer)
        )

    def pump(self) -> Pump:
        """The pump that has the connections of this loop's servers."""
        if self._pump is None:
            self._pump = pump_for(self)
            self._pump.show(self.pulse.address, not self._tells_pulse())
        return self._pump

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **more: Any,
    ) -> None:
        """Called by asyncio.Server, once for each socket, to serve it."""
        if not isinstance(server, Server):  # a unix server
            args = (sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
            super()._start_serving(protocol_factory, sock, *args, **more)  # type: ignore[misc]
            return
        table = table_of(sock)
        assert table is not None
        if sslcontext is not None:
            protocol_factory = over_tls(
                self.pump(),
                cast(Any, self),
                protocol_factory,
                sslcontext,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
            )
        connections = connections_of(
            self.pump(),
            table,
            protocol_factory,
            attach=server.attach,
            detach=server.detach,
        )
        serving = ServerSide(cast(Any, self), self._channel, table, connections)
        self._serving[sock.fileno()] = serving
        serving.begin()

    def _stop_serving(self, sock: socket.socket) -> None:
        """Called by asyncio.Server, once for each socket, at its end."""
        serving = self._serving.pop(sock.fileno(), None)
        table = table_of(sock)
        if table is None or (serving is None and table.closed):
            # A unix server, one whose start failed, or one whose loop was closed before.
            getattr(super(), "_stop_serving", socket.socket.close)(sock)
            return
        if serving is not None and not table.closed:
            serving.end()
        if table in self._own:
            self._own.discard(table)
            table.close()
            sock.close()

    def _open(self) -> list[Serving]:
        return [serving for serving in self._serving.values() if not serving.table.closed]

    # -- listeners that get tables --

    def _table_for(self, sock: Any) -> ListenTable | None:
        """The table that a user's argument stands for; None if it stands for no table."""
        table = table_of(sock) if isinstance(sock, socket.socket) else sock
        if not isinstance(table, ListenTable):
            return None
        if table.closed:
            raise ValueError(f"the listen table of {table.address} is closed")
        return table

    async def _may_make_table(self, sock: Any) -> bool:
        """Whether the listener is new, or does not listen yet and belongs to this process alone."""
        if sock is None:
            return True
        if listens(sock):
            return False
        # Reading /proc takes milliseconds. The thread is not kept: the process may fork soon.
        threads = ThreadPoolExecutor(1, "aiofastsocket: holder_of")
        try:
            base: Any = self
            inode = os.fstat(sock.fileno()).st_ino
            holder = await base.run_in_executor(threads, holder_of, inode)
        finally:
            threads.shutdown(wait=False)
        if holder is not None:
            where = address_text(sock)
            logger.info("%s is shared with process %d: its table gets no slots", where, holder)
        return holder is None

    # -- mistakes --

    def _check_running_loop(self, what: str) -> None:
        self.check_thread(what)
        if cast(object, asyncio.get_running_loop()) is not self:
            raise RuntimeError(f"{what} of one loop was awaited in another")
