"""What our two loops have in common: which TCP listeners get local ones, and when they are claimed.

Everything here is on top of a loop that does the rest by itself. Mixed into one that has asyncio's
create_server in Python: asyncio.BaseEventLoop's, which uvloop's loop borrows.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from ..channel import STEERINGS, Channel, address_text
from ..errors import UsageError
from ..listeners import ListenTable, table_of
from ..table.part import pollers
from ..table.pulse import Pulse
from ..transport import Connections, Pump, Transport, connections_of, over_tls, pump_for
from .serving import ServerSide, Serving, Takers
from .shared import holder_of

logger = logging.getLogger("aiofastsocket")

_FORKED = (
    "this loop was running when its process forked: in the child make a new one "
    "(aiofastsocket.run), or fork before the loop runs"
)


class Server(asyncio.Server):
    """asyncio's server, on listen tables: they are made where asyncio would call listen()."""

    _loop: "Listening"
    _sockets: list[socket.socket] | None
    _backlog: int
    _serving: bool
    _protocol_factory: Callable[[], Any]
    _ssl_context: Any
    _ssl_handshake_timeout: float | None
    _ssl_shutdown_timeout: float | None
    slots: int | None = None  # of tables to be made
    defer_accept = False

    def _start_serving(self) -> None:
        if self._serving:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        for sock in self._sockets:
            self._loop.check_free(sock)
        self._serving = True
        try:
            for sock in self._sockets:
                self._loop.listen(sock, self._backlog, self.slots, self.defer_accept)
                self._loop._start_serving(
                    self._protocol_factory,
                    sock,
                    self._ssl_context,
                    self,
                    self._backlog,
                    self._ssl_handshake_timeout,
                    self._ssl_shutdown_timeout,
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """As asyncio.Server.close. Raises RuntimeError in another thread than the loop's."""
        self._loop.check_thread("Server.close")
        if not self._serving and self._sockets is not None:
            # Never started: a table's socket is the table's, and may be served by another server.
            self._sockets = [sock for sock in self._sockets if table_of(sock) is None]
        super().close()


def _attached(connections: Connections) -> tuple[Any, ...]:
    """Arguments of asyncio.Server._attach: until Python 3.12 it counts, then it remembers. All the
    connections of a table are one client to it, which it can close or abort as well."""
    return (connections,) if sys.version_info >= (3, 13) else ()


def _is_tcp(sock: Any) -> bool:
    """A listener that is to be made, or can be served on the pump; all else is asyncio's, which
    may refuse it."""
    if sock is None:
        return True
    if not isinstance(sock, socket.socket) or sock.fileno() < 0:
        return False
    internet = sock.family in (socket.AF_INET, socket.AF_INET6)
    return internet and sock.type == socket.SOCK_STREAM


class Listening:
    """The mixin. Keyword arguments: see new_event_loop."""

    def __init__(
        self,
        *base: Any,
        backend: str | None = None,
        steer: str = "auto",
        slots: int | None = None,
    ) -> None:
        super().__init__(*base)
        self._pid = os.getpid()
        self._thread: int | None = None  # that runs it
        self._forked_running = False
        self._serving: dict[int, Serving] = {}  # by the global listener's descriptor
        self._own: set[ListenTable] = set()  # made here, so closed here
        self._pump: Pump | None = None
        try:
            if steer not in STEERINGS:
                raise UsageError(f"steering {steer!r} is unknown: use {', '.join(STEERINGS)}")
            self._channel = Channel(backend, steer=steer, slots=slots)
        except BaseException:
            super().close()  # type: ignore[misc]
            raise
        self._steer, self._slots = steer, slots
        pollers.add(self)

    # -- forks --

    def resume_after_fork(self) -> None:
        """In a forked child, before an inherited loop runs: each loop has its own way."""

    def renew(self) -> None:
        """In a forked child, at once: see table.part.Poller."""
        base: Any = super()
        if base.is_running():
            # Whoever forks in a handler may well go on without the loop; not with it.
            self._forked_running = True
            if self._runs_here():
                base.stop()

    # -- what each loop does in its own way --

    pulse: Pulse

    def _tells_pulse(self) -> bool:
        """Whether it tells its pulse itself when it waits, from now on."""
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
        """As loop.create_server; `sock` may also be a ListenTable, which stays the caller's.

        defer_accept: accept a connection when its client's first bytes are there, tcp(7)
        TCP_DEFER_ACCEPT. Only for protocols in which the client speaks first.

        Raises ValueError for a closed table, RuntimeError for one that this loop serves already.
        """
        self._check_running_loop("create_server")
        table = self._table_for(sock)
        if isinstance(sock, ListenTable):
            sock = sock.sock
        arguments = (protocol_factory, host, port)
        options |= {"sock": sock, "reuse_port": reuse_port}
        if not _is_tcp(sock):
            create: Any = super().create_server  # type: ignore[misc]
            return cast(
                asyncio.AbstractServer,
                await create(*arguments, start_serving=start_serving, **options),
            )
        create = asyncio.BaseEventLoop.create_server
        server = await create(self, *arguments, start_serving=False, **options)
        server.__class__ = Server  # asyncio's create_server takes no server class
        shared = table is None and (reuse_port or not self._may_make_table(sock))
        server.slots = 0 if shared else self._slots
        server.defer_accept = defer_accept
        if start_serving:
            await server.start_serving()
        return cast(asyncio.AbstractServer, server)

    async def sock_accept(self, sock: Any) -> Any:
        """As loop.sock_accept; of a ListenTable, or its socket, from wherever one waits."""
        table = self._table_for(sock)
        if table is None:
            return await super().sock_accept(sock)  # type: ignore[misc]
        self._check_running_loop("sock_accept")
        takers = self._serving.get(table.fileno())
        if takers is None or takers.table is not table:
            takers = self._serving[table.fileno()] = Takers(cast(Any, self), table)
        if not isinstance(takers, Takers):
            raise RuntimeError(f"{table.address} is served by a server of this loop already")
        return await takers.accept()

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """As loop.sendfile."""
        if not isinstance(transport, Transport):
            base: Any = super()
            return cast(int, await base.sendfile(transport, file, offset, count, fallback=fallback))
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        reading = transport.is_reading()
        waiter = transport._make_empty_waiter()
        transport.pause_reading()
        try:
            await waiter
            sock = transport._sock
            if sock is None:
                raise ConnectionError("Connection is closed by peer")
            send: Any = cast(Any, self).sock_sendfile
            return cast(int, await send(sock, file, offset, count, fallback=fallback))
        finally:
            transport._reset_empty_waiter()
            if reading:
                transport.resume_reading()

    def run_forever(self) -> None:
        """As asyncio's; local listeners are claimed first, and given up after.

        Raises RuntimeError in a forked child whose parent was running the loop.
        """
        base: Any = super()
        if self._forked_running:
            raise RuntimeError(_FORKED)
        if base.is_running() or base.is_closed():
            base.run_forever()  # which says so
        if self._pid != os.getpid():
            self._pid = os.getpid()
            # The threads of the old one are the parent's.
            base.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
            self.resume_after_fork()
        self._thread = threading.get_ident()
        try:
            for serving in self._open():
                serving.begin()
            base.run_forever()
        finally:
            self._thread = None
            if not self._forked_running:
                for serving in self._open():
                    serving.end()
        if self._forked_running:
            raise RuntimeError(_FORKED)

    def close(self) -> None:
        """As asyncio's; tables that were made here are closed."""
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
        if isinstance(serving, Takers) and serving.idle:
            self._serving.pop(sock.fileno())
            serving.end()
        elif serving is not None and not serving.table.closed:
            raise RuntimeError(f"{serving.table.address} is served by this loop already")

    def listen(
        self, sock: socket.socket, backlog: int, slots: int | None, defer_accept: bool
    ) -> None:
        """Have a table for a server's socket: one that exists, or a new one."""
        table = self._table_for(sock)
        # Slots are like it, and so are connections.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if defer_accept:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        if table is not None:
            table.copy_options()
            return
        device = self._channel.backend == "device"
        if device:
            self._channel.listen(sock, backlog)
        table = ListenTable(sock, slots=0 if device else slots, backlog=backlog, steer=self._steer)
        if device:
            table.accept_through(self._channel)
        self._own.add(table)

    def pump(self) -> Pump:
        """Where the connections of this loop's servers are."""
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
        """asyncio.Server asks for it, once for each socket."""
        if not isinstance(server, Server):  # a unix server
            args = (sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout)
            super()._start_serving(protocol_factory, sock, *args, **more)  # type: ignore[misc]
            return
        table = table_of(sock)
        assert table is not None
        counting: Any = server
        if sslcontext is not None:
            protocol_factory = over_tls(
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
            attach=lambda connections: counting._attach(*_attached(connections)),
            detach=lambda connections: counting._detach(*_attached(connections)),
        )
        serving = ServerSide(cast(Any, self), self._channel, table, connections)
        self._serving[sock.fileno()] = serving
        serving.begin()

    def _stop_serving(self, sock: socket.socket) -> None:
        """asyncio.Server asks for it, once for each socket."""
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

    # -- which listeners --

    def _table_for(self, sock: Any) -> ListenTable | None:
        """The table that a user's argument stands for."""
        table = table_of(sock) if isinstance(sock, socket.socket) else sock
        if not isinstance(table, ListenTable):
            return None
        if table.closed:
            raise ValueError(f"the listen table of {table.address} is closed")
        return table

    def _may_make_table(self, sock: Any) -> bool:
        """Is the listener to be made, or not listening yet, and nobody else's?"""
        if self._channel.backend == "off":
            return False
        if sock is None:
            return True
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            if self._channel.backend == "device":
                self._channel.spawn_listen(sock)
            return False
        holder = holder_of(sock)
        if holder is not None:
            where = address_text(sock)
            logger.info("%s is shared with process %d: served as it is", where, holder)
        return holder is None

    # -- mistakes --

    def _runs_here(self) -> bool:
        return self._thread == threading.get_ident()

    def check_thread(self, what: str) -> None:
        """Raise RuntimeError if the loop runs in another thread."""
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(
                f"{what} was called in another thread than its loop's: use "
                "asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe"
            )

    def _check_running_loop(self, what: str) -> None:
        self.check_thread(what)
        if cast(object, asyncio.get_running_loop()) is not self:
            raise RuntimeError(f"{what} of one loop was awaited in another")
