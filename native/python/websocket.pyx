# cython: language_level=3
"""One WebSocket that was accepted (RFC 6455): messages both ways, pings, the closing handshake.
STATES defines the valid events in each state.
"""

import codecs

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.frames cimport *
from aiofastsocket._native.link cimport LARGE

from ..errors import ClientDisconnected

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef Py_ssize_t OVERHEAD = 256  # bytes that a message takes in addition to its content
cdef Py_ssize_t MOST_BUFFERED = 65536
"""Bytes of messages that may wait for the application; beyond this, reading pauses."""

cdef int FRAMES = 4096
"""Frames handled in one turn: a flood of empty ones must not hold up other connections."""

UTF8 = codecs.getincrementaldecoder("utf-8")

cdef enum:  # events
    WE_CLOSE
    THEY_CLOSE  # the client closes: this is answered, unless it is an answer
    FAILED  # the client violates the protocol, or ends without a close
    GONE

# The rows are in the order of the enum State. -1: the event is impossible in that state.
cdef signed char[4][4] STATES = [
    # columns: we close, they close, failed, gone
    [CLOSE_SENT, CLOSED, CLOSED, LOST],
    [-1, CLOSED, CLOSED, LOST],
    [-1, -1, CLOSED, LOST],
    [-1, -1, LOST, LOST],
]


@cython.final
cdef class WebSocket(Link):
    """The protocol of an open WebSocket, which takes its connection over from HTTP."""

    comes_back = True  # whether a client reconnects after a close

    cdef int happens(self, int event) except -1:
        assert STATES[<int>self.state][event] >= 0, (self.state, event)
        self.state = <State>STATES[<int>self.state][event]
        return 0

    cdef opened(self, bytes rest):
        self.service.connections.add(self)
        self.service.count_websocket(False)
        self.wait_until(self.service.pings)
        if rest is not None:
            self.look(rest)
        self.read_on()
        if self.service.draining and self.state == OPEN:
            self.send_close(RESTART, "")
        self.handshake.wake(False)

    # -- asyncio.Protocol --

    cdef received(self, bytes data):
        if self.state >= CLOSED:
            return
        if self.state == OPEN:
            self.wait_until(self.service.pings)
        self.look(data)
        # A task that is woken at once may end the connection, so this must come last.
        if self.messages or self.ended:
            self.handshake.wake(True)

    def eof_received(self):
        """See asyncio.Protocol."""
        if self.state == OPEN:
            self.happens(FAILED)
            self.nothing_more()
        return False

    def connection_lost(self, exc):
        """See asyncio.Protocol."""
        self.service.connections.discard(self)
        self.service.count_websocket(True)
        self.wait_until(None)
        self.happens(GONE)
        self.waiting = None
        self.handshake.client = CLIENT_GONE
        self.nothing_more()
        self.handshake = None  # it refers to us
        self.wake_senders()

    # -- input --

    cdef look(self, bytes data):
        """Take the complete frames; the rest waits."""
        cdef Py_ssize_t at = 0, size, taken
        cdef int frames = 0
        if self.waiting is not None:
            # A frame in pieces is put together once, when all of it is here.
            self.waiting.append(data)
            self.waiting_size += PyBytes_GET_SIZE(data)
            if self.waiting_size < self.wanted:
                return
            data = b"".join(self.waiting)
            self.waiting = None
        self.wanted = 0
        size = PyBytes_GET_SIZE(data)
        while at < size and self.state < CLOSED:
            if frames == FRAMES:
                self.busy = True
                self.service.loop.call_soon(self.look_on)
                break
            taken = self.take_frame(data, at)
            if taken == 0:
                break
            at += taken
            frames += 1
        if at < size and self.state < CLOSED:
            self.waiting = [data[at:]]
            self.waiting_size = size - at
        self.read_on()

    def look_on(self):
        """Continue with the waiting frames in the next turn."""
        self.busy = False
        if self.waiting is not None and self.state < CLOSED:
            self.wanted = 0
            self.look(b"")
        self.read_on()
        if (self.messages or self.ended) and self.handshake is not None:
            self.handshake.wake(True)

    cdef Py_ssize_t take_frame(self, bytes data, Py_ssize_t at) except -1:
        """Take the frame that begins at `at` (RFC 6455, 5.2). Returns its size, 0 if it is not
        complete."""
        cdef const unsigned char *here = <const unsigned char *>PyBytes_AS_STRING(data) + at
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - at
        cdef Frame frame
        if size < 2:
            return 0
        wrong = frame_begins(&frame, here, size, self.deflate is not None, self.in_fragments)
        if wrong is not None:
            self.fail(PROTOCOL_ERROR, wrong)
            return 0
        if frame.head == 0:
            return 0
        if frame.opcode < CLOSE and frame.length > <uint64_t>(self.most - self.parts_size):
            self.fail(TOO_BIG, f"the message is longer than {self.most} bytes")
            return 0
        if <uint64_t>(size - frame.head) < frame.length:
            self.wanted = frame.head + frame.length
            return 0
        here += frame.head
        payload = unmasked(<const char *>here, frame.length, <const char *>here - 4)
        if frame.opcode >= CLOSE:
            self.control(frame.opcode, payload)
        elif self.state == OPEN:
            self.data(frame.opcode, frame.fin, frame.deflated, payload)
        else:
            self.in_fragments = not frame.fin
        return frame.head + frame.length

    cdef control(self, int opcode, bytes data):
        if opcode == PING:
            if self.state == OPEN:
                self.send_frame(PONG, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data, False)
        elif opcode == CLOSE:
            self.closed_by_client(data)

    cdef closed_by_client(self, bytes data):
        """Handle a close frame (RFC 6455, 5.5.1), also between the fragments of a message."""
        cdef int code = NO_STATUS
        reason = ""
        if PyBytes_GET_SIZE(data) >= 2:
            code = data[0] << 8 | data[1]
            if not is_close_code(code):
                self.fail(PROTOCOL_ERROR, "the close code is invalid")
                return
            try:
                reason = data[2:].decode()
            except UnicodeDecodeError:
                self.fail(INVALID_DATA, "the close reason is not valid UTF-8")
                return
        elif PyBytes_GET_SIZE(data) == 1:
            self.fail(PROTOCOL_ERROR, "the close code is incomplete")
            return
        self.code, self.reason = code, reason
        if self.state == OPEN:
            self.send_frame(CLOSE, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data, False)
        self.happens(THEY_CLOSE)
        self.wait_until(None)
        self.nothing_more()
        self.end()

    cdef data(self, int opcode, bint fin, bint deflated, bytes data):
        """A whole message, or a fragment of one."""
        if opcode != CONTINUATION:
            self.is_text = opcode == TEXT
            self.is_deflated = deflated
            if fin:
                self.deliver(data)
                return
            self.in_fragments = True
            self.parts = []
            self.decoder = UTF8() if self.is_text and not deflated else None
        self.parts_size += PyBytes_GET_SIZE(data)
        if self.decoder is not None:  # a fragment is checked before all have come
            try:
                self.parts.append(self.decoder.decode(data, fin))
            except UnicodeDecodeError as error:
                self.fail(INVALID_DATA, f"{error.reason} in a text message")
                return
        elif data:
            self.parts.append(data)
        if not fin:
            return
        parts, self.parts = self.parts, None
        self.in_fragments = False
        self.parts_size = 0
        if self.decoder is not None:
            self.decoder = None
            text = "".join(parts)
            self.put({"type": "websocket.receive", "text": text}, len(text))
        else:
            self.deliver(b"".join(parts))

    cdef deliver(self, bytes data):
        if self.is_deflated:
            try:
                data = self.deflate.decode(data, self.most)
            except ValueError as error:
                self.fail(INVALID_DATA, str(error))
                return
            if data is None:
                self.fail(TOO_BIG, f"the message is longer than {self.most} bytes")
                return
        if not self.is_text:
            self.put({"type": "websocket.receive", "bytes": data}, PyBytes_GET_SIZE(data))
            return
        try:
            text = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL)
        except UnicodeDecodeError as error:
            self.fail(INVALID_DATA, f"{error.reason} in a text message")
            return
        self.put({"type": "websocket.receive", "text": text}, PyBytes_GET_SIZE(data))

    cdef put(self, dict message, Py_ssize_t size):
        self.messages.append((message, size + OVERHEAD))
        self.buffered += size + OVERHEAD

    cdef nothing_more(self):
        """Tell the application that no more messages come."""
        self.ended = True
        self.parts = self.decoder = None
        self.handshake.wake(False)

    # -- output --

    cdef send_frame(self, int opcode, const char *data, Py_ssize_t size, bytes whole,
                    bint deflated):
        """Send a frame. whole: the data as an object, or None; large data is sent as the object."""
        cdef unsigned char head[10]
        cdef Py_ssize_t length = frame_head(head, opcode, deflated, size)
        cdef bytes frame
        if size >= LARGE:
            self.write((<char *>head)[:length])
            self.write(PyBytes_FromStringAndSize(data, size) if whole is None else whole)
            return
        frame = PyBytes_FromStringAndSize(NULL, length + size)
        memcpy(PyBytes_AS_STRING(frame), head, length)
        memcpy(PyBytes_AS_STRING(frame) + length, data, size)
        self.write(frame)

    cdef send_close(self, int code, str reason):
        """Begin the closing handshake: the client should answer."""
        cdef bytes text = reason.encode()
        if PyBytes_GET_SIZE(text) > 123:
            raise RuntimeError(f"the close reason is longer than 123 bytes: {reason!r}")
        self.write_close(code, text)
        self.happens(WE_CLOSE)
        if self.code is None:
            self.sent_code, self.sent_reason = code, reason
        self.nothing_more()
        self.wait_until(self.service.closes)
        self.read_on()

    cdef write_close(self, int code, bytes reason):
        cdef bytes data = bytes((code >> 8, code & 0xff)) + reason
        self.send_frame(CLOSE, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data, False)

    cdef fail(self, int code, str reason):
        """The client violates the protocol: close without waiting for it (RFC 6455, 7.1.7)."""
        if self.state == OPEN:
            self.write_close(code, reason.encode()[:123])
            self.sent_code, self.sent_reason = code, reason
        self.happens(FAILED)
        self.wait_until(None)
        self.nothing_more()
        self.end()

    cdef read_on(self):
        cdef bint reads
        if self.state >= CLOSED:
            return
        reads = not self.busy and (self.ended or (
            self.room is None and self.buffered <= MOST_BUFFERED))
        if reads != self.reads and not self.is_closing():
            self.reads = reads
            if reads:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # -- time --

    def ping_due(self):
        """Send a ping: nothing was received for an interval."""
        if not self.reads:  # its pong cannot be received, or follows unread data
            self.wait_until(self.service.pings)
            return
        self.send_frame(PING, b"", 0, None, False)
        self.wait_until(self.service.pongs)

    def pong_expired(self):
        """Abort: the client has not answered a ping."""
        if not self.reads:
            self.wait_until(self.service.pings)
            return
        self.fail(INTERNAL_ERROR, "keepalive ping timeout")
        self.transport.abort()

    def close_expired(self):
        """Abort: the client has not answered our close."""
        self.transport.abort()

    def drain(self):
        """See Service.drain."""
        if self.state == OPEN:
            self.send_close(RESTART, "")

    # -- the application's side --

    cdef object take(self):
        if self.messages:
            message, size = self.messages.pop(0)
            self.buffered -= size
            self.read_on()
            return message
        if not self.ended:
            return None
        code, reason = self.code, self.reason
        if code is None and (self.sent_code is not None):
            code, reason = self.sent_code, self.sent_reason
        if code is None:
            code, reason = ABNORMAL, ""
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    cdef object heed(self, message):
        kind = message["type"]
        if self.state != OPEN:
            raise ClientDisconnected("the connection is closed")
        if kind == "websocket.send":
            self.send_message(message)
        elif kind == "websocket.close":
            code, reason = message.get("code"), message.get("reason")
            code = NORMAL if code is None else code
            if not is_close_code(code):
                raise RuntimeError(f"{code!r} is not a valid WebSocket close code: RFC 6455, 7.4")
            self.send_close(code, reason or "")
        else:
            raise RuntimeError(f"{kind!r} is not a message of an open WebSocket")
        return self.handshake.after(False)

    cdef send_message(self, message):
        cdef const char *data
        cdef Py_ssize_t size
        cdef bytes whole
        text, binary = message.get("text"), message.get("bytes")
        if (text is None) == (binary is None):
            raise RuntimeError("'websocket.send' must have either bytes or text")
        if self.deflate is not None:
            whole = text.encode() if text is not None else bytes(memoryview(binary))
            whole = self.deflate.encode(whole)
            self.send_frame(TEXT if text is not None else BINARY, PyBytes_AS_STRING(whole),
                            PyBytes_GET_SIZE(whole), whole, True)
        elif text is not None:
            data = PyUnicode_AsUTF8AndSize(text, &size)
            self.send_frame(TEXT, data, size, None, False)
        else:
            whole = binary if type(binary) is bytes else bytes(memoryview(binary))
            self.send_frame(BINARY, PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), whole, False)
