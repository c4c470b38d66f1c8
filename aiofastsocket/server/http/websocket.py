"""One WebSocket (RFC 6455): the handshake, messages both ways, pings, the closing handshake.

Frames, masks, deflate and the rules of the protocol are websockets' (its sans-I/O half); here is
what the application receives and sends (ASGI WebSocket, 2.5).
"""

import asyncio
import logging
from collections import deque
from contextvars import Context
from typing import cast

from websockets.datastructures import Headers as WebSocketHeaders
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from . import wire
from .response import ClientDisconnected, Message, Response, has_left, let_go
from .scope import Headers, Scope
from .service import Service

logger = logging.getLogger("aiofastsocket")

OVERHEAD = 256  # bytes that a message takes beside what is in it
MOST_BUFFERED = 65536
"""Bytes of messages that wait for the application before no more is read."""

INTERNAL_ERROR = 1011
RESTART = 1012
ABNORMAL = 1006


class WebSocket(asyncio.Protocol):
    """Takes a connection over from HTTP. rest: what came behind the request's head."""

    told_while_paused = True
    comes_back = True

    def __init__(
        self,
        service: Service,
        transport: asyncio.Transport,
        scope: Scope,
        target: bytes,
        headers: Headers,
        rest: bytes,
    ) -> None:
        self.service = service
        self.transport = transport
        self.writable: asyncio.Future[None] | None = None
        self._scope = scope
        options = service.options
        deflate = [ServerPerMessageDeflateFactory()] if options.ws_per_message_deflate else None
        self._protocol = ServerProtocol(
            extensions=deflate, max_size=options.ws_max_size, state=State.OPEN
        )
        fields = WebSocketHeaders()
        for name, value in headers:
            fields[name.decode("ascii")] = value.decode("latin-1")
        self._answer = self._protocol.accept(Handshake(target.decode("ascii"), fields))
        self._rest = rest
        self._asked = service.access.asked(scope) if service.access is not None else None
        self._open = False  # the handshake is over
        self._denial: Response | None = None
        self._ended = False  # no message more for the application but the last
        self._lost = False
        self._restart = False
        self._parts = bytearray()
        self._binary = False
        self._messages: deque[tuple[Message, int]] = deque()  # and what each counts
        self._buffered = 0
        self._closing = False
        self._reading = True
        self._waiting: asyncio.Future[None] | None = None

    def start(self, context: Context) -> None:
        """Answer a bad handshake, have the application answer a good one."""
        self.service.connections.add(self)
        self._restart = self.service.draining
        if self._answer.status_code != 101:
            text = (self._answer.body or b"").decode().strip()
            names = ("upgrade", "sec-websocket-version", "allow")
            more = [(n, v) for n, v in self._answer.headers.raw_items() if n.lower() in names]
            head = b"".join(wire.field(n.encode(), v.encode())[0] for n, v in more)
            self._refuse(self._answer.status_code, text, head)
            return
        if self.service.full():
            self._refuse(503)
            return
        self._messages.append(({"type": "websocket.connect"}, 0))
        self.service.start(self, self._run(), context, self._scope["path"])

    def _refuse(self, status: int, text: str = "", head: bytes = b"") -> None:
        """The server's own answer, and the connection's end."""
        self.transport.write(wire.plain(status, self.service.common() + head, text))
        self._note(status)
        self.transport.close()

    def _note(self, status: int) -> None:
        self.service.answered()
        if self._asked is not None and self.service.access is not None:
            self.service.access.note(self._asked, status, 0)

    # -- asyncio.Protocol --

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._rest += data
            if len(self._rest) > MOST_BUFFERED and self._reading:
                self._reading = False
                self.transport.pause_reading()  # until it is accepted
            return
        self.service.pongs.discard(self)
        self.service.pings.discard(self)
        self.service.pings.add(self)
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            self._frame(cast(Frame, event))
        self._flush()

    def eof_received(self) -> bool:
        if self._open:
            self._protocol.receive_eof()
            self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        service = self.service
        service.connections.discard(self)
        for deadlines in (service.pings, service.pongs, service.closes):
            deadlines.discard(self)
        self._lost = True
        self._end()
        self.resume_writing()
        if self._denial is not None:
            self._denial.disconnect()

    def pause_writing(self) -> None:
        self.writable = self.service.loop.create_future()
        self._read_on()  # a client that does not read is not read on

    def resume_writing(self) -> None:
        if self.writable is not None:
            room, self.writable = self.writable, None
            room.set_result(None)
            self._read_on()

    # -- what comes --

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._end()
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) or self._ended:
            return
        if frame.opcode is not Opcode.CONT:
            self._binary = frame.opcode is Opcode.BINARY
        self._parts += frame.data
        if frame.fin:
            data, self._parts = bytes(self._parts), bytearray()
            self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        if self._binary:
            message: Message = {"type": "websocket.receive", "bytes": data}
        else:
            try:
                message = {"type": "websocket.receive", "text": data.decode()}
            except UnicodeDecodeError as error:
                self._protocol.fail(1007, f"{error.reason} at position {error.start}")
                self._end()
                return
        self._messages.append((message, len(data) + OVERHEAD))
        self._buffered += len(data) + OVERHEAD
        self._read_on()
        self._wake()

    def _end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._wake()

    def _flush(self) -> None:
        """Send what the protocol has to say, and end with it."""
        if self._lost:
            return
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:  # its end: a server closes first
                self.transport.close()
        if self._protocol.state is not State.OPEN:
            self._end()
            self.service.pings.discard(self)
            self.service.pongs.discard(self)
            if not self._closing and not self.transport.is_closing():
                self._closing = True
                self.service.closes.add(self)
                self._read_on()

    def _read_on(self) -> None:
        if not self._open:
            return
        reading = self._ended or (self._buffered <= MOST_BUFFERED and self.writable is None)
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None

    # -- time --

    def ping_due(self) -> None:
        """Nothing has come for an interval."""
        if not self._reading:  # what it says is not heard, or has yet to follow what it reads
            self.service.pings.add(self)
            return
        self._protocol.send_ping(b"")
        self._flush()
        self.service.pongs.add(self)

    def pong_expired(self) -> None:
        """Nobody is there."""
        if not self._reading:
            self.service.pings.add(self)
            return
        self._protocol.fail(INTERNAL_ERROR, "keepalive ping timeout")
        self._flush()
        self.transport.abort()

    def close_expired(self) -> None:
        """The client does not close after our close."""
        self.transport.abort()

    def drain(self) -> None:
        """See Service.drain."""
        self._restart = True
        if self._open:
            self._close(RESTART, "")

    def _close(self, code: int, reason: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    # -- the application's side --

    async def _run(self) -> None:
        try:
            await self.service.app(self._scope, self.receive, self.send)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.service.closing:
                self._over(RESTART, 503)
                raise
            gone = self._lost or self._protocol.state is not State.OPEN
            if gone and has_left(error):
                let_go(error)
                return
            logger.exception("exception in the application: WebSocket %s", self._name())
            self._over(INTERNAL_ERROR, 500)
        else:
            if not self._open and self._denial is None and not self._lost:
                logger.error(
                    "the application returned without an answer: WebSocket %s", self._name()
                )
            self._over(1000, 500)
        finally:
            self.service.ended(self)

    def _name(self) -> str:
        return str(self._scope.get("raw_path", b"").decode("latin-1"))

    def _over(self, code: int, status: int) -> None:
        """The application has ended, and the connection with it."""
        if self._lost:
            return
        if self._open:
            self._close(code, "")
        elif self._denial is None or self._denial.untouched():
            self._refuse(status)
        elif not self._denial.complete:
            self.transport.abort()

    async def receive(self) -> Message:
        """As the application calls it: websocket.connect, messages, websocket.disconnect."""
        while True:
            if self._messages:
                message, counted = self._messages.popleft()
                self._buffered -= counted
                self._read_on()
                return message
            if self._ended:
                return self._disconnect()
            if self._waiting is None:
                self._waiting = self.service.loop.create_future()
            await asyncio.shield(self._waiting)

    def _disconnect(self) -> Message:
        received, sent = self._protocol.close_rcvd, self._protocol.close_sent
        close = received or (None if self._lost and sent is None else sent)
        code, reason = (close.code, close.reason) if close is not None else (ABNORMAL, "")
        return {"type": "websocket.disconnect", "code": int(code), "reason": reason}

    async def send(self, message: Message) -> None:
        """As the application calls it.

        Raises ClientDisconnected, which is an OSError, when the connection is closed, RuntimeError
        when the message is not one that may come now.
        """
        kind = message["type"]
        if self._lost:
            raise ClientDisconnected("the client is gone")
        if self._denial is not None or (not self._open and kind.startswith("websocket.http.")):
            await self._deny(message)
        elif not self._open:
            if kind == "websocket.accept":
                self._accept(message)
            elif kind == "websocket.close":
                self._denial = Response(self, self._scope)
                await self._denial.send({"type": "http.response.start", "status": 403})
                await self._denial.send({"type": "http.response.body"})
                self._end()
            else:
                raise RuntimeError(f"{kind!r} was sent before 'websocket.accept'")
        elif kind == "websocket.send":
            self._send(message)
            if self.transport.is_closing():  # as Response.send
                await asyncio.sleep(0)
        elif kind == "websocket.close":
            if self._protocol.state is not State.OPEN:
                raise ClientDisconnected("the connection is closed")
            self._close(message.get("code") or 1000, message.get("reason") or "")
        else:
            raise RuntimeError(f"{kind!r} is no message of an open WebSocket")
        if self.writable is not None:
            await asyncio.shield(self.writable)

    async def _deny(self, message: Message) -> None:
        """The extension websocket.http.response."""
        if self._denial is None:
            self._denial = Response(self, self._scope)
        kind = message["type"]
        if not kind.startswith("websocket.http."):
            raise RuntimeError(f"{kind!r} was sent after 'websocket.http.response.start'")
        await self._denial.send({**message, "type": kind.removeprefix("websocket.")})

    def answered(self, response: Response) -> None:
        """The denial is complete."""
        self.service.answered()
        self._end()
        self.transport.close()

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        lines = [wire.STATUS_LINES[101]]
        for name, value in self._answer.headers.raw_items():
            if name.lower() != "date":
                lines.append(wire.field(name.lower().encode(), value.encode())[0])
        if subprotocol is not None:
            if subprotocol not in self._scope["subprotocols"]:
                raise RuntimeError(f"subprotocol {subprotocol!r} is none that the client offers")
            lines.append(wire.field(b"sec-websocket-protocol", subprotocol.encode())[0])
        for name, value in message.get("headers") or ():
            if name.lower() == b"sec-websocket-protocol":
                raise RuntimeError("sec-websocket-protocol is not for headers: use subprotocol")
            lines.append(wire.field(name, value)[0])
        service = self.service
        lines += (service.common(), b"\r\n")
        self.transport.write(b"".join(lines))
        self._note(101)
        self._open = True
        service.pings.add(self)
        rest, self._rest = self._rest, b""
        if rest:
            self.data_received(rest)
        self._read_on()
        if self._restart:
            self._close(RESTART, "")

    def _send(self, message: Message) -> None:
        data, text = message.get("bytes"), message.get("text")
        if (data is None) == (text is None):
            raise RuntimeError("'websocket.send' has either bytes or text")
        if self._protocol.state is not State.OPEN:
            raise ClientDisconnected("the connection is closed")
        if text is not None:
            self._protocol.send_text(text.encode())
        else:
            self._protocol.send_binary(cast(bytes, data))
        self._flush()
