# cython: language_level=3
"""One connection of HTTP/1.1 (RFC 9112). It answers its requests in order, then continues or ends.

The bytes after an unanswered request are not parsed: pipelined requests wait here, and reading
pauses meanwhile. The division of the bytes into pieces makes no difference. LIVES defines the
transitions between the states of a connection.
"""

import socket
import struct
from contextlib import suppress
from contextvars import copy_context

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Copy

from aiofastsocket._native.pump cimport now_ns
from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.requests cimport *

from aiofastsocket._native.requests import Refused
from aiofastsocket._native.wire import plain

cdef bytes RESET = struct.pack("ii", 1, 0)
"""socket(7), SO_LINGER: close(2) does not wait; tcp(7): it sends an RST."""

cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

cdef enum:
    NO_MORE  # no more requests are read
    ALL_SENT
    GONE  # the connection is lost, or another protocol has it

# The rows are in the order of the enum Life.
cdef signed char[4][3] LIVES = [
    # columns: no more, all was sent, gone
    [LAST, ENDING, OVER],
    [LAST, ENDING, OVER],
    [ENDING, ENDING, OVER],
    [OVER, OVER, OVER],
]


@cython.final
cdef class Connection(Asked):
    """The protocol of a connection. scheme: "http", or "https" over TLS. server: the address that
    the client connected to, if it is known."""

    comes_back = False  # whether a client reconnects after a close

    def __init__(self, Service service not None, str scheme="http", server=None):
        self.service = service
        self.loop = service.loop
        self.scheme = scheme
        self.server = server
        self.reads = True

    # -- asyncio.Protocol --

    def connection_made(self, transport):
        """See asyncio.Protocol."""
        self.has(transport)
        if self.fast is not None:  # get_extra_info would keep its results in each transport
            self.client = address_of(self.fast.peer_name())
            self.context = self.fast.context
        else:
            self.client = address_of(transport.get_extra_info("peername"))
            self.context = copy_context()
        if self.server is None:
            self.server = address_of(transport.get_extra_info("sockname"))
        self.service.connections.add(self)
        self.wait_until(self.service.last_calls if self.service.draining else self.service.heads)

    def eof_received(self):
        """See asyncio.Protocol."""
        cdef Exchange running = self.running
        self.has_eof = True
        if running is None:
            return False
        # The client has closed, or only ended its direction. The application is told, and its
        # answer is still sent. A WebSocket needs both directions.
        running.hung_up()
        if running.is_websocket:
            return False
        return self.scheme == "http" or self.fast is not None

    def connection_lost(self, exc):
        """See asyncio.Protocol."""
        self.service.connections.discard(self)
        self.wait_until(None)
        self.lives(GONE)
        self.waiting = None
        running, self.running, self.incoming, self.heard = self.running, None, None, None
        if running is not None:
            if (<Exchange>running).untouched():
                self.service.note(running)
            (<Exchange>running).gone()
        self.wake_senders()

    def resume_writing(self):
        """See asyncio.Protocol."""
        if self.room is not None:
            self.wake_senders()
            self.look()
            self.tell_heard()

    cdef received(self, bytes data):
        if self.life != GOES_ON:
            self.ignores = True
            return
        if self.waiting is not None:
            data = self.waiting[self.at:] + data
        self.waiting = data
        self.at = 0
        self.look()
        # A task that is woken at once may end the connection, so this must come last.
        self.tell_heard()

    cdef tell_heard(self):
        """Wake the exchange that received a part of its body."""
        if self.heard is not None:
            heard, self.heard = self.heard, None
            (<Exchange>heard).wake(True)

    cdef int lives(self, int event) except -1:
        self.life = <Life>LIVES[<int>self.life][event]
        return 0

    cdef is_last(self):
        self.lives(NO_MORE)

    cdef too_much(self):
        self.finish(False)

    # -- input --

    cdef look(self):
        """Parse the waiting bytes and start requests, until one does not complete at once."""
        cdef Exchange running
        if self.looking:
            return
        self.looking = True
        try:
            while True:
                while self.life == GOES_ON and self.step():
                    pass
                if self.running is None or self.started:
                    break
                self.started = True
                running = self.running  # a reference: Cython itself holds none during a call
                running.start(PyContext_Copy(self.context))
                if self.running is not None:
                    break
        except Refused as error:
            self.refuse(error.status, str(error))
        finally:
            self.looking = False
        if self.running is None:
            self.rest()
        else:
            self.read_on()

    # -- the order of requests --

    cdef rest(self):
        """Continue or end: no request is in progress."""
        cdef Service service = self.service
        if self.life == OVER or self.room is not None or self.is_closing():
            return
        if self.life != GOES_ON or self.has_eof:
            self.finish(False)
        self.read_on()
        if self.life != GOES_ON or self.incoming is not None:
            return
        if self.has_begun():  # a part of the next head was received
            if self.due is not service.heads:
                self.wait_until(service.heads)
        elif self.due is None:
            self.wait_until(service.last_calls if service.draining else service.idle)

    cdef finish(self, bint more):
        """End the connection once the client has received all. A close while the client still
        sends would reset the connection, and the client would lose unread bytes (RFC 9112, 9.6).
        more: the client may still send, although nothing here shows it."""
        if self.life >= ENDING:
            return
        more |= self.incoming is not None or self.ignores
        more |= self.waiting is not None and self.at < PyBytes_GET_SIZE(self.waiting)
        more |= not self.reads  # so there may be unread bytes
        self.lives(ALL_SENT)
        self.waiting = None
        if self.has_eof or not more:
            self.end()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS sends close_notify and waits for the client's
            self.transport.close()
        self.wait_until(self.service.last_calls)
        self.read_on()

    cdef read_on(self):
        """Read, unless much already waits here. Bytes after the last request are read, too: a close
        with unread bytes resets the connection (RFC 9293, 3.6.1)."""
        cdef bint reads
        if self.looking or self.life == OVER:
            return
        reads = self.life == ENDING or (self.life == LAST and not self.held) or (
            self.room is None
            and not self.held
            and (self.waiting is None or self.stage != REQUEST_LINE or self.running is None)
            and (self.incoming is None or not self.incoming.is_full()))
        if reads == self.reads or self.is_closing():
            return
        self.reads = reads
        if not reads:
            self.transport.pause_reading()
            if self.due is self.service.bodies or self.due is self.service.heads:
                self.wait_until(None)  # from now on the client waits for us
            return
        self.transport.resume_reading()
        if self.life != GOES_ON:
            return
        if self.incoming is not None:
            self.wait_until(self.service.bodies)
        elif self.running is None and self.has_begun():
            self.wait_until(self.service.heads)

    cdef refuse(self, int status, str text):
        """Send the status, if nothing else was sent, and end the connection."""
        cdef Exchange running = self.running
        self.waiting = None
        self.lives(NO_MORE)
        if running is None and self.incoming is not None:
            self.finish(False)  # the request was answered before its body came
            return
        if running is not None and not running.untouched():
            self.cut(running)
            return
        if running is not None:
            self.running = None
            running.gone()
        self.service.refused(self.client, status)
        self.write(plain(status, self.service.clock.lines(), text))
        self.finish(True)

    cdef bytes hand_over(self, Receiver to):
        rest = None if self.waiting is None else self.waiting[self.at:]
        self.waiting = self.running = None
        self.lives(GONE)
        self.wait_until(None)
        self.service.connections.discard(self)
        if not self.reads:
            self.transport.resume_reading()
        self.transport.set_protocol(to)
        return rest

    # -- called by exchanges --

    cdef answered(self, Exchange exchange):
        self.service.answered()
        if self.running is not exchange:
            return
        self.running = None
        if not exchange.keep_alive:
            self.lives(NO_MORE)  # the rest of its body is not awaited for long
        if not self.looking:
            self.look()
            self.tell_heard()

    cdef taken(self):
        self.read_on()

    cdef wants_body(self, Exchange exchange):
        if exchange.expects:
            exchange.expects = False
            if exchange.untouched():
                self.write(CONTINUE)
            self.wait_until(self.service.bodies)

    cdef cut(self, Exchange exchange):
        """Cut the connection. The client notices that the end of a chunked body is missing, or that
        the length is not reached. Without either, only a reset shows it."""
        sock = self.transport.get_extra_info("socket")
        self.lives(NO_MORE)
        if exchange.out == OUT_BODY and not self.is_chunked and exchange.left < 0 and sock:
            with suppress(OSError):  # the connection is gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # -- the service's side --

    def hold(self, bint held):
        """Stop reading while `held` is set."""
        self.held = held
        self.read_on()

    def head_expired(self):
        """Refuse a request whose head is not received in time."""
        if self.has_begun():
            self.refuse(408, "the request's head took too long")
        else:
            self.end()

    def body_expired(self):
        """Refuse a request whose body is not received in time."""
        self.refuse(408, "the request's body took too long")

    def idle_expired(self):
        """End an idle connection, unless the client still reads the answer."""
        if self.transport.get_write_buffer_size() and not self.is_closing():
            self.wait_until(self.service.idle)
        else:
            self.end()

    def drain(self):
        """See Service.drain."""
        cdef Service service = self.service
        cdef double since
        if self.due is service.idle:
            since = self.due_at - service.idle.seconds
            if now_ns() * 1e-9 - since > service.last_calls.seconds:
                self.wait_until(None)
                self.end()
            else:
                self.wait_until(service.last_calls)
        elif self.due is service.heads and not self.has_begun():
            self.wait_until(service.last_calls)
        elif self.running is None and self.incoming is not None:
            self.finish(False)  # it is answered already: nothing reads its body


cdef object address_of(name):
    """A socket's name as scopes have it; unix(7) clients have none."""
    return name[:2] if isinstance(name, tuple) else None
