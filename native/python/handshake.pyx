# cython: language_level=3
"""The request for a WebSocket (RFC 6455, 4.2; ASGI WebSocket, 2.5). It is accepted, refused or
denied. Once it is accepted, the application receives and sends the messages of its WebSocket."""

import base64
import binascii
import hashlib

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from aiofastsocket._native.awaitable cimport *
from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.websocket cimport ABNORMAL, OPEN, WebSocket
from aiofastsocket._native.wire cimport *

from ..errors import ClientDisconnected

cdef bytes GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@cython.final
cdef class Handshake(Exchange):
    """The request for a WebSocket: an exchange until it is accepted, refused or denied."""

    is_websocket = True

    cdef prepare(self):
        """Make the scope, and check the fields for WebSockets (RFC 6455, 4.2.1)."""
        cdef dict scope
        Exchange.prepare(self)
        scope = self.scope
        del scope["method"]
        scope["type"] = "websocket"
        scope["asgi"] = {"version": "3.0", "spec_version": "2.5"}
        scope["scheme"] = "ws" if self.scheme == "http" else "wss"
        keys, versions, protocols = [], [], []
        self.extensions = []
        for name, value in self.fields:
            if name == b"sec-websocket-key":
                keys.append(value)
            elif name == b"sec-websocket-version":
                versions.append(value)
            elif name == b"sec-websocket-extensions":
                self.extensions.append(value.decode("latin-1"))
            elif name == b"sec-websocket-protocol":
                protocols += value.decode("latin-1").split(",")
        scope["subprotocols"] = [name.strip() for name in protocols if name.strip()]
        offered = {"websocket.http.response": {}}
        self.tell_more(offered)
        scope["extensions"] = offered
        if not versions:
            self.refusal, self.reason = 400, "the Sec-WebSocket-Version header field is missing"
        elif versions != [b"13"]:
            self.refusal, self.reason = 426, "this server supports WebSocket version 13"
        elif len(keys) != 1 or not is_key(keys[0]):
            self.refusal, self.reason = 400, "the Sec-WebSocket-Key is missing or invalid"
        else:
            self.accept_key = base64.b64encode(hashlib.sha1(keys[0] + GUID).digest())

    cdef start(self, context):
        self.keep_alive = False
        if self.refusal:
            self.service.count_malformed()
            self.refuse(self.refusal)
        else:
            Exchange.start(self, context)

    def refuse(self, int status):
        """Send an answer of the server's own, after which the connection ends."""
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if status == 426:
            headers += [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
        self.keep_alive = False
        self.respond(status, headers)
        reason = self.reason or status_line(status)[13:-2].decode()
        self.send_body(reason.encode() + b"\n", False)

    def over(self, int code, int status):
        """The application has ended: close the WebSocket with `code`, or answer with `status`."""
        if self.socket is not None:
            if self.socket.state == OPEN:
                self.socket.send_close(code, "")
        elif self.client == CLIENT_THERE:
            if self.untouched():
                self.refuse(status)
            elif self.out != OUT_DONE:
                self.wire.cut(self)

    @property
    def is_over(self):
        """Whether nothing can be sent any more."""
        if self.socket is not None:
            return self.socket.state != OPEN
        return self.client != CLIENT_THERE

    @property
    def is_answered(self):
        """Whether it was accepted, or refused."""
        return self.socket is not None or self.out != OUT_NOTHING or self.client != CLIENT_THERE

    cdef object take(self):
        if not self.told:
            self.told = True
            return {"type": "websocket.connect"}
        if self.socket is not None:
            return self.socket.take()
        if self.client != CLIENT_THERE or self.out == OUT_DONE:
            return {"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""}
        return None

    cdef object heed(self, message):
        if self.socket is not None:
            return self.socket.heed(message)
        kind = message["type"]
        if self.client != CLIENT_THERE:
            raise ClientDisconnected("the client is gone")
        if kind.startswith("websocket.http.response."):  # the extension of that name
            return Exchange.heed(self, {**message, "type": kind[len("websocket."):]})
        if self.out != OUT_NOTHING:
            raise RuntimeError(f"{kind!r} was sent after 'websocket.http.response.start'"
                               if self.out != OUT_DONE else f"{kind!r} was sent after the answer")
        if kind == "websocket.accept":
            self.accept(message)
        elif kind == "websocket.close":
            self.respond(403, ())
            self.send_body(b"", False)
        else:
            raise RuntimeError(f"{kind!r} was sent before 'websocket.accept'")
        return DONE if self.socket is None else self.after(False)

    cdef accept(self, message):
        cdef WebSocket made
        cdef Lines lines
        cdef bytes line
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise RuntimeError(f"the client does not offer subprotocol {subprotocol!r}")
        headers = list(message.get("headers") or ())  # first: it may run application code
        if self.socket is not None or self.out != OUT_NOTHING:
            raise RuntimeError("'websocket.accept' was sent twice")
        agreed, deflate = self.service.agree_on_deflate(self.extensions)
        lines_begin(&lines)
        try:
            lines_add(&lines, b"HTTP/1.1 101 Switching Protocols\r\n", 34)
            add_field(&lines, b"upgrade", b"websocket")
            add_field(&lines, b"connection", b"Upgrade")
            add_field(&lines, b"sec-websocket-accept", self.accept_key)
            if agreed is not None:
                add_field(&lines, b"sec-websocket-extensions", agreed)
            if subprotocol is not None:
                add_field(&lines, b"sec-websocket-protocol", subprotocol)
            for name, value in headers:
                if name.lower() == b"sec-websocket-protocol":
                    raise RuntimeError(
                        "sec-websocket-protocol is not allowed in headers: use subprotocol")
                add_field(&lines, name, value)
            line = self.service.clock.lines()
            lines_add(&lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            lines_add(&lines, b"\r\n", 2)
            line = lines_take(&lines)
        finally:
            lines_free(&lines)
        made = WebSocket.__new__(WebSocket)
        made.service = self.service
        made.handshake = self
        made.loop = self.loop
        made.has(self.wire.transport)
        made.deflate = deflate
        made.most = self.service.most_message
        made.messages = []
        made.reads = True
        self.wire.write(line)
        self.status = 101
        self.service.note(self)
        self.service.answered()
        self.socket = made
        made.room = self.wire.room
        made.opened(self.wire.hand_over(made))

    cdef object after(self, bint more):
        if self.socket is None:
            return Exchange.after(self, more)
        if self.socket.is_closing():
            return one_turn()
        return self.socket.room_for_more()


cdef bint is_key(bytes key) except -1:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
