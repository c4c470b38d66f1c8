"""One TCP connection: requests come in, are answered in their order, and it goes on or ends.

httptools calls back while it is fed (llhttp's strict mode refuses most of what smuggles: what it
lets through and we do not is in `_check`). Nothing runs inside of those calls: they queue what
came, and it is started when the parser is done with the data.
"""

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Any, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from . import wire
from .deadlines import Deadlines
from .request import Request
from .scope import (
    Address,
    Headers,
    Scope,
    split_target,
    text_of,
)
from .service import Service
from .websocket import WebSocket

_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")}
_FRAMING = (b"transfer-encoding", b"content-length", b"expect", b"upgrade")
_CHECKED = frozenset((b"host", *_FRAMING, b"x-forwarded-for", b"x-forwarded-proto"))


MOST_DISCARDED = 1 << 20
"""Bytes of bodies that nobody asked for, before a connection is given up."""


class Refused(Exception):
    """The client gets this status and no further request is looked at."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Connection(asyncio.Protocol):
    """The protocol of a connection.

    scheme: "http", or "https" over TLS. server: the address it was made to, if that is known.
    """

    __slots__ = (
        "_begun",
        "_context",
        "_discarded",
        "_due",
        "_eof",
        "_fields",
        "_handshake",
        "_headers",
        "_heard",
        "_incoming",
        "_last",
        "_parser",
        "_queue",
        "_reading",
        "_running",
        "_scheme",
        "_server",
        "_starting",
        "_unheard",
        "_url",
        "service",
        "transport",
        "writable",
    )

    def __init__(self, service: Service, scheme: str = "http", server: Address = None) -> None:
        self.service = service
        self._scheme = scheme
        self._server = server
        self.writable: asyncio.Future[None] | None = None  # who waits for room, while there is none
        self._parser: Any = HttpRequestParser(self)
        self._queue: deque[Request | Refused | WebSocket] = deque()
        self._running: Request | None = None
        self._incoming: Request | None = None  # whose body comes
        self._starting = False
        self._reading = True
        self._last = False  # what comes now is not looked at
        self._eof = False
        self._begun = False  # a head has
        self._fields = 0
        self._unheard = 0  # bytes that the parser was fed and said nothing of
        self._heard = False  # it was more than a head's beginning
        self._discarded = 0
        self._url = b""
        self._headers: Headers = []
        self._handshake: Scope | None = None
        self._due: Deadlines | None = None

    # -- asyncio.Protocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.service.connections.add(self)
        self._context = copy_context()  # a request is not to find what the one before has set
        self._wait_until(self.service.last_calls if self.service.draining else self.service.heads)

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.connections.discard(self)
        self._wait_until(None)
        self._last = True
        self._parser = None  # it refers to us: without, nobody has to look for cycles
        self._queue.clear()
        running, self._running, self._incoming = self._running, None, None
        if running is not None:
            running.disconnect()
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
        try:
            self._feed(data)
        except Refused as refused:
            self._refuse(refused)
        if self._running is None:
            self._next()
        elif self._incoming is not None or self._queue:
            self.read_on()

    def _feed(self, data: bytes) -> None:
        self._heard = False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if not self._last:
                self._upgraded(data[upgrade.args[0] :])
        except HttpParserError as error:
            # Our own come wrapped. What follows a request that ends the connection is no error.
            if isinstance(error.__context__, Refused):
                raise error.__context__ from None
            if not self._last:
                raise Refused(400, f"{error}") from None
        if self._begun or self._incoming is not None:
            # What the parser keeps to itself has a limit: a field, a chunk's extensions, a trailer.
            self._unheard = 0 if self._heard else self._unheard + len(data)
            if self._unheard > self.service.most_unheard:
                raise Refused(431, "the request's head is too long")
            if self._begun and self._due is not self.service.heads:
                self._wait_until(self.service.heads)

    # -- httptools' callbacks --

    def on_message_begin(self) -> None:
        self._begun = True
        self._url = b""
        self._headers = []
        self._fields = 0
        self._unheard = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self.service.options.limit_request_line:
            raise Refused(414, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._begun:  # else a trailer, which nobody asks for
            self._headers.append((name.lower(), value))
            self._fields += len(name) + len(value)

    def on_headers_complete(self) -> None:
        self._begun = False
        limits = self.service.options
        if self._fields > limits.limit_request_head:
            raise Refused(431, "the request's head is too long")
        if len(self._headers) > limits.limit_request_fields:
            raise Refused(431, "the request has too many header fields")
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not spoken here")
        method = parser.get_method()
        if method in (b"CONNECT", b"SOURCE"):
            raise Refused(501, f"{method.decode()} is not for this server")
        if self._last:
            return
        self._discarded = 0
        try:
            path, query, authority = split_target(self._url, method)
        except ValueError as error:
            raise Refused(400, f"{error}") from None
        hosts, expect, body, protocol, forwarded = self._check(version, authority)
        expect = expect and version == "1.1"
        if parser.should_upgrade():
            # RFC 6455, 4.2.1; what is none is served as if nobody had asked.
            if (method, version, hosts, body, protocol) == (b"GET", "1.1", 1, False, b"websocket"):
                self._handshake = self._websocket_scope(version, path, query, forwarded)
            return  # see _upgraded
        if version == "1.1" and hosts != 1:
            raise Refused(400, "a request names its host once")
        keep_alive = parser.should_keep_alive()
        request = Request(
            self,
            self._scope(version, _METHODS.get(method) or method.decode(), path, query, forwarded),
            keep_alive=keep_alive,
            expect=expect,
            body=body,
        )
        self._queue.append(request)
        self._incoming = request
        self._last = not keep_alive and not body
        # Who waits for 100 Continue sends nothing before: see await_body.
        self._wait_until(self.service.bodies if body and not expect else None)

    def on_body(self, data: bytes) -> None:
        incoming = self._incoming
        self._heard = True
        if incoming is not None:
            incoming.body_received(data)
            self._wait_until(self.service.bodies)
            if incoming.complete:  # nobody asks for it
                self._discarded += len(data)
                if self._discarded > MOST_DISCARDED:
                    self._finish()

    def on_message_complete(self) -> None:
        self._heard = True
        if self._incoming is not None:
            self._incoming.body_complete()
            self._last |= not self._incoming.keep_alive
            self._incoming = None
            self._wait_until(None)

    def _check(self, version: str, authority: bytes) -> tuple[int, bool, bool, bytes, bool]:
        """How often the host is named, whether the client waits for 100 Continue, whether there is
        a body, what protocol it would like better, and whether a proxy says who it is."""
        hosts, expect, body, protocol, forwarded = 0, False, False, b"", False
        headers = self._headers
        for at, (name, value) in enumerate(headers):
            if name not in _CHECKED:
                continue
            if name == b"host":
                hosts += 1
                if authority:  # RFC 9112, 3.2.2: it goes before what the field says
                    headers[at] = name, authority
            elif name == b"transfer-encoding":
                if version == "1.0":  # RFC 9112, 6.1: framing that is not to be believed
                    raise Refused(400, "Transfer-Encoding in a request of HTTP/1.0")
                if value.lower() != b"chunked":
                    raise Refused(501, "Transfer-Encoding: only chunked is spoken here")
                body = True
            elif name == b"content-length":
                body |= value != b"0"
            elif name == b"expect":
                expect = value.lower() == b"100-continue"
            elif name == b"upgrade":
                protocol = value.lower()
            else:
                forwarded = True
        return hosts, expect, body, protocol, forwarded

    def _scope(
        self, version: str, method: str, path: bytes, query: bytes, forwarded: bool
    ) -> Scope:
        transport, root = self.transport, self.service.options.root_path
        text = text_of(path)
        client = _address(transport.get_extra_info("peername"))
        scheme = self._scheme
        if forwarded and self.service.proxies is not None:
            client, scheme = self.service.proxies.heed(self._headers, client, scheme)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": version,
            "method": method,
            "scheme": scheme,
            "path": root + text if root else text,
            "raw_path": root.encode() + path if root else path,
            "query_string": query,
            "root_path": root,
            "headers": self._headers,
            "client": client,
            "server": self._server or _address(transport.get_extra_info("sockname")),
            "state": self.service.state.copy(),
            "extensions": {"http.response.pathsend": {}},
        }

    def _websocket_scope(self, version: str, path: bytes, query: bytes, forwarded: bool) -> Scope:
        scope = self._scope(version, "GET", path, query, forwarded)
        del scope["method"]
        offered = [v for n, v in self._headers if n == b"sec-websocket-protocol"]
        names = b",".join(offered).decode("latin-1").split(",")
        return scope | {
            "type": "websocket",
            "scheme": "ws" if scope["scheme"] == "http" else "wss",
            "subprotocols": [name.strip() for name in names if name.strip()],
            "extensions": {"websocket.http.response": {}},
        }

    def _upgraded(self, rest: bytes) -> None:
        """The parser has stopped at a request for another protocol. WebSocket gets the connection
        when what came before is answered. For others the request is parsed once more without the
        field: whoever does not know a protocol goes on as if nobody had asked (RFC 9110, 7.8)."""
        if self._handshake is not None:
            self._last = True
            self._queue.append(
                WebSocket(
                    self.service, self.transport, self._handshake, self._url, self._headers, rest
                )
            )
            return
        version = self._parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version.encode())]
        lines += [b"%b: %b" % pair for pair in self._headers if pair[0] != b"upgrade"]
        self._parser = HttpRequestParser(self)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # -- one after the other --

    def _next(self) -> None:
        """Start what has come, until something takes its time."""
        self._starting = True
        while self._queue and self.writable is None:
            what = self._queue.popleft()
            if isinstance(what, Refused):
                self.refuse(what)
                break
            if isinstance(what, WebSocket):
                self._hand_over(what)
                return
            self._running = what
            if what is not self._incoming and self._due is not self.service.bodies:
                self._wait_until(None)
            what.start(self._context.copy())
            if self._running is not None:
                break
        self._starting = False
        if self._running is None:
            self._rest()
        else:
            self.read_on()

    def _rest(self) -> None:
        """Nothing is under way."""
        if self.transport.is_closing() or self.writable is not None:
            return
        if self._last or self._eof:
            self._finish()
            return
        self.read_on()
        if self._due is None and self._incoming is None:
            service = self.service
            self._wait_until(service.last_calls if service.draining else service.idle)

    def _finish(self) -> None:
        """End it when the client has what was sent: a close while it still sends would reset the
        connection, and with it what it has not read yet (RFC 9112, 9.6)."""
        self._last = True
        if self._incoming is None or self._eof or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self._wait_until(self.service.last_calls)

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
        if not self._starting:
            self._next()

    def cut(self) -> None:
        """End it here: the response cannot be completed. The client sees that by the missing end of
        a chunked body, or the length that is not reached; without either only by a reset."""
        self._last = True
        self.transport.abort()

    def refuse(self, refused: Refused) -> None:
        """Send the status, and end."""
        if self._running is not None:
            self._running.disconnect()
        if self.service.access is not None:
            client = _address(self.transport.get_extra_info("peername"))
            self.service.access.refused(client, refused.status)
        self.transport.write(wire.plain(refused.status, self.service.date(), f"{refused}"))
        self._finish()

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
        reading = (
            not self._queue and self.writable is None and (incoming is None or not incoming.full())
        )
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            if reading:
                self.transport.resume_reading()
                if incoming is not None:
                    self._wait_until(self.service.bodies)
            else:
                self.transport.pause_reading()
                if self._due is self.service.bodies:  # now it is us whom the client waits for
                    self._wait_until(None)

    def await_body(self) -> None:
        """The client was told to send it."""
        self._wait_until(self.service.bodies)

    # -- time --

    def _wait_until(self, deadlines: Deadlines | None) -> None:
        if self._due is not None and self._due is not deadlines:
            self._due.discard(self)
        self._due = deadlines
        if deadlines is not None:
            deadlines.add(self)

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


def _address(name: object) -> Address:
    """A socket's name as scopes have it; unix(7) clients have none."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
