"""One TCP connection: its requests are answered in their order, and it goes on or ends."""

import asyncio
import socket
import struct
from contextlib import suppress
from contextvars import copy_context
from typing import cast

from . import wire
from .incoming import Incoming, Refused, address_of
from .request import Request
from .scope import Address
from .service import Service
from .websocket import WebSocket

_RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: close(2) waits for nobody, tcp(7): an RST


class Connection(Incoming):
    """The protocol of a connection."""

    __slots__ = (
        "_context",
        "_ending",
        "_eof",
        "_held",
        "_reading",
        "_running",
        "_starting",
        "writable",
    )
    told_while_paused = True
    comes_back = False

    def __init__(self, service: Service, scheme: str = "http", server: Address = None) -> None:
        super().__init__(service, scheme, server)
        self.writable: asyncio.Future[None] | None = None  # who waits for room, while there is none
        self._running: Request | None = None
        self._starting = False
        self._reading = True
        self._held = False
        self._ending = False
        self._eof = False

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._client = address_of(transport.get_extra_info("peername"))
        self._server = self._server or address_of(transport.get_extra_info("sockname"))
        self.service.connections.add(self)
        self._context = copy_context()  # a request is not to find what the one before has set
        self._wait_until(self.service.last_calls if self.service.draining else self.service.heads)

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.connections.discard(self)
        if self._due is not None:
            self._wait_until(None)
        self._last = True
        self._parser = None  # it refers to us: without, nobody has to look for cycles
        self._queue.clear()
        running, self._running, self._incoming = self._running, None, None
        if running is not None:
            running.disconnect()
        if self.writable is not None:
            self.resume_writing()

    def eof_received(self) -> bool:
        self._eof = True
        if self._running is None:
            return False
        # It may have closed, or only said that it sends no more: the application is told, and what
        # it answers all the same is sent.
        self._running.hang_up()
        return self._scheme == "http"

    def pause_writing(self) -> None:
        self.writable = self.service.loop.create_future()
        self.read_on()  # a client that does not read is not read on

    def resume_writing(self) -> None:
        if self.writable is not None:
            room, self.writable = self.writable, None
            room.set_result(None)
            if self._running is None:
                self._next()
            else:
                self.read_on()

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        more: bytes | None = data
        try:
            while more is not None:
                more = self._feed(more)
        except Refused as refused:
            self._refuse(refused)
        if self._running is None:
            self._next()
        elif self._incoming is not None or self._queue:
            self.read_on()

    # -- one after the other --

    def _next(self) -> None:
        """Start what has come, until something takes its time."""
        self._starting = True
        while self._queue and self.writable is None:
            what = self._queue.popleft()
            if not isinstance(what, Request):
                if isinstance(what, WebSocket):
                    self._hand_over(what)
                    return
                self.refuse(what)
                break
            self._running = what
            if self._due is self.service.heads:  # of the next one, which has time
                self._wait_until(None)
            what.start(self._context.copy())
            if self._running is not None:
                break
        self._starting = False
        if self._running is None:
            self._rest()
        elif self._incoming is not None or self._queue or not self._reading:
            self.read_on()

    def _rest(self) -> None:
        """Nothing is under way."""
        if self.transport.is_closing() or self.writable is not None:
            return
        if self._last or self._eof:
            self._finish()
            return
        if not self._reading:
            self.read_on()
        if self._due is None and self._incoming is None:
            service = self.service
            if self._begun:  # of the next one a part is here
                self._due = service.heads
            else:
                self._due = service.last_calls if service.draining else service.idle
            self._due.add(self)

    def _finish(self, more: bool = False) -> None:
        """End it when the client has what was sent: a close while it still sends would reset the
        connection, and with it what it has not read yet (RFC 9112, 9.6). more: than a body."""
        if self._ending:
            return
        self._last = self._ending = True
        sends = more or self._incoming is not None
        if not sends or self._eof:
            self.transport.close()
        else:
            if self.transport.can_write_eof():  # TLS has no such half
                self.transport.write_eof()
            self._wait_until(self.service.last_calls)
            self.read_on()

    def _hand_over(self, to: WebSocket) -> None:
        self._wait_until(None)
        self.service.connections.discard(self)
        if not self._reading:
            self.transport.resume_reading()
        self.transport.set_protocol(to)
        self._parser = None
        to.start(self._context.copy())

    def answered(self, request: Request) -> None:
        """Its response is complete. What is left of its body is not waited for long."""
        self.service.answered()
        self._running = None
        if not request.keep_alive:
            self._last = True
            self._queue.clear()
        if self._starting:
            return
        if self._queue:
            self._next()
        else:
            self._rest()

    def cut(self) -> None:
        """End it here: the response cannot be completed. The client sees that by the missing end of
        a chunked body, or the length that is not reached; without either only by a reset."""
        self._last = True
        sock = self.transport.get_extra_info("socket")
        if self._running is not None and self._running.ends_with_the_connection() and sock:
            with suppress(OSError):  # it is gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def refuse(self, refused: Refused) -> None:
        """Send the status, and end."""
        if self._running is not None:
            self._running.disconnect()
        if self.service.access is not None:
            self.service.access.refused(self._client, refused.status)
        self.transport.write(wire.plain(refused.status, self.service.common(), f"{refused}"))
        self._finish(more=True)

    def _refuse(self, refused: Refused) -> None:
        """As soon as what came before is answered."""
        self._last = True
        if self._incoming is None:
            self._queue.append(refused)
        elif self._incoming is self._running:
            if self._running.untouched():
                self.refuse(refused)
            else:
                self.cut()
        elif self._queue:  # it was not started yet
            self._queue[-1] = refused
        else:  # it was answered before its body came
            self._finish()

    def read_on(self) -> None:
        """Read, unless there is much that waits here already."""
        incoming = self._incoming
        reading = self._ending or (
            not self._queue
            and self.writable is None
            and not self._held
            and (incoming is None or not incoming.full())
        )
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
                if self._last:
                    pass
                elif incoming is not None:
                    self._wait_until(self.service.bodies)
                elif self._begun:
                    self._wait_until(self.service.heads)
            else:
                self.transport.pause_reading()
                if self._due in (self.service.bodies, self.service.heads):
                    self._wait_until(None)  # now it is us whom the client waits for

    def await_body(self) -> None:
        """The client was told to send it."""
        self._wait_until(self.service.bodies)

    def hold(self, held: bool) -> None:
        """Whether nothing is read now."""
        self._held = held
        self.read_on()

    # -- time --

    def head_expired(self) -> None:
        """A head that does not come."""
        self._due = None
        if self._begun:
            self._refuse(Refused(408, "the request's head took too long"))
            if self._running is None:
                self._next()
        else:
            self.transport.close()

    def body_expired(self) -> None:
        """A body that does not come on."""
        self._due = None
        self._refuse(Refused(408, "the request's body took too long"))

    def idle_expired(self) -> None:
        """Nobody asks any more; unless the client still reads the answer."""
        self._due = None
        if self.transport.get_write_buffer_size() and not self.transport.is_closing():
            self._wait_until(self.service.idle)
        else:
            self.transport.close()

    def drain(self) -> None:
        """See Service.drain."""
        idle = self.service.idle
        if self._due is idle:
            since = cast(float, idle.discard(self)) - idle.seconds
            self._due = None
            if self.service.loop.time() - since > self.service.last_calls.seconds:
                self.transport.close()
            else:
                self._wait_until(self.service.last_calls)
        elif self._due is self.service.heads and not self._begun:
            self._wait_until(self.service.last_calls)
        elif self._running is None and self._incoming is not None and not self._queue:
            self._finish()  # it is answered: its body was for nobody
