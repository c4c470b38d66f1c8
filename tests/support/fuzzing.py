"""Rules that hold for all bytes from clients: checked by tests/fuzz, and for its findings.

Nothing raises. The output is a row of well-formed responses, after which a refused client gets
nothing more. The application sees no name, value or path with a character that would split a
message. Cuts of the bytes into pieces make no difference, except for 100 Continue. httptools
accepts every message that our parser accepts, with the same result, except for methods that it does
not know, and minor versions after 1.1.
"""

import asyncio
import random
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from aiofastsocket._native.http1 import Connection
from aiofastsocket.server.http.config import HttpConfig
from aiofastsocket.server.http.service import Service

OPTIONS = HttpConfig(
    access_log=False, date_header=False, limit_request_head=2000, limit_request_line=500
)
SPLITTING = frozenset("\r\n\0")


class Wire:
    """A transport that keeps the written data."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.paused = self.ended = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default


def _check_scope(scope: Any) -> None:
    texts = [scope.get("method", "GET"), scope["raw_path"].decode("latin-1")]
    texts.append(scope["query_string"].decode("latin-1"))
    for name, value in scope["headers"]:
        texts += [name.decode("latin-1"), value.decode("latin-1")]
        assert name == name.lower()
        assert b" " not in name
    for text in texts:
        assert not SPLITTING & set(text), text


@dataclass
class Message:
    """A request."""

    method: str = ""
    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class _Oracle:
    """The messages that httptools finds in the same bytes."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._in_head = False

    def on_message_begin(self) -> None:
        self._message = Message()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._message.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer
            self._message.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._message.method = self._parser.get_method().decode()

    def on_body(self, data: bytes) -> None:
        self._message.body += data

    def on_message_complete(self) -> None:
        self.messages.append(self._message)

    def feed(self, data: bytes) -> None:
        self._parser: Any = HttpRequestParser(self)
        with suppress(HttpParserError):
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                # httptools stops before the body of each request for another protocol. The field
                # has no meaning for this body.
                end = upgrade.args[0]
                lines = data[:end].splitlines(keepends=True)
                if any(line.lower().startswith(b"upgrade") for line in lines):
                    self.messages.clear()
                    kept = [x for x in lines if not x.lower().startswith(b"upgrade:")]
                    self.feed(b"".join(kept) + data[end:])


KNOWN = frozenset(
    [
        "DELETE",
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "OPTIONS",
        "TRACE",
        "COPY",
        "LOCK",
        "MKCOL",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "SEARCH",
        "UNLOCK",
        "BIND",
        "REBIND",
        "UNBIND",
        "ACL",
        "REPORT",
        "MKACTIVITY",
        "CHECKOUT",
        "MERGE",
        "M-SEARCH",
        "NOTIFY",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "PATCH",
        "PURGE",
        "MKCALENDAR",
        "LINK",
        "UNLINK",
        "QUERY",
    ]
)
LATER = re.compile(rb" HTTP/1\.[2-9]\r\n")


def _check_against_httptools(data: bytes, ours: list[Message]) -> None:
    oracle = _Oracle()
    oracle.feed(data)
    for number, message in enumerate(ours):
        if message.method not in KNOWN or LATER.search(data):
            return
        assert number < len(oracle.messages), ("httptools refuses", message)
        theirs = oracle.messages[number]
        assert message.method == theirs.method
        assert message.body == theirs.body
        absolute = theirs.target[:1] not in (b"/", b"*")
        if absolute:
            for headers in (message.headers, theirs.headers):
                headers[:] = [pair for pair in headers if pair[0] != b"host"]
        else:
            path, _, query = theirs.target.partition(b"#")[0].partition(b"?")
            assert message.target == (path + b"?" + query if query else path)
        assert message.headers == theirs.headers


async def _application(scope: Any, receive: Any, send: Any) -> None:
    _check_scope(scope)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
        return
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    seen = Message(scope["method"], target, list(scope["headers"]))
    size, message = 0, await receive()
    while message["type"] == "http.request":
        size += len(message["body"])
        seen.body += message["body"]
        if not message["more_body"]:
            scope["state"]["seen"].append(seen)
            break
        message = await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d" % size})


class _Responses:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _check_written(written: bytes, seen: list[Message]) -> None:
    """Check that these are responses to these requests, and perhaps a refusal of the next."""
    written = written.partition(b"HTTP/1.1 101 ")[0]  # frames follow
    assert b"connection: close" not in written.rpartition(b"HTTP/1.1 ")[0], "more after the last"
    rest = written
    for message in seen:
        length = re.search(
            rb"\ncontent-length: (\d+)\r\n", rest.partition(b"\r\n\r\n")[0] + b"\r\n"
        )
        assert length, rest
        end = rest.index(b"\r\n\r\n") + 4
        if message.method != "HEAD":
            end += int(length[1])
            assert _responses(rest[:end]) == 1
        rest = rest[end:]
    assert not rest or _responses(rest) == 1


def _responses(written: bytes) -> int:
    """The number of responses that the parser finds."""
    responses = _Responses()
    HttpResponseParser(responses).feed_data(written)
    return responses.complete


async def _serve(pieces: list[bytes], seen: list[Message]) -> tuple[bytes, bool]:
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    service = Service(loop, _application, OPTIONS)
    service.state["seen"] = seen
    wire = Wire()
    wire.protocol = Connection(service)
    wire.protocol.connection_made(wire)
    for piece in pieces:
        for _ in range(100):
            if wire.closed or not wire.paused:
                break
            await asyncio.sleep(0)
        if wire.closed:
            break
        assert not wire.paused, "reading is never resumed"
        wire.protocol.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    # Whether 100 Continue is sent depends on the data received by then (RFC 9110, 10.1.1).
    written = wire.written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    result = written, wire.closed or wire.ended
    wire.protocol.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not service.tasks, "a task outlives its connection"
    assert not service.connections
    await service.close()
    assert not raised, raised
    return result


def check(data: bytes) -> None:
    """Raise AssertionError, or the original error, if a rule does not hold for these bytes."""
    seen: list[Message] = []
    whole = asyncio.run(_serve([data], seen))
    _check_against_httptools(data, seen)
    _check_written(whole[0], seen)
    chance = random.Random(data)
    places = range(1, len(data))
    cuts = sorted(chance.sample(places, min(len(places), 4)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert asyncio.run(_serve(pieces, [])) == whole, pieces
    if len(data) < 300:
        assert asyncio.run(_serve([data[i : i + 1] for i in range(len(data))], [])) == whole
