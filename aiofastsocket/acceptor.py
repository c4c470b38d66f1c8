"""Accepting from a listen table on behalf of one worker, and handing connections to its loop.

Rules: it watches the worker's own slot, and every slot that somebody served once and nobody serves
now, so that a dead worker's queue does not wait for its successor. It works on any asyncio loop;
it does not know where workers come from or when they end.
"""

import asyncio
import errno
import logging
import socket
import ssl
import weakref
from collections.abc import Callable

from .listeners import GLOBAL, ListenTable

logger = logging.getLogger("aiofastsocket")

# Connections taken in one turn of the loop: what is taken is lost if the process dies, and the
# connections that are served already wait meanwhile.
BURST = 32

# accept(2): errors of the network of a connection that never was; the next one may be fine.
_PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    }
)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RETRY_SECONDS = 1.0  # as asyncio's own ACCEPT_RETRY_DELAY


class _Connection(socket.socket):
    """A socket that leaves `connections` when its transport is done with it.

    asyncio's transports close the socket that they were given, uvloop's detach it: either comes
    after connection_lost, so the set tells exactly which connections are still being served.
    """

    connections: "set[_Connection]"
    transport: "weakref.ref[asyncio.BaseTransport] | None" = None

    def serve_by(self, transport: asyncio.BaseTransport) -> None:
        # uvloop drops a transport whose connection_made raised without a word to its socket.
        self.transport = weakref.ref(transport, lambda _: self.detach())

    def detach(self) -> int:
        self._leave()
        return super().detach()

    def close(self) -> None:
        self._leave()
        super().close()

    def _leave(self) -> None:
        self.transport = None
        self.connections.discard(self)


class Acceptor:
    """Accepts from `table` as the worker that serves `slot`. Use from the loop's thread only.

    factory: makes an asyncio protocol for each connection. ssl: a server's SSLContext, or None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: ListenTable,
        slot: int,
        factory: Callable[[], asyncio.BaseProtocol],
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        self.table = table
        self.connections: set[_Connection] = set()
        self._loop = loop
        self._slot = slot
        self._factory = factory
        self._ssl = ssl
        self._watched: dict[int, int] = {}  # source -> descriptor
        self._tasks: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._told_exhausted = False
        self._stopped = False

    def sync(self) -> None:
        """Watch what is to be watched now: called to start, and whenever claims changed.

        While all stop, a sibling that died leaves its queue to those who still accept.
        """
        if self._stopped or self._retry is not None:
            return
        wanted = {GLOBAL}
        if not self.table.info().shared:
            orphans = {s.slot for s in self.table.slots() if s.used and s.pid == 0}
            wanted = {self._slot} | orphans
        for source in self._watched.keys() - wanted:
            self._loop.remove_reader(self._watched.pop(source))
        for source in wanted - self._watched.keys():
            fd = self.table.fileno(source)
            self._watched[source] = fd
            self._loop.add_reader(fd, self._accept, source)

    def sweep(self) -> None:
        """Accept once more what waits at the own slot."""
        source = GLOBAL if self.table.info().shared else self._slot
        self._accept(source)

    def idle(self) -> bool:
        """Nothing waits at what is to be watched; False while accepting pauses."""
        return self._retry is None and not any(map(self.table.queued, self._watched))

    def stop(self) -> None:
        """Accept no more, whatever claims become; connections go on."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._watch_nothing()

    def _watch_nothing(self) -> None:
        for fd in self._watched.values():
            self._loop.remove_reader(fd)
        self._watched.clear()

    def _accept(self, source: int) -> None:
        for _ in range(BURST):
            try:
                fd = self.table.accept(self._slot, source)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                raise
            self._begin(fd)

    def _begin(self, fd: int) -> None:
        # With all three given, the constructor asks the kernel nothing.
        sock = self.table.sock
        connection = _Connection(sock.family, sock.type, sock.proto, fileno=fd)
        connection.connections = self.connections
        self.connections.add(connection)
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: _Connection) -> None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                self._factory, connection, ssl=self._ssl
            )
            # TLS is a protocol itself, whose connection_made does not raise.
            if self._ssl is None and connection in self.connections:
                connection.serve_by(transport)
        except (TimeoutError, OSError) as error:  # a failed TLS handshake is the client's
            logger.debug("connection failed: %s", error)
            connection.close()
        except Exception as error:
            connection.close()
            self._loop.call_exception_handler(
                {"message": "connection could not be served", "exception": error}
            )
        except BaseException:
            connection.close()
            raise

    def _pause(self, error: OSError) -> None:
        """Out of descriptors or memory: what waits in the queue is not lost, try again later."""
        if not self._told_exhausted:
            self._told_exhausted = True
            logger.error("accepting pauses for %g s at a time: %s", RETRY_SECONDS, error)
        self._watch_nothing()
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self.sync()
