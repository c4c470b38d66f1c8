# cython: language_level=3, nonecheck=True, auto_pickle=False
"""A transport as its protocol sees it: asyncio.Transport's interface, for any carrier of the bytes.

socket_transport.pyx carries the bytes on a socket. tls.pyx carries them by TLS on another
transport.
"""

from asyncio import BufferedProtocol, Protocol

from cpython.buffer cimport (
    PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from libc.string cimport memcpy

cdef size_t HIGH_WATER = 64 * 1024


cdef class Receiver:
    """A compiled protocol, which is called without Python in between."""

    cdef received(self, bytes data):
        """See asyncio.Protocol.data_received."""

    cdef bint has_work(self) noexcept:
        """Whether `work` must be called before the turn ends."""

    cdef work(self):
        """Do work that was put off. It may write."""

    cdef sent(self):
        """The kernel took some or all of the written data."""


cdef class Transport(Watched):
    """The delivery of input, the buffer of output, and flow control."""

    def __cinit__(self):
        self.fd = -1
        self.waited = -1
        self.high, self.low = HIGH_WATER, HIGH_WATER // 4

    def __init__(self):
        raise TypeError("transports are made by servers")

    # -- asyncio.BaseTransport --

    def is_closing(self):
        """Whether close() or abort() was called, or the connection is over."""
        return self.closing

    def abort(self):
        """Close now; what the kernel has not taken is lost."""
        self.force_close(None)

    def set_protocol(self, protocol):
        """Change the protocol, as in asyncio, at any time."""
        self.use(protocol)
        if self.watched:
            self.mark()

    def get_protocol(self):
        """The protocol; None after connection_lost."""
        return self.protocol

    # -- asyncio.ReadTransport --

    def is_reading(self):
        """Whether data_received may be called."""
        return not self.closing and not self.reading_paused

    def pause_reading(self):
        """Do not call data_received until resume_reading."""
        if not self.closing and not self.reading_paused:
            self.reading_paused = True
            self.mark()

    def resume_reading(self):
        """Resume reading. Data that came meanwhile is delivered in the loop's next turn."""
        if not self.closing and self.reading_paused:
            self.reading_paused = False
            self.mark()

    # -- asyncio.WriteTransport --

    def write(self, data):
        """Send bytes, a bytearray or a memoryview; it never blocks.

        Raises TypeError for anything else, RuntimeError after write_eof.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        # The caller may change a buffer that is not bytes.
        self.send(data if type(data) is bytes else bytes(data))

    def writelines(self, list_of_data):
        """write() each. If one has no buffer, raises TypeError and writes none."""
        for data in [d if type(d) is bytes else bytes(memoryview(d)) for d in list_of_data]:
            self.write(data)

    def get_write_buffer_size(self):
        """Bytes written that the kernel has not taken yet."""
        return self.unsent()

    def get_write_buffer_limits(self):
        """(low, high): see set_write_buffer_limits."""
        return self.low, self.high

    def set_write_buffer_limits(self, high=None, low=None):
        """Call pause_writing above `high` bytes, and resume_writing at `low` or below."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = high, low
        self.maybe_pause_writing()

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol_paused(self):
        return self.writing_paused

    def _force_close(self, exc):
        self.force_close(exc)

    def unread(self, data):
        """Deliver bytes again that the protocol did not use: before start_tls."""
        self.mark()
        self.kept = data if self.kept is None else data + self.kept

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.empty_waiter = self.loop.create_future()
        if self.unsent() == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    # -- defined by the carrier --

    cdef force_close(self, exc):
        """See abort. connection_lost gets the exception."""

    cdef send(self, bytes data):
        """See write."""

    cdef push(self):
        """Send as much as the kernel takes now, because the turn may end much later."""

    cdef leave(self):
        """close(), for a protocol that knows that the client has nothing more to send."""
        self.close()

    cdef size_t unsent(self) noexcept:
        """Bytes written that the kernel has not taken yet."""
        return self.size

    cdef object peer_name(self):
        """The client's address."""

    # -- in --

    cdef use(self, protocol):
        self.receiver = protocol if isinstance(protocol, Receiver) else None
        self.buffered = self.receiver is None and (isinstance(protocol, BufferedProtocol) or (
            self.pump.duck and not isinstance(protocol, Protocol)
            and hasattr(protocol, "get_buffer")))
        self.protocol = protocol

    cdef deliver(self, bytes data):
        """Deliver bytes to the protocol, or keep them until it resumes reading."""
        cdef Receiver receiver = self.receiver  # held: it may hand the transport on
        if self.reading_paused:
            self.kept = data
        elif self.buffered:
            self.feed(data)
        else:
            try:
                if receiver is not None:
                    receiver.received(data)
                else:
                    self.protocol.data_received(data)
            except BaseException as exc:
                is_fatal(exc)
                self.fatal("Fatal error: protocol.data_received() call failed.", exc)

    cdef feed(self, bytes data):
        """Copy bytes that were already received into the protocol's buffers."""
        cdef Py_ssize_t done = 0, count
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_buffer room
        try:
            while done < size and not self.closing and self.pump.pump is not NULL:
                if self.reading_paused or not self.buffered:
                    self.deliver(data[done:])
                    return
                if not self.get_buffer(size - done, &room):
                    return
                count = min(size - done, room.len)
                memcpy(room.buf, PyBytes_AS_STRING(data) + done, count)
                PyBuffer_Release(&room)
                done += count
                self.buffer_updated(count)
        except BaseException:  # the loop ends; if it runs again, the rest follows
            if done < size:
                self.mark()
                self.kept = data[done:]
            raise

    cdef bint get_buffer(self, Py_ssize_t hint, Py_buffer *room) except -1:
        """Get the protocol's buffer, which must be released. False: an error."""
        try:
            PyObject_GetBuffer(self.protocol.get_buffer(hint), room, PyBUF_WRITABLE)
            if room.len == 0:
                PyBuffer_Release(room)
                raise RuntimeError("get_buffer() returned an empty buffer")
        except BaseException as exc:
            is_fatal(exc)
            self.fatal("Fatal error: protocol.get_buffer() call failed.", exc)
            return False
        return True

    cdef buffer_updated(self, Py_ssize_t count):
        try:
            self.protocol.buffer_updated(count)
        except BaseException as exc:
            is_fatal(exc)
            self.fatal("Fatal error: protocol.buffer_updated() call failed.", exc)

    cdef fatal(self, message, exc):
        if not isinstance(exc, OSError):  # a client that disconnected is not reported
            self.report(message, exc)
        self.force_close(exc)

    cdef report(self, message, exc):
        self.loop.call_exception_handler({
            "message": message, "exception": exc, "transport": self, "protocol": self.protocol})

    # -- out --

    cdef queue(self, bytes data):
        """Add data to the buffer of output."""
        if self.head is None:
            self.head = data
        elif self.rest is None:
            self.rest = [data]
            self.cursor = 0
        else:
            self.rest.append(data)
        self.size += PyBytes_GET_SIZE(data)

    cdef tell_empty(self):
        """Tell sendfile that all was sent, or that nothing will be."""
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)

    cdef maybe_pause_writing(self):
        if self.unsent() > self.high and not self.writing_paused and not self.gone:
            self.writing_paused = True
            try:
                self.protocol.pause_writing()
            except BaseException as exc:
                is_fatal(exc)
                self.report("protocol.pause_writing() failed", exc)

    cdef maybe_resume_writing(self):
        if self.writing_paused and self.unsent() <= self.low:
            self.writing_paused = False
            PyContext_Enter(self.context)
            try:
                self.protocol.resume_writing()
            except BaseException as exc:
                is_fatal(exc)
                self.report("protocol.resume_writing() failed", exc)
            finally:
                PyContext_Exit(self.context)

    cdef consume(self, size_t sent):
        """Remove `sent` bytes from the buffer: the kernel took them."""
        cdef size_t length
        self.size -= sent
        sent += self.offset
        while self.head is not None:
            length = PyBytes_GET_SIZE(self.head)
            if sent < length:
                break
            sent -= length
            self.head = None
            if self.rest is not None:
                self.head = self.rest[self.cursor]
                self.rest[self.cursor] = None
                self.cursor += 1
                if self.cursor == len(self.rest):
                    self.rest = None
                elif self.cursor >= 1024 and self.cursor * 2 > len(self.rest):
                    del self.rest[:self.cursor]
                    self.cursor = 0
        self.offset = sent
