# cython: language_level=3
"""One connection of HTTP/1.1 (RFC 9112): its requests are answered in their order, and it goes on or
ends.

What comes is not looked at beyond a request that is not answered yet: what is pipelined waits here,
and nothing more is read meanwhile. How the bytes are cut into pieces makes no difference. LIVES says
what may come when.
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
"""socket(7), SO_LINGER: close(2) waits for nobody, tcp(7): an RST."""

cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

cdef enum:
    NO_MORE  # requests are heeded
    ALL_SENT
    GONE  # the connection, or it is somebody else's

# In the order of the enum Life.
cdef signed char[4][3] LIVES = [
    # no more, all was sent, gone
    [LAST, ENDING, OVER],
    [LAST, ENDING, OVER],
    [ENDING, ENDING, OVER],
    [OVER, OVER, OVER],
]


@cython.final
cdef class Connection(Asked):
    """The protocol of a connection. scheme: "http", or "https" over TLS. server: the address it was
    made to, if that is known."""

    comes_back = False  # a client that is sent away

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
        if self.fast is not None:  # what the transport keeps for users would stay with each
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
        # It may have closed, or only said that it sends no more: the application is told, and what
        # it answers all the same is sent. A WebSocket needs both directions.
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
        # A task that is woken at once may end all of this: so nothing comes behind it.
        self.tell_heard()

    cdef tell_heard(self):
        """Of its body."""
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

    # -- what comes --

    cdef look(self):
        """Look at what waits, and start what was asked, until something takes its time."""
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
                running = self.running  # Cython holds nothing by itself for the time of a call
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

    # -- one after the other --

    cdef rest(self):
        """Nothing is under way."""
        cdef Service service = self.service
        if self.life == OVER or self.room is not None or self.is_closing():
            return
        if self.life != GOES_ON or self.has_eof:
            self.finish(False)
        self.read_on()
        if self.life != GOES_ON or self.incoming is not None:
            return
        if self.has_begun():  # of the next one a part is here
            if self.due is not service.heads:
                self.wait_until(service.heads)
        elif self.due is None:
            self.wait_until(service.last_calls if service.draining else service.idle)

    cdef finish(self, bint more):
        """End it when the client has what was sent: a close while it still sends would reset the
        connection, and with it what it has not read yet (RFC 9112, 9.6). more: it may still send,
        although nothing here says so."""
        if self.life >= ENDING:
            return
        more |= self.incoming is not None or self.ignores
        more |= self.waiting is not None and self.at < PyBytes_GET_SIZE(self.waiting)
        more |= not self.reads  # so there may be something
        self.lives(ALL_SENT)
        self.waiting = None
        if self.has_eof or not more:
            self.end()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS says that this was all, and waits for the client to say so
            self.transport.close()
        self.wait_until(self.service.last_calls)
        self.read_on()

    cdef read_on(self):
        """Read, unless there is much that waits here already. What comes behind the last request is
        read, too: a connection that is closed with bytes unread is reset (RFC 9293, 3.6.1)."""
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
        """Send the status, if nothing else was sent, and end."""
        cdef Exchange running = self.running
        self.waiting = None
        self.lives(NO_MORE)
        if running is None and self.incoming is not None:
            self.finish(False)  # it was answered before its body came
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

    # -- what exchanges ask --

    cdef answered(self, Exchange exchange):
        self.service.answered()
        if self.running is not exchange:
            return
        self.running = None
        if not exchange.keep_alive:
            self.lives(NO_MORE)  # what is left of its body is not waited for long
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
        """The client sees it by the missing end of a chunked body, or the length that is not
        reached; without either only by a reset."""
        sock = self.transport.get_extra_info("socket")
        self.lives(NO_MORE)
        if exchange.out == OUT_BODY and not self.is_chunked and exchange.left < 0 and sock:
            with suppress(OSError):  # it is gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # -- the service's --

    def hold(self, bint held):
        """Whether nothing is read now."""
        self.held = held
        self.read_on()

    def head_expired(self):
        """A head that does not come."""
        if self.has_begun():
            self.refuse(408, "the request's head took too long")
        else:
            self.end()

    def body_expired(self):
        """A body that does not come on."""
        self.refuse(408, "the request's body took too long")

    def idle_expired(self):
        """Nobody asks any more; unless the client still reads the answer."""
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
            self.finish(False)  # it is answered: its body was for nobody


cdef object address_of(name):
    """A socket's name as scopes have it; unix(7) clients have none."""
    return name[:2] if isinstance(name, tuple) else None
