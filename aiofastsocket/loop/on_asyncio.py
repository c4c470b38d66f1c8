"""Our loop on asyncio's: asyncio.SelectorEventLoop with FastsocketSelector."""

import asyncio
import signal
import socket
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, cast

from ..listeners import ListenTable, Peer
from ..selector import FastsocketSelector
from .listening import Listening


class SelectorLoop(Listening, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """asyncio.SelectorEventLoop with local listeners. Arguments: see new_event_loop."""

    _selector: FastsocketSelector
    _csock: socket.socket
    _signal_handlers: dict[int, asyncio.Handle]

    def __init__(self, **options: Any) -> None:
        super().__init__(FastsocketSelector(), **options)

    def add_listener(self, fd: int, callback: Callable[..., object], *args: Any) -> None:
        """See ListenLoop."""
        handle = asyncio.Handle(callback, args, self)
        self._selector.register_listener(fd, (handle, None))

    def when_listening(self, callback: Callable[[], object]) -> None:
        """See ListenLoop."""
        callback()

    def serve_with(
        self, server: Any, table: ListenTable, factory: Callable[[], Any], options: dict[str, Any]
    ) -> Callable[[int, Peer], None]:
        """See Listening: as asyncio's selector loop goes on after its own accept()."""
        loop, sock = cast(Any, self), table.sock
        context = options["ssl"]
        # asyncio's own defaults, if none are given.
        timeouts = {k: v for k, v in options.items() if k != "ssl" and v is not None}

        async def connect(connection: socket.socket, extra: dict[str, Any]) -> None:
            await loop._accept_connection2(factory, connection, extra, context, server, **timeouts)
            # If no transport could be made, asyncio leaves the socket to the garbage collector.
            if connection.fileno() >= 0 and connection.fileno() not in loop._transports:
                connection.close()

        def serve(fd: int, peer: Peer) -> None:
            address = peer.address()
            connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
            connection.setblocking(False)  # as it is; the object has to know
            if self.get_debug():
                logger.debug("%r got a new connection from %r: %r", server, address, connection)
            self.create_task(connect(connection, {"peername": address}))

        return serve

    def renew(self) -> None:
        """See local.Poller."""
        super().renew()
        if self.is_running():
            # What is ready now is the parent's to do.
            for handle in cast(Any, self)._ready:
                handle.cancel()

    def resume_after_fork(self) -> None:
        """See Listening: wake-ups and signals of parent and child must not mix."""
        loop = cast(Any, self)
        loop._close_self_pipe()
        loop._make_self_pipe()
        if self._signal_handlers:
            signal.set_wakeup_fd(self._csock.fileno())
