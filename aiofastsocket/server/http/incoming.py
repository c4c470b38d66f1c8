"""What a client sends becomes requests, in their order; what is none is refused.

httptools calls back while it is fed (llhttp's strict mode refuses most of what smuggles: what it
lets through and we do not is in `_check`). Nothing runs inside of those calls: they queue what
came, and it is started when the parser is done with the data.
"""

import asyncio
from collections import deque
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from .deadlines import Deadlines
from .request import Request, Source
from .scope import Address, Headers, Scope, split_target, text_of
from .service import Service
from .websocket import WebSocket

_METHODS = {name.encode(): name for name in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")}
_FOR_PROXIES = "CONNECT"
# llhttp takes these from ICE and RTSP alone, and calls their versions HTTP's.
_OF_OTHERS = (
    "SOURCE ANNOUNCE DESCRIBE FLUSH GET_PARAMETER PAUSE PLAY RECORD REDIRECT SETUP SET_PARAMETER "
    "TEARDOWN"
)
_NOT_SERVED = frozenset((_FOR_PROXIES, *_OF_OTHERS.split()))
_FRAMING = (b"transfer-encoding", b"content-length", b"expect", b"upgrade")
_CHECKED = frozenset((b"host", *_FRAMING, b"x-forwarded-for", b"x-forwarded-proto"))

MOST_DISCARDED = 1 << 20
"""Bytes of bodies that nobody asked for, before a connection is given up."""


class Refused(Exception):
    """The client gets this status and no further request is looked at."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Incoming(asyncio.Protocol, Source):
    """The half of a connection that is fed.

    scheme: "http", or "https" over TLS. server: the address it was made to, if that is known.
    """

    __slots__ = (
        "_begun",
        "_client",
        "_discarded",
        "_due",
        "_fed",
        "_handshake",
        "_headers",
        "_heard",
        "_incoming",
        "_last",
        "_most_fields",
        "_parser",
        "_queue",
        "_scheme",
        "_server",
        "_unheard",
        "_url",
        "service",
        "transport",
    )

    def __init__(self, service: Service, scheme: str, server: Address) -> None:
        self.service = service
        self._scheme = scheme
        self._server = server
        self._client: Address = None
        self._parser: Any = HttpRequestParser(self)
        self._queue: deque[Request | Refused | WebSocket] = deque()
        self._incoming: Request | None = None  # whose body comes
        self._last = False  # what comes now is not looked at
        self._begun = False  # a head has
        self._fed = 0  # bytes, at most, that are of this head
        self._unheard = 0  # bytes that the parser was fed and said nothing of
        self._heard = False  # it was more than a head's beginning
        self._discarded = 0
        self._url = b""
        self._headers: Headers = []
        self._most_fields = service.options.limit_request_fields
        self._handshake: Scope | None = None
        self._due: Deadlines | None = None

    def _finish(self) -> None:
        """End it; what comes now is not looked at."""

    def _wait_until(self, deadlines: Deadlines | None) -> None:
        """For the next thing that is to come, and no more for the one before."""
        if self._due is not None:
            self._due.discard(self)
        self._due = deadlines
        if deadlines is not None:
            deadlines.add(self)

    def _feed(self, data: bytes) -> bytes | None:
        """None, or what is to be fed next: see _upgraded."""
        self._heard = False
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            if not self._last:
                return self._upgraded(data[upgrade.args[0] :])
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
        else:
            self._unheard = 0
        if not self._begun:
            self._fed = 0
        return None

    # -- httptools' callbacks --

    def on_message_begin(self) -> None:
        self._begun = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self.service.options.limit_request_line:
            raise Refused(414, "the request's target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        headers.append((name.lower(), value))
        if len(headers) > self._most_fields:  # now: each takes more here than on its way
            raise Refused(431, "the request has too many header fields")

    def on_headers_complete(self) -> None:
        self._begun = False
        limits, headers = self.service.options, self._headers
        # Who was fed no more than that in all need not be asked for the sum.
        if self._fed > limits.limit_request_head and limits.limit_request_head < sum(
            len(name) + len(value) for name, value in headers
        ):
            raise Refused(431, "the request's head is too long")
        parser = self._parser
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused(505, f"HTTP/{version} is not spoken here")
        method = parser.get_method()
        name = _METHODS.get(method) or method.decode()
        if name in _NOT_SERVED:
            raise Refused(501, f"{name} is not for this server")
        if self._last:
            return
        try:
            path, query, authority = split_target(self._url, method)
        except ValueError as error:
            raise Refused(400, f"{error}") from None
        hosts, expect, body, protocol, forwarded = self._check(version, authority)
        if parser.should_upgrade():
            # RFC 6455, 4.2.1; what is none is served as if nobody had asked.
            asked = (method, version, hosts, body, protocol)
            served = self.service.options.ws != "none"
            if served and asked == (b"GET", "1.1", 1, False, b"websocket"):
                self._handshake = self._websocket_scope(version, path, query, forwarded)
            return  # see _upgraded
        if version == "1.1" and hosts != 1:
            raise Refused(400, "a request names its host once")
        keep_alive = parser.should_keep_alive()
        request = Request(
            self,
            self._scope(version, name, path, query, forwarded),
            keep_alive=keep_alive,
            expect=expect,
            body=body,
        )
        self._queue.append(request)
        if body:
            self._incoming = request
            self._headers = []  # of trailers, which nobody asks for
            self._discarded = 0
        else:
            self._last = not keep_alive
        # Who waits for 100 Continue sends nothing before: see await_body.
        if body and not expect:
            self._wait_until(self.service.bodies)
        elif self._due is not None:
            self._wait_until(None)

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

    # -- what they make --

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
                expect = version == "1.1" and value.lower() == b"100-continue"
            elif name == b"upgrade":
                protocol = value.lower()
            else:
                forwarded = True
        return hosts, expect, body, protocol, forwarded

    def _scope(
        self, version: str, method: str, path: bytes, query: bytes, forwarded: bool
    ) -> Scope:
        root, text = self.service.options.root_path, text_of(path)
        client, scheme = self._client, self._scheme
        if forwarded and self.service.proxies is not None:
            client, scheme = self.service.proxies.heed(self._headers, client, scheme)
        return {
            "type": "http",
            # All of 2.5 is there. But who is told 2.4 (Starlette, FastAPI) waits for the error that
            # send() raises then, and a stream without news would never hear that its client left.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": scheme,
            "path": root + text if root else text,
            "raw_path": root.encode() + path if root else path,
            "query_string": query,
            "root_path": root,
            "headers": self._headers,
            "client": client,
            "server": self._server,
            "state": self.service.state.copy(),
            # sendfile(2) does not encrypt.
            "extensions": {"http.response.pathsend": {}} if self._scheme == "http" else {},
        }

    def _websocket_scope(self, version: str, path: bytes, query: bytes, forwarded: bool) -> Scope:
        scope = self._scope(version, "GET", path, query, forwarded)
        del scope["method"]
        offered = [v for n, v in self._headers if n == b"sec-websocket-protocol"]
        names = b",".join(offered).decode("latin-1").split(",")
        return scope | {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "scheme": "ws" if scope["scheme"] == "http" else "wss",
            "subprotocols": [name.strip() for name in names if name.strip()],
            "extensions": {"websocket.http.response": {}},
        }

    def _upgraded(self, rest: bytes) -> bytes | None:
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
            return None
        version = self._parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version.encode())]
        lines += [b"%b: %b" % pair for pair in self._headers if pair[0] != b"upgrade"]
        self._parser = HttpRequestParser(self)
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest


def address_of(name: object) -> Address:
    """A socket's name as scopes have it; unix(7) clients have none."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
