# cython: language_level=3, auto_pickle=False
"""TLS on a transport, by Python's own ssl module, with nothing between it and the protocol.

A Layer is the protocol of the transport below, which carries records. A TlsTransport is the
transport of the protocol above. STATES defines the valid events in each state. Written data is
encrypted at the end of the turn, but only as much as the transport below can soon send.
"""

from asyncio import CancelledError
from asyncio.constants import (
    LOG_THRESHOLD_FOR_CONNLOST_WRITES, SSL_HANDSHAKE_TIMEOUT, SSL_SHUTDOWN_TIMEOUT, _SendfileMode)
from asyncio.log import logger

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

from core cimport *
from aiofastsocket._native.openssl cimport *
from aiofastsocket._native.pump cimport *

cdef double LAST_CALL_SECONDS = 1.0  # the same as for a request
cdef size_t MOST_BELOW = 64 * 1024  # bytes that are encrypted before the kernel has taken some
cdef size_t A_TURN = 256 * 1024  # bytes encrypted before others have their turn

cdef enum:
    A_RECORD
    SHOOK
    NO_TLS
    SAID_ALL
    LOST

# The rows are in the order of the enum State. -1: the event is impossible in that state.
cdef signed char[6][5] STATES = [
    # columns: a record, handshake done, no TLS, all was sent, lost
    [SHAKING, -1, REFUSED, -1, OVER],
    [SHAKING, UP, -1, -1, OVER],
    [UP, -1, -1, SHUT, OVER],
    [SHUT, -1, -1, -1, OVER],
    [-1, -1, -1, -1, OVER],
    [-1, -1, -1, -1, OVER],
]


@cython.final
cdef class Tls:
    """The state that the TLS connections of one server share.

    buffers: the loop's. context: an ssl.SSLContext. factory: of the protocols, each made when a
    handshake is over. answer: called with a transport whose client uses plain HTTP; returns the
    bytes to send. unready: the set of connections whose handshake is not over. The timeouts, in
    seconds, are asyncio's.

    Raises ValueError for an invalid timeout.
    """

    def __init__(self, Buffers buffers not None, loop, context, factory=None, *,
                 handshake_timeout=None, shutdown_timeout=None, answer=None,
                 set unready=None):
        if handshake_timeout is None:
            handshake_timeout = SSL_HANDSHAKE_TIMEOUT
        if shutdown_timeout is None:
            shutdown_timeout = SSL_SHUTDOWN_TIMEOUT
        for name, seconds in (("handshake", handshake_timeout), ("shutdown", shutdown_timeout)):
            if seconds <= 0:
                raise ValueError(
                    f"ssl_{name}_timeout should be a positive number, got {seconds}")
        self.buffers, self.loop = buffers, loop
        self.context, self.factory = context, factory
        self.answer, self.unready = answer, unready
        self.handshakes = Deadlines(loop, handshake_timeout, Layer.handshake_expired)
        self.last_calls = Deadlines(
            loop, min(LAST_CALL_SECONDS, handshake_timeout), Layer.handshake_expired)
        self.shutdowns = Deadlines(loop, shutdown_timeout, Layer.shutdown_expired)

    def __call__(self):
        """Make the protocol of a new connection."""
        cdef Layer layer = Layer.__new__(Layer)
        layer.tls = self
        return layer

    def upgrade(self, protocol, waiter, *, bint is_client, hostname):
        """Make the protocol of a connection that already has one: for start_tls.

        waiter: a future, which gets the TlsTransport; its reading is paused.
        """
        cdef Layer layer = self()
        layer.protocol, layer.waiter = protocol, waiter
        layer.is_client, layer.hostname = is_client, hostname
        return layer


@cython.final
cdef class Layer(Secured):
    """The protocol of the transport below."""

    # -- asyncio.Protocol --

    def connection_made(self, transport):
        """See asyncio.Protocol."""
        if self.state == OVER:  # start_tls: the connection was lost before
            return
        self.below = transport
        if self.tls.unready is not None:
            self.tls.unready.add(self)
        self.wait_until(self.tls.handshakes)
        if self.is_client:
            self.shake(b"")

    def eof_received(self):
        """See asyncio.Protocol."""
        if self.state < UP:
            self.failure = ConnectionResetError("the client closed the connection")
            self.failed("SSL handshake failed")
        elif self.state == REFUSED or self.state == OVER:
            return False
        else:
            self.look()
            if self.is_held():
                self.eof_waits = True
            else:
                self.end_of_input()
        return True

    def connection_lost(self, exc):
        """See asyncio.Protocol."""
        cdef TlsTransport above = self.above
        self.happens(LOST)
        self.ready()
        self.eof_waits = False
        self.waiting = self.above = None
        if self.waiter is not None:
            self.tls.shutdowns.clear()  # they belong to this connection alone
            if not self.waiter.done():
                self.waiter.set_exception(exc or ConnectionResetError("the connection is closed"))
        if above is None:
            protocol, self.protocol = self.protocol, None
            if protocol is not None:  # start_tls has failed: it already had the connection
                protocol.connection_lost(exc)
            return
        protocol = above.protocol
        above.closing = above.gone = True
        above.protocol = above.receiver = above.head = above.rest = above.kept = None
        above.size = 0
        above.tell_empty()
        protocol.connection_lost(exc)

    def pause_writing(self):
        """See asyncio.Protocol. There is nothing to do: encrypt() checks the buffer below."""

    def resume_writing(self):
        """See asyncio.Protocol."""

    cdef received(self, bytes data):
        if self.waiting is not None:
            data = self.waiting[self.at:] + data
        self.waiting = data
        self.at = 0
        self.look()

    cdef bint has_work(self) noexcept:
        return self.wants or (
            self.above is not None and self.above.receiver is not None
            and self.above.receiver.has_work())

    cdef work(self):
        cdef TlsTransport above = self.above
        if above is not None and above.receiver is not None and above.receiver.has_work():
            above.receiver.work()
        self.wants = False
        if self.tls.buffers.busy:
            self.later()
            return
        if above is not None and not self.is_held() and (
                above.kept is not None or self.waiting is not None or self.eof_waits):
            PyContext_Enter(self.below.context)
            try:
                above.deliver_kept()
                self.look()
                if self.eof_waits and not self.is_held():
                    self.eof_waits = False
                    self.end_of_input()
            finally:
                PyContext_Exit(self.below.context)
        self.go_on()

    cdef bint is_held(self) noexcept:
        """Whether input must wait until the protocol resumes reading."""
        return self.above is not None and self.above.reading_paused and not self.above.closing

    cdef sent(self):
        cdef TlsTransport above = self.above
        if above is not None:
            self.go_on()
            if above.receiver is not None:
                above.receiver.sent()

    cdef int happens(self, int event) except -1:
        cdef int state = STATES[<int>self.state][event]
        assert state >= 0, (self.state, event)
        self.state = <State>state
        return 0

    cdef later(self):
        """Have `work` called before the turn ends."""
        self.wants = True
        self.below.mark()

    # -- in --

    cdef look(self):
        """Take the waiting bytes, record by record, until the rest must wait."""
        if self.looking:
            return
        if self.tls.buffers.busy:
            self.later()
            return
        self.looking = True
        try:
            while self.waiting is not None and self.below.pump.pump is not NULL and self.step():
                pass
        except BaseException:  # the loop ends; if it runs again, the rest follows
            self.later()
            raise
        finally:
            self.looking = False

    cdef bint step(self) except -1:
        cdef bytes data = self.waiting
        cdef const char *at = PyBytes_AS_STRING(data) + self.at
        cdef Py_ssize_t left = PyBytes_GET_SIZE(data) - self.at
        cdef Py_ssize_t size, taken = 0
        if left == 0 or self.state >= REFUSED or (self.state >= UP and self.above is None):
            self.waiting = None
            return False
        if self.is_held():
            return False
        size = record_size(<const unsigned char *>at, left)
        if size < 0:
            if self.state == SILENT and self.not_tls(at, left):
                return False
            size = left  # OpenSSL rejects the bytes, and answers with an alert
        if size == 0:
            return False
        if self.state < UP:  # a flight of messages is one or more records
            while size > 0:
                taken += size
                if taken == left:
                    break
                size = record_size(<const unsigned char *>at + taken, left - taken)
                if size < 0:
                    size = left - taken
        else:
            taken = size
        if taken < PyBytes_GET_SIZE(data):
            data = PyBytes_FromStringAndSize(at, taken)
        self.at += taken
        if self.state < UP:
            self.shake(data)
        else:
            self.decrypt(data, taken)
        return True

    cdef bint not_tls(self, const char *data, Py_ssize_t size) except -1:
        """Answer a client that uses plain HTTP, and wait until it has read the answer."""
        if self.tls.answer is None or not fs_http_may_begin(data, size):
            return False
        self.happens(NO_TLS)
        self.waiting = None
        self.below.send(self.tls.answer(self.below))
        self.below.write_eof()
        return True

    cdef shake(self, bytes records):
        """Handle received records of the handshake."""
        cdef Py_ssize_t unread
        self.happens(A_RECORD)
        if self.ssl is None:
            self.buffers = self.tls.buffers
        unread = self.shaken(self.tls.context, records, not self.is_client, self.hostname)
        if self.failure is not None:
            self.failed("SSL handshake failed")
        elif unread >= 0 and self.state == SHAKING:
            self.at -= unread
            self.happens(SHOOK)
            self.up()

    cdef up(self):
        """The handshake is over."""
        cdef TlsTransport above = TlsTransport.__new__(TlsTransport)
        self.ready()
        above.layer, above.below = self, self.below
        above.pump, above.loop = self.below.pump, self.below.loop
        above.context = self.below.context
        above.waited = self.below.waited
        above.waits = True
        if self.waiter is not None:
            above.use(self.protocol)
            self.protocol, self.above = None, above
            above.pause_reading()
            if not self.waiter.done():
                self.waiter.set_result(above)
            return
        try:
            protocol = self.tls.factory()
            above.use(protocol)
        except BaseException as exc:
            self.below.force_close(exc if isinstance(exc, Exception) else None)
            is_fatal(exc)
            self.below.report("connection could not be served", exc)
            return
        self.above = above
        try:
            protocol.connection_made(above)
        except BaseException as exc:
            is_fatal(exc)
            above.report("Fatal error: protocol.connection_made() call failed.", exc)

    cdef ready(self):
        """End the wait for the handshake."""
        self.wait_until(None)
        if self.waiter is not None:
            self.tls.handshakes.clear()  # they belong to this connection alone
        if self.tls.unready is not None:
            self.tls.unready.discard(self)

    cdef decrypt(self, bytes record, Py_ssize_t size):
        cdef TlsTransport above = self.above
        cdef bytes plain
        if above is None or self.has_eof:
            return
        plain = self.opened(record, size)
        if self.failure is not None:
            self.failed("Fatal error on SSL protocol")
        elif plain is None:
            if above.size > 0:  # the output may have waited for this record
                self.later()
        elif PyBytes_GET_SIZE(plain) == 0:
            self.end_of_input()
        elif not above.closing:
            above.deliver(plain)

    cdef end_of_input(self):
        """The client sends no more, with or without a close_notify. The protocol itself must detect
        truncated data."""
        cdef TlsTransport above = self.above
        if self.has_eof or above is None:
            if above is not None and above.closing and self.state == SHUT:
                self.below.close()
            return
        self.has_eof = True
        if self.state == SHUT:
            self.below.close()
            return
        if above.closing:
            return
        try:
            keep_open = above.protocol.eof_received()
        except BaseException as exc:
            is_fatal(exc)
            above.fatal("Error calling eof_received()", exc)
            return
        if keep_open and above.receiver is None:  # RFC 8446, 6.1 has half-close; asyncio has not
            logger.warning("returning true from eof_received() has no effect when using ssl")
            keep_open = False
        if not keep_open:
            above.close()

    # -- out --

    cdef go_on(self):
        """Continue to send, and shut down after the last byte."""
        cdef TlsTransport above = self.above
        if above is None:
            return
        if self.tls.buffers.busy:
            self.later()
            return
        self.encrypt()
        if above.closing and not above.gone and above.size == 0 and self.state == UP:
            self.shut()
        above.maybe_resume_writing()
        if above.unsent() == 0:
            above.tell_empty()

    cdef encrypt(self):
        cdef TlsTransport above = self.above
        cdef size_t done = 0, size
        if self.state != UP:
            return
        while above.size > 0 and not self.below.closing and self.below.unsent() < MOST_BELOW:
            if done >= A_TURN:
                self.later()
                break
            size = self.sealed(above)
            if self.failure is not None:
                self.failed("Fatal error on SSL protocol")
            if size == 0:  # or OpenSSL needs input from the client first
                break
            done += size

    cdef shut(self):
        """All was sent: send close_notify (RFC 8446, 6.1). Then wait for the client's, unless the
        client has ended or the protocol does not wait."""
        self.take_leave()
        self.happens(SAID_ALL)
        if self.has_eof or not self.above.waits:
            self.below.close()
        elif self.above.reading_paused:
            self.below.resume_reading()

    cdef reply(self, bytes records):
        self.below.send(records)

    cdef broken(self, exc):
        self.below.force_close(exc)

    cdef failed(self, str message):
        exc, self.failure = self.failure, None
        if isinstance(exc, OSError):
            if self.tls.loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=exc)
        elif not isinstance(exc, CancelledError):
            self.below.report(message, exc)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(exc)
        self.below.force_close(exc)

    # -- during the handshake --

    comes_back = False

    def drain(self):
        """See Service.drain. A handshake gets little time; its protocol drains once it is made."""
        if self.state < UP:
            self.wait_until(self.tls.last_calls)

    # -- time --

    def handshake_expired(self):
        """The handshake takes too long."""
        if self.state == REFUSED:
            self.below.force_close(None)
            return
        self.failure = ConnectionAbortedError(
            f"SSL handshake is taking longer than {self.tls.handshakes.seconds:g} seconds: "
            "aborting the connection")
        self.failed("SSL handshake failed")

    def shutdown_expired(self):
        """Abort if the client makes no progress. One that still reads gets more time."""
        cdef size_t left = self.above.unsent() if self.above is not None else 0
        if left > 0 and left != self.left_before:
            self.left_before = left
            self.wait_until(self.tls.shutdowns)
        else:
            self.below.force_close(TimeoutError("SSL shutdown timed out"))


@cython.final
cdef class TlsTransport(Transport):
    """The equivalent of asyncio's transport over TLS."""

    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.FALLBACK

    def __repr__(self):
        state = "closed" if self.gone else "closing" if self.closing else "open"
        return f"<aiofastsocket.TlsTransport {state} on {self.below!r}>"

    def get_extra_info(self, name, default=None):
        """'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression'; the others are those of
        the transport below. The SSL object is for queries, not for reading."""
        if name == "sslcontext":
            return self.layer.tls.context
        if name == "ssl_object":
            return self.layer.ssl
        if name == "peercert":
            return self.layer.ssl.getpeercert()
        if name == "cipher":
            return self.layer.ssl.cipher()
        if name == "compression":
            return self.layer.ssl.compression()
        return self.below.get_extra_info(name, default)

    def close(self):
        """Stop reading; send the buffer and close_notify; wait for the client's close_notify."""
        if not self.closing:
            self.closing = True
            self.layer.left_before = self.unsent()
            self.layer.wait_until(self.layer.tls.shutdowns)
            self.layer.later()

    cdef leave(self):
        self.waits = False
        if self.layer.state == SHUT:
            self.below.close()
        else:
            self.close()

    def pause_reading(self):
        """See Transport."""
        if not self.closing and not self.reading_paused:
            self.reading_paused = True
            self.below.pause_reading()

    def resume_reading(self):
        """See Transport."""
        if not self.closing and self.reading_paused:
            self.reading_paused = False
            self.below.resume_reading()
            self.layer.later()

    def write_eof(self):
        """Raises NotImplementedError: asyncio's TLS has no half-close."""
        raise NotImplementedError

    def can_write_eof(self):
        """Return False: write_eof() is not supported."""
        return False

    cdef mark(self):
        if not self.gone:
            self.layer.later()

    cdef force_close(self, exc):
        if not self.gone:
            if self.size > 0:
                self.push()  # asyncio would have sent it in write()
            self.closing = self.gone = True
            self.head = self.rest = None
            self.size = 0
            self.below.force_close(exc)

    cdef send(self, bytes data):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if self.closing:
            self.writes_for_nothing += 1
            if self.writes_for_nothing == LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning("SSL connection is closed")
            return
        if size == 0:
            return
        self.queue(data)
        self.layer.later()
        if self.size >= MOST_PLAIN and self.pump.runs_here() and not self.layer.tls.buffers.busy:
            self.layer.encrypt()
        self.maybe_pause_writing()

    cdef push(self):
        if (self.layer.above is not None and not self.layer.tls.buffers.busy
                and self.pump.runs_here()):
            self.layer.encrypt()
            self.below.push()

    cdef size_t unsent(self) noexcept:
        return self.size + self.below.unsent()

    cdef object peer_name(self):
        return self.below.peer_name()

    cdef deliver_kept(self):
        data, self.kept = self.kept, None
        if data is not None and not self.closing:
            self.deliver(data)
