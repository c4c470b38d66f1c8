# cython: language_level=3, nonecheck=True, auto_pickle=False
"""The transport of one connection of a server, on its socket."""

import os
import socket
import warnings
from asyncio.constants import _SendfileMode
from asyncio.log import logger
from asyncio.trsock import TransportSocket

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd

from aiofastsocket._native.transport cimport *

# Data of this size does not wait for the end of the turn. If much of it were held back at once, the
# allocator would return memory to the kernel and request it again, turn by turn.
cdef size_t LARGE = 16 * 1024
cdef int WARN_AFTER = 5  # writes to a connection that is gone (asyncio.constants)


cdef class Server:
    """The owner of a connection, as the connection sees it."""

    cdef left(self, SocketTransport transport):
        """A connection is over."""

    cdef void waited(self, long long ns) noexcept:
        """Record how long a connection's first bytes waited in the kernel."""


@cython.final
cdef class SocketTransport(Transport):
    """The equivalent of asyncio's transport on a selector loop.

    Written data goes out at the end of the loop's turn, or when the buffer is full.
    """

    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.TRY_NATIVE

    def __del__(self):
        if self.fd >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self.close_descriptor()

    def __repr__(self):
        if self.fd < 0:
            state = "closed"
        elif self.closing:
            state = f"fd={self.fd} closing"
        else:
            state = f"fd={self.fd}" + (" paused" if self.reading_paused else "")
        return f"<aiofastsocket.SocketTransport {state} bufsize={self.size}>"

    # -- asyncio.BaseTransport --

    def get_extra_info(self, name, default=None):
        """'peername' and 'sockname' (addresses), 'socket' (asyncio's TransportSocket)."""
        if self.extra is None:
            self.extra = {}
        if name in self.extra:
            return self.extra[name]
        if name == "peername":
            value = self.peer_name()
        elif name == "sockname":
            value = self.name_of(False) if self.fd >= 0 else self.server.name
        elif name == "socket":
            # Made only once: users may keep it, and see by fileno() when it is closed.
            value = TransportSocket(self.own_socket() or self.closed_socket())
        else:
            return default
        self.extra[name] = value
        return value

    def close(self):
        """Stop reading, and close once the buffer is sent."""
        if not self.closing:
            self.mark()
            self.closing = True
            self.gone = self.size == 0
            self.backlog = self.blocked or self.writing_paused

    def write_eof(self):
        """Close our direction once the buffer is sent; reading continues."""
        if not self.closing and not self.eof_written:
            self.eof_written = True
            self.mark()

    def can_write_eof(self):
        """Return True: write_eof() is supported."""
        return True

    # -- used by asyncio's own sendfile --

    @property
    def _sock(self):
        return self.own_socket()

    # -- addresses --

    cdef object peer_name(self):
        if self.peer_length > FS_PUMP_PEER:  # a named unix socket's
            return self.name_of(True) if self.fd >= 0 else ""
        return self.parsed(self.peer, self.peer_length)

    cdef object name_of(self, bint peer):
        cdef sockaddr_storage address
        cdef socklen_t length = sizeof(address)
        cdef int rc
        if peer:
            rc = getpeername(self.fd, <sockaddr *>&address, &length)
        else:
            rc = getsockname(self.fd, <sockaddr *>&address, &length)
        if rc < 0:
            return None
        return self.parsed(<unsigned char *>&address, length)

    cdef object parsed(self, const unsigned char *raw, socklen_t length):
        """Parse an address as aiofastsocket.address.parse does. Each request needs this, so the
        most common case is fast: a struct sockaddr_in has a port, then four bytes (ip(7))."""
        cdef char text[16]
        cdef char *at = text
        cdef unsigned short family
        cdef int i
        memcpy(&family, raw, 2)
        if length < 16 or family != AF_INET:
            return self.pump.parse(PyBytes_FromStringAndSize(<char *>raw, length))
        for i in range(4, 8):
            if raw[i] >= 100:
                at[0] = c"0" + raw[i] // 100
                at += 1
            if raw[i] >= 10:
                at[0] = c"0" + raw[i] // 10 % 10
                at += 1
            at[0] = c"0" + raw[i] % 10
            at[1] = c"."
            at += 2
        host = PyUnicode_DecodeASCII(text, at - text - 1, NULL)
        return host, raw[2] << 8 | raw[3]

    cdef object own_socket(self):
        if self.sock is None and self.fd >= 0:
            # With all arguments given, the constructor makes no system call.
            self.sock = socket.socket(*self.server.kind, fileno=self.fd)
            self.sock.setblocking(False)
        return self.sock

    cdef object closed_socket(self):
        sock = socket.socket(*self.server.kind)
        sock.close()
        return sock

    cdef close_descriptor(self):
        fd, self.fd = self.fd, -1
        if self.sock is not None:
            self.sock.close()
        elif fd >= 0:
            close_fd(fd)

    # -- life --

    cdef start(self, const fs_input *first):
        """Start with the first bytes, if any. The caller has entered the context."""
        try:
            protocol = self.server.factory()
            self.use(protocol)
        except BaseException as exc:
            self.closing = self.gone = True
            self.close_descriptor()
            self.server.left(self)
            self.context = None
            is_fatal(exc)
            self.report("connection could not be served", exc)
            return
        try:
            protocol.connection_made(self)
        except (SystemExit, KeyboardInterrupt) as exc:
            self.pump.failure = self.pump.failure or exc
        except BaseException as exc:
            self.report("Fatal error: protocol.connection_made() call failed.", exc)
        self.received(first)  # also after an error, as on asyncio's loops

    cdef force_close(self, exc):
        if self.fd < 0 or (self.closing and self.gone):
            return
        self.mark()
        if self.size > 0 and not self.blocked:
            self.send_now()  # asyncio would have sent it in write()
        self.failure = exc
        self.head = self.rest = None
        self.size = 0
        self.blocked = False
        self.closing = self.gone = True

    cdef lost(self):
        """End the connection: its descriptor is closed already, or is closed here."""
        if self.empty_waiter is not None:
            if not self.empty_waiter.done():
                self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
            elif self.fd >= 0:  # another file will get the number that sendfile waits for
                self.loop.remove_writer(self.fd)
        protocol, context = self.protocol, self.context
        PyContext_Enter(context)
        try:
            protocol.connection_lost(self.failure)
        except BaseException as exc:
            is_fatal(exc)
            self.report("Fatal error: protocol.connection_lost() call failed.", exc)
        finally:
            PyContext_Exit(context)
            self.close_descriptor()
            self.protocol = self.receiver = self.context = self.failure = self.kept = None
            self.kept_error = 0
            self.server.left(self)

    # -- in --

    cdef heard(self, const fs_input *what):
        if self.fd < 0:
            return
        if what.writable:
            self.blocked = False
            self.mark()
        PyContext_Enter(self.context)
        try:
            if what.readable:
                if self.buffered:  # else it is reported again, as received
                    self.receive()
            elif what.received:
                self.received(what)
        finally:
            PyContext_Exit(self.context)

    cdef received(self, const fs_input *what):
        if self.closing or self.pump.pump is NULL:
            return
        if what.result > 0:
            self.hear(what.waited)
            data = PyBytes_FromStringAndSize(what.data, what.result)
            if self.kept is not None:
                data = self.kept + data
                self.kept = None
            self.deliver(data)
        elif what.result == 0:
            self.end_of_input()
        elif what.result != -EAGAIN and what.result != -EINTR:
            self.read_error(-what.result)

    cdef void hear(self, long long waited) noexcept:
        """Note that bytes were received."""
        if self.unheard:
            self.unheard = False
            if waited >= 0:
                self.waited = waited
                self.server.waited(waited)

    cdef read_error(self, int number):
        if self.reading_paused:
            self.kept_error = number
            return
        self.fatal("Fatal read error on socket transport", OSError(number, os.strerror(number)))

    cdef bint has_kept(self) noexcept:
        if self.receiver is not None and self.receiver.has_work():
            return True
        return (self.kept is not None or self.kept_error != 0) and not self.reading_paused

    cdef deliver_kept(self):
        cdef Receiver receiver = self.receiver
        if self.context is None:  # the connection is over
            return
        if receiver is not None and receiver.has_work():
            receiver.work()
        if self.reading_paused:
            return
        data, self.kept = self.kept, None
        if not self.closing:
            PyContext_Enter(self.context)
            try:
                if data is not None:
                    self.deliver(data)
                if self.kept_error and not self.reading_paused and not self.closing:
                    number, self.kept_error = self.kept_error, 0
                    self.read_error(number)
            finally:
                PyContext_Exit(self.context)

    cdef receive(self):
        """Receive from the kernel into the protocol's buffer."""
        cdef Py_buffer room
        cdef ssize_t got
        cdef int number
        cdef int64_t waited = -1
        if self.closing or self.reading_paused:
            return
        if self.kept is not None:
            self.deliver_kept_first()
            return
        if not self.get_buffer(-1, &room):
            return
        if self.pump.pump is NULL:  # the bytes belong to the parent
            PyBuffer_Release(&room)
            return
        with nogil:
            if self.unheard:
                got = fs_receive_first(self.fd, room.buf, room.len, &waited)
            else:
                got = recv(self.fd, room.buf, room.len, 0)
            number = errno
        PyBuffer_Release(&room)
        if got > 0:
            self.hear(waited)
            self.buffer_updated(got)
        elif got == 0:
            self.end_of_input()
        elif number != EAGAIN and number != EINTR:
            self.read_error(number)

    cdef deliver_kept_first(self):
        data, self.kept = self.kept, None
        self.deliver(data)

    cdef end_of_input(self):
        if self.reading_paused:
            return  # it is reported again when reading resumes
        self.eof_read = True
        try:
            keep_open = self.protocol.eof_received()
        except BaseException as exc:
            is_fatal(exc)
            self.fatal("Fatal error: protocol.eof_received() call failed.", exc)
            return
        if keep_open:
            self.mark()  # to end the polling for reading
        else:
            self.close()

    # -- out --

    cdef bint may_write(self) except -1:
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if self.closing and (self.gone or not self.backlog):
            self.writes_for_nothing += 1
            if self.writes_for_nothing == WARN_AFTER:
                logger.warning("socket.send() raised exception.")
            return False
        return True

    cdef send(self, bytes data):
        if not self.may_write() or PyBytes_GET_SIZE(data) == 0:
            return
        self.queue(data)
        if not self.blocked:
            if (self.size >= LARGE or self.size > self.high) and self.pump.runs_here():
                number = self.send_now()
                if number:
                    self.write_error(number)
            if self.size > 0 or self.writing_paused:
                self.mark()  # to be sent, or for resume_writing
        self.maybe_pause_writing()

    cdef push(self):
        cdef int number
        if self.size > 0 and not self.blocked:
            number = self.send_now()
            if number:
                self.write_error(number)

    cdef int send_now(self) except -1:
        """Send as much as the kernel takes now; the rest follows later. Returns 0 or errno."""
        cdef fs_output out
        cdef iovec parts[PARTS]
        cdef fs_pump *pump = self.pump.pump
        cdef list held = []
        while pump is not NULL:
            self.fill(&out, parts, held)
            out.close = out.end = False  # at the end of the turn
            with nogil:
                fs_pump_flush(pump, &out, 1)
            if out.result < 0:
                return -out.result
            self.consume(out.result)
            self.blocked = out.full
            if out.done or out.full:
                break
        return 0

    cdef fill(self, fs_output *out, iovec *parts, list held):
        """Fill in the kernel's next work; `held` keeps the bytes alive meanwhile."""
        cdef Py_ssize_t i
        cdef int count = 0
        out.fd = self.fd
        out.owner = <void *>self
        out.parts = parts
        if self.head is not None and not self.blocked:
            parts[0].iov_base = PyBytes_AS_STRING(self.head) + self.offset
            parts[0].iov_len = PyBytes_GET_SIZE(self.head) - self.offset
            held.append(self.head)
            count = 1
            if self.rest is not None:
                for i in range(self.cursor, len(self.rest)):
                    if count == FS_PUMP_PARTS:
                        break
                    data = self.rest[i]
                    held.append(data)
                    parts[count].iov_base = PyBytes_AS_STRING(data)
                    parts[count].iov_len = PyBytes_GET_SIZE(data)
                    count += 1
        out.count = count
        if self.rest is None:
            out.more = self.head is not None and count == 0
        else:
            out.more = count <= len(self.rest) - self.cursor
        if self.closing or self.reading_paused or self.eof_read:
            out.read = FS_READ_NOT
        else:
            out.read = FS_READ_REPORT if self.buffered else FS_READ_RECEIVE
        out.unheard = self.unheard
        out.end = self.eof_written and not self.eof_sent
        # A protocol that resumes may write more, so asyncio closes only after that.
        out.close = self.closing and (self.gone or not self.writing_paused)
        out.keep = self.sock is not None
        self.watched = True

    cdef write_error(self, int number):
        self.fatal("Fatal write error on socket transport", OSError(number, os.strerror(number)))

    cdef settle(self, const fs_output *out):
        """Apply the result of an output, before any callback may write more."""
        if out.result >= 0 and not self.gone:
            self.consume(out.result)
            self.blocked = self.blocked or out.full
        if out.done:
            self.eof_sent = self.eof_sent or out.end
            if out.close and not out.keep:
                self.fd = -1

    cdef flushed(self, const fs_output *out):
        cdef Receiver receiver
        if out.result < 0:
            if self.closing and self.gone:
                self.lost()
            else:
                self.write_error(-out.result)
            return
        if not self.gone:  # else a callback of the same batch aborted it
            self.maybe_resume_writing()
            if self.receiver is not None:
                receiver = self.receiver  # held: it may hand the transport on
                receiver.sent()
        if self.pump.pump is NULL:
            return
        if out.done and out.close:
            self.lost()
            return
        if out.done and self.closing:
            self.mark()
        if self.size == 0:
            self.tell_empty()
