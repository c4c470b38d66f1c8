# One connection: the transport that its protocol sees.

cdef size_t HIGH_WATER = 64 * 1024
# What is this long does not wait for the end of the turn: many of them held back at once would have
# the allocator give memory back to the kernel and ask for it again, turn by turn.
cdef size_t LARGE = 16 * 1024
cdef int WARN_AFTER = 5  # writes to a connection that is gone (asyncio.constants)


@cython.final
cdef class Transport:
    """A server transport: asyncio.Transport's interface, and its behaviour on a selector loop.

    What is written goes out at the end of the loop's turn, or when the buffer is full.
    """

    cdef object __weakref__
    cdef Connections connections
    cdef Pump pump
    cdef object loop
    cdef object protocol
    cdef object context
    cdef object sock  # the user asked for it: then it owns the descriptor
    cdef object extra
    cdef object kept  # bytes received while reading was paused, or that nobody has read,
    cdef int kept_error  # ... and after them, what recv(2) told once and will not tell again
    cdef object head  # bytes to be sent, from `offset` on,
    cdef list rest  # ... and after them, from `cursor` on
    cdef object empty_waiter
    cdef object failure
    cdef size_t offset
    cdef Py_ssize_t cursor
    cdef size_t size  # of all that is to be sent
    cdef size_t high
    cdef size_t low
    cdef int fd
    cdef int writes_for_nothing
    cdef socklen_t peer_length
    cdef unsigned char peer[PEER]
    cdef bint buffered  # an asyncio.BufferedProtocol
    cdef bint dirty  # it is on the pump's list
    cdef bint watched  # it was flushed since it was accepted
    cdef bint blocked  # the kernel takes no more for now
    cdef bint reading_paused
    cdef bint writing_paused
    cdef bint eof_read
    cdef bint eof_written
    cdef bint eof_sent
    cdef bint closing
    cdef bint backlog  # ... while the kernel took no more: so more may be written until it has
    cdef bint gone  # what is left is connection_lost: nothing can be written any more

    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.TRY_NATIVE

    def __cinit__(self):
        self.fd = -1
        self.high, self.low = HIGH_WATER, HIGH_WATER // 4

    def __init__(self):
        raise TypeError("transports are made by servers")

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
        return f"<aiofastsocket.Transport {state} bufsize={self.size}>"

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
            value = self.name_of(False) if self.fd >= 0 else self.connections.name
        elif name == "socket":
            # Once only: its users may keep it, and know by fileno() when it is closed.
            value = TransportSocket(self.own_socket() or self.closed_socket())
        else:
            return default
        self.extra[name] = value
        return value

    def is_closing(self):
        """Whether close() or abort() was called, or the connection is over."""
        return self.closing

    def close(self):
        """Read no more, and close once what is buffered is sent."""
        if not self.closing:
            self.mark()
            self.closing = True
            self.gone = self.size == 0
            self.backlog = self.blocked or self.writing_paused

    def abort(self):
        """Close now; what the kernel has not taken is lost."""
        self.force_close(None)

    def set_protocol(self, protocol):
        """As asyncio's, at any time."""
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
        """Call data_received no more until resume_reading."""
        if not self.closing and not self.reading_paused:
            self.reading_paused = True
            self.mark()

    def resume_reading(self):
        """What came meanwhile is delivered in the loop's next turn."""
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
        if self.may_write():
            self.append(data)

    def writelines(self, list_of_data):
        """write() each; nothing if one of them has no buffer, which raises TypeError."""
        for data in [d if type(d) is bytes else bytes(memoryview(d)) for d in list_of_data]:
            self.write(data)

    def write_eof(self):
        """Close our direction once what is buffered is sent; reading goes on."""
        if not self.closing and not self.eof_written:
            self.eof_written = True
            self.mark()

    def can_write_eof(self):
        """True."""
        return True

    def get_write_buffer_size(self):
        """Bytes written that the kernel has not taken yet."""
        return self.size

    def get_write_buffer_limits(self):
        """(low, high): see set_write_buffer_limits."""
        return self.low, self.high

    def set_write_buffer_limits(self, high=None, low=None):
        """Above `high` bytes pause_writing is called, and resume_writing at `low` or below."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = high, low
        self.maybe_pause_writing()

    # -- what asyncio's own sslproto, streams and sendfile ask of a transport --

    @property
    def _loop(self):
        return self.loop

    @property
    def _sock(self):
        return self.own_socket()

    @property
    def _protocol_paused(self):
        return self.writing_paused

    def _force_close(self, exc):
        self.force_close(exc)

    def unread(self, data):
        """Bytes that its protocol was given are still to be delivered: before start_tls."""
        self.mark()
        self.kept = data if self.kept is None else data + self.kept

    def _make_empty_waiter(self):
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.empty_waiter = self.loop.create_future()
        if self.size == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    # -- addresses --

    cdef object peer_name(self):
        if self.peer_length > FS_PUMP_PEER:  # a named unix socket's
            return self.name_of(True) if self.fd >= 0 else ""
        return self.pump.parse(PyBytes_FromStringAndSize(<char *>self.peer, self.peer_length))

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
        return self.pump.parse(PyBytes_FromStringAndSize(<char *>&address, length))

    cdef object own_socket(self):
        if self.sock is None and self.fd >= 0:
            # With all given, the constructor asks the kernel nothing.
            self.sock = socket.socket(*self.connections.kind, fileno=self.fd)
            self.sock.setblocking(False)
        return self.sock

    cdef object closed_socket(self):
        sock = socket.socket(*self.connections.kind)
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
        """With its first bytes, if they are there; the context is entered."""
        try:
            protocol = self.connections.factory()
            self.use(protocol)
        except BaseException as exc:
            self.closing = self.gone = True
            self.close_descriptor()
            self.connections.left(self)
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
        self.received(first)  # as on asyncio's loops, it goes on

    cdef use(self, protocol):
        self.buffered = isinstance(protocol, BufferedProtocol) or (
            self.pump.duck and not isinstance(protocol, Protocol)
            and hasattr(protocol, "get_buffer"))
        self.protocol = protocol

    cdef mark(self):
        if not self.dirty:
            self.dirty = True
            self.pump.dirty.append(self)
            self.pump.schedule()

    cdef force_close(self, exc):
        if self.fd < 0 or (self.closing and self.gone):
            return
        self.mark()
        if self.size > 0 and not self.blocked:
            self.send_now()  # as asyncio would have, when it was written
        self.failure = exc
        self.head = self.rest = None
        self.size = 0
        self.blocked = False
        self.closing = self.gone = True

    cdef fatal(self, message, exc):
        if not isinstance(exc, OSError):  # a client that went away is not worth a word
            self.report(message, exc)
        self.force_close(exc)

    cdef report(self, message, exc):
        self.loop.call_exception_handler({
            "message": message, "exception": exc, "transport": self, "protocol": self.protocol})

    cdef lost(self):
        """Its descriptor is closed, or about to be."""
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
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
            self.protocol = self.context = self.failure = self.kept = None
            self.kept_error = 0
            self.connections.left(self)

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
                if self.buffered:  # else it is said again, as received
                    self.receive()
            elif what.received:
                self.received(what)
        finally:
            PyContext_Exit(self.context)

    cdef received(self, const fs_input *what):
        if self.closing or self.pump.pump is NULL:
            return
        if what.result > 0:
            data = PyBytes_FromStringAndSize(what.data, what.result)
            if self.kept is not None:
                data = self.kept + data
                self.kept = None
            self.deliver(data)
        elif what.result == 0:
            self.end_of_input()
        elif what.result != -EAGAIN and what.result != -EINTR:
            self.read_error(-what.result)

    cdef read_error(self, int number):
        if self.reading_paused:
            self.kept_error = number
            return
        self.fatal("Fatal read error on socket transport", OSError(number, os.strerror(number)))

    cdef bint has_kept(self) noexcept:
        return self.kept is not None or self.kept_error != 0

    cdef deliver_kept(self):
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

    cdef deliver(self, data):
        """Bytes to the protocol, or kept for when it wants them again."""
        if self.reading_paused:
            self.kept = data
        elif self.buffered:
            self.feed(data)
        else:
            try:
                self.protocol.data_received(data)
            except BaseException as exc:
                is_fatal(exc)
                self.fatal("Fatal error: protocol.data_received() call failed.", exc)

    cdef feed(self, data):
        """Bytes that were received before they were asked for, into the protocol's buffers."""
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
        except BaseException:  # the loop ends; if it runs again, the rest is still to come
            if done < size:
                self.mark()
                self.kept = data[done:]
            raise

    cdef receive(self):
        """From the kernel into the protocol's buffer."""
        cdef Py_buffer room
        cdef ssize_t got
        cdef int number
        if self.closing or self.reading_paused:
            return
        if self.kept is not None:
            self.deliver_kept_first()
            return
        if not self.get_buffer(-1, &room):
            return
        if self.pump.pump is NULL:  # the bytes are the parent's
            PyBuffer_Release(&room)
            return
        with nogil:
            got = recv(self.fd, room.buf, room.len, 0)
            number = errno
        PyBuffer_Release(&room)
        if got > 0:
            self.buffer_updated(got)
        elif got == 0:
            self.end_of_input()
        elif number != EAGAIN and number != EINTR:
            self.read_error(number)

    cdef deliver_kept_first(self):
        data, self.kept = self.kept, None
        self.deliver(data)

    cdef bint get_buffer(self, Py_ssize_t hint, Py_buffer *room) except -1:
        """The protocol's buffer, to be released; False after an error."""
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

    cdef end_of_input(self):
        if self.reading_paused:
            return  # it is said again when reading goes on
        self.eof_read = True
        try:
            keep_open = self.protocol.eof_received()
        except BaseException as exc:
            is_fatal(exc)
            self.fatal("Fatal error: protocol.eof_received() call failed.", exc)
            return
        if keep_open:
            self.mark()  # to be polled for reading no more
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

    cdef append(self, data):
        cdef Py_ssize_t length
        if type(data) is not bytes:
            data = bytes(data)  # its owner may change it meanwhile
        length = PyBytes_GET_SIZE(data)
        if length == 0:
            return
        if self.head is None:
            self.head = data
        elif self.rest is None:
            self.rest = [data]
            self.cursor = 0
        else:
            self.rest.append(data)
        self.size += length
        if not self.blocked:
            if (self.size >= LARGE or self.size > self.high) and self.pump.runs_here():
                number = self.send_now()
                if number:
                    self.write_error(number)
            if self.size > 0 or self.writing_paused:
                self.mark()  # to be sent, or for resume_writing
        self.maybe_pause_writing()

    cdef int send_now(self) except -1:
        """As far as the kernel takes it; the rest is sent when it may go on. Returns 0 or errno."""
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

    cdef maybe_pause_writing(self):
        if self.size > self.high and not self.writing_paused and not self.gone:
            self.writing_paused = True
            try:
                self.protocol.pause_writing()
            except BaseException as exc:
                is_fatal(exc)
                self.report("protocol.pause_writing() failed", exc)

    cdef maybe_resume_writing(self):
        if self.writing_paused and self.size <= self.low:
            self.writing_paused = False
            PyContext_Enter(self.context)
            try:
                self.protocol.resume_writing()
            except BaseException as exc:
                is_fatal(exc)
                self.report("protocol.resume_writing() failed", exc)
            finally:
                PyContext_Exit(self.context)

    cdef fill(self, fs_output *out, iovec *parts, list held):
        """What the kernel is to do now; `held` keeps the bytes alive meanwhile."""
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
        out.end = self.eof_written and not self.eof_sent
        # Who is told to resume may have more to say: asyncio's order, and its sslproto's need.
        out.close = self.closing and (self.gone or not self.writing_paused)
        out.keep = self.sock is not None
        self.watched = True

    cdef consume(self, size_t sent):
        """The kernel took so many bytes."""
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

    cdef write_error(self, int number):
        self.fatal("Fatal write error on socket transport", OSError(number, os.strerror(number)))

    cdef settle(self, const fs_output *out):
        """What an output has become, before any callback may write more."""
        if out.result >= 0 and not self.gone:
            self.consume(out.result)
            self.blocked = self.blocked or out.full
        if out.done:
            self.eof_sent = self.eof_sent or out.end
            if out.close and not out.keep:
                self.fd = -1

    cdef flushed(self, const fs_output *out):
        if out.result < 0:
            if self.closing and self.gone:
                self.lost()
            else:
                self.write_error(-out.result)
            return
        if not self.gone:  # else aborted by another's callback of the same batch
            self.maybe_resume_writing()
        if self.pump.pump is NULL:
            return
        if out.done and out.close:
            self.lost()
            return
        if out.done and self.closing:
            self.mark()
        if self.empty_waiter is not None and self.size == 0 and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
