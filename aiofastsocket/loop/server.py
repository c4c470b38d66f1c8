"""asyncio's server on listen tables, which are made where asyncio would call listen()."""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

from ..table.table import table_of
from .transport import Connections


class Server(asyncio.Server):
    """The server that create_server of our loops returns: asyncio's own, with this class."""

    _loop: Any  # a Listening
    _sockets: list[socket.socket] | None
    _backlog: int
    _serving: bool
    _protocol_factory: Callable[[], Any]
    _ssl_context: Any
    _ssl_handshake_timeout: float | None
    _ssl_shutdown_timeout: float | None
    slots: int | None = None  # slots of new tables
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
        """Like asyncio.Server.close. Raises RuntimeError in another thread than the loop's."""
        self._loop.check_thread("Server.close")
        if not self._serving and self._sockets is not None:
            # Never started: a table's socket belongs to the table, and another server may serve it.
            self._sockets = [sock for sock in self._sockets if table_of(sock) is None]
        super().close()

    def attach(self, connections: Connections) -> None:
        """A table's first connection is open. The server is not closed before the last one ends."""
        self._attach(*_counted(connections))  # type: ignore[attr-defined]

    def detach(self, connections: Connections) -> None:
        """The last connection of a table has ended."""
        self._detach(*_counted(connections))  # type: ignore[attr-defined]


def _counted(connections: Connections) -> tuple[Any, ...]:
    """Arguments of asyncio.Server._attach: until Python 3.12 it counts clients, since 3.13 it keeps
    them. To it, all connections of a table are one client, which it can close or abort."""
    return (connections,) if sys.version_info >= (3, 13) else ()
