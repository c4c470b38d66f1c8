"""What holds for whatever bytes a client sends: checked by tests/fuzz, and for what that found.

Nothing raises; what is written is a row of well-formed responses, after which a refused client gets
nothing more; the application sees no name, value or path with what would split a message; and how
the bytes are cut into pieces makes no difference.
"""

import asyncio
import random
from typing import Any

from httptools import HttpResponseParser

from aiofastsocket.server.http.config import HttpConfig
from aiofastsocket.server.http.connection import Connection
from aiofastsocket.server.http.service import Service

OPTIONS = HttpConfig(
    access_log=False, date_header=False, limit_request_head=2000, limit_request_line=500
)
SPLITTING = frozenset("\r\n\0")


class Wire:
    """A transport that keeps what is written."""

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


async def _application(scope: Any, receive: Any, send: Any) -> None:
    _check_scope(scope)
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
        return
    size, message = 0, await receive()
    while message["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
        message = await receive()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d" % size})


class _Responses:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _check_written(written: bytes) -> None:
    head = written.partition(b"\r\n\r\n")[0]
    if head.startswith(b"HTTP/1.1 101 "):
        return  # frames follow
    responses = _Responses()
    parser = HttpResponseParser(responses)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    parser.feed_data(written)
    assert b"connection: close" not in written.rpartition(b"HTTP/1.1 ")[0], "more after the last"
    if written:
        assert responses.complete > 0


async def _serve(pieces: list[bytes]) -> tuple[bytes, bool]:
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    service = Service(loop, _application, OPTIONS)
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
    result = wire.written, wire.closed or wire.ended
    wire.protocol.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not service.tasks, "a task outlives its connection"
    assert not service.connections
    await service.close()
    assert not raised, raised
    return result


def check(data: bytes) -> None:
    """AssertionError, or whatever was raised, if it does not hold for these bytes."""
    whole = asyncio.run(_serve([data]))
    if not whole[0].startswith(b"HTTP/1.1 101 "):
        _check_written(whole[0])
    chance = random.Random(data)
    places = range(1, len(data))
    cuts = sorted(chance.sample(places, min(len(places), 4)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert asyncio.run(_serve(pieces)) == whole, pieces
    if len(data) < 300:
        assert asyncio.run(_serve([data[i : i + 1] for i in range(len(data))])) == whole
