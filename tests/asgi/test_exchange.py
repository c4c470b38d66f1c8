"""Uses of receive() and send() that an application may make, and misuses that break nothing.

The transport is the test's own: the test decides when the loop turns.
"""

import asyncio
import gc
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest
from support.fuzzing import Wire

from aiofastsocket._native.http1 import Connection
from aiofastsocket.errors import ClientDisconnected
from aiofastsocket.server.http.config import HttpConfig
from aiofastsocket.server.http.service import Service

Application = Callable[[Any, Any, Any], Awaitable[object]]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
START = {"type": "http.response.start", "status": 200}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
LAST = {"type": "http.response.body", "body": b"last"}


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame of a client, with a mask of zeros, which changes nothing."""
    assert len(data) < 126
    return bytes([0x80 * fin | opcode, 0x80 | len(data)]) + bytes(4) + data


class Peer:
    """A connection and the bytes that it wrote; the test is the client."""

    def __init__(self, app: Application) -> None:
        loop = asyncio.get_running_loop()
        options = HttpConfig(access_log=False, date_header=False, server_header=False)
        self.service = Service(loop, app, options)
        self.wire = Wire()
        self.wire.protocol = Connection(self.service)
        self.wire.protocol.connection_made(self.wire)

    async def say(self, data: bytes, turns: int = 100) -> bytes:
        """Feed data to the connection; return the bytes that it writes in answer."""
        before = len(self.wire.written)
        self.wire.protocol.data_received(data)
        await self.turn(turns)
        return self.wire.written[before:]

    async def turn(self, turns: int = 100) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def leave(self) -> None:
        protocol, self.wire.protocol = self.wire.protocol, None
        protocol.connection_lost(None)
        await self.turn()
        assert not self.service.tasks
        assert not self.service.connections
        await self.service.close()


async def whole(send: Any, data: bytes = b"ok") -> None:
    await send(START)
    await send({"type": "http.response.body", "body": data})


pytestmark = pytest.mark.asyncio

WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "create_task": asyncio.create_task,
    "ensure_future": asyncio.ensure_future,
    "wait_for": lambda it: asyncio.wait_for(it, 10),
    "shield": asyncio.shield,
    "python": lambda it: asyncio.tasks._PyTask(it),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("way", WAYS)
async def test_they_are_coroutines_to_asyncio(way: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await WAYS[way](receive()))
        for message in (START, PART, PART, LAST):  # PART twice: no call leaves state for the next
            seen.append(await WAYS[way](send(message)))
        async with asyncio.TaskGroup() as group:
            told = group.create_task(receive())
        seen.append(told.result()["type"])
        seen.append([m["type"] for m in await asyncio.gather(receive(), receive())])

    peer = Peer(app)
    answer = await peer.say(POST + b"abc")
    assert answer.endswith(b"4\r\npart\r\n4\r\npart\r\n4\r\nlast\r\n0\r\n\r\n")
    assert seen[0] == {"type": "http.request", "body": b"abc", "more_body": False}
    assert seen[1:] == [None] * 4 + ["http.disconnect", ["http.disconnect"] * 2]
    await peer.leave()


async def test_they_also_work_as_generators() -> None:
    class Own:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield from self._inner.__await__())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await Own(receive()))["type"] == "http.request"
        await Own(send(START))
        task = asyncio.current_task()
        assert task is not None
        assert inspect.getcoroutinestate(task.get_coro()) == "CORO_RUNNING"  # type: ignore[arg-type]
        assert "app" in repr(task)
        for _ in range(2):
            with pytest.raises(StopIteration):
                send(PART).send(None)
        taken = receive()
        taken.close()
        with pytest.raises(RuntimeError, match="already awaited"):
            await taken
        with pytest.raises(KeyError):
            receive().throw(KeyError("x"))
        await send(LAST)

    peer = Peer(app)
    assert (await peer.say(GET)).endswith(b"0\r\n\r\n")
    await peer.leave()


async def test_the_awaiting_task_gets_the_message() -> None:
    """A receive() that is not awaited, or is cancelled before the message comes, takes none."""
    seen, ready = [], asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        waiting = [asyncio.create_task(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        ready.set()
        seen.append((await waiting[1])["body"])
        await whole(send)

    peer = Peer(app)
    await peer.say(POST)
    await ready.wait()
    assert (await peer.say(b"abc")).endswith(b"ok")
    assert seen == [b"abc"]
    await peer.leave()


@pytest.mark.parametrize("data", [POST, HANDSHAKE], ids=["http", "websocket"])
async def test_waiting_in_vain_leaves_nothing(data: bytes) -> None:
    """Starlette does this to find out whether its client has left."""

    def waiters() -> int:
        return Counter(type(o).__name__ for o in gc.get_objects())["Waiter"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        before = waiters()
        for _ in range(200):
            with anyio.CancelScope() as scope_of_it:
                scope_of_it.cancel()
                await receive()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0)
        assert waiters() <= before + 2
        await receive()

    peer = Peer(app)
    await peer.say(data, 2000)
    await peer.leave()


async def test_send_of_another_thread_runs_in_the_loops() -> None:
    """The next request's application, which it starts, runs in the loop's thread, too."""
    threads = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        threads.append(threading.current_thread())
        loop = asyncio.get_running_loop()
        for message in (START, LAST):
            await asyncio.to_thread(
                lambda m: asyncio.run_coroutine_threadsafe(send(m), loop).result(10), message
            )

    peer = Peer(app)
    peer.wire.protocol.data_received(GET + GET)
    while peer.wire.written.count(b"last") < 2 or peer.service.tasks:
        await asyncio.sleep(0.001)
    assert set(threads) == {threading.current_thread()}
    await peer.leave()


async def test_a_task_does_not_go_on_with_itself() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        own: Any = task.get_coro()
        for use in (lambda: own.send(None), own.close, lambda: own.throw(KeyError())):
            with pytest.raises(ValueError, match="already executing"):
                use()
        await whole(send)

    peer = Peer(app)
    assert (await peer.say(GET)).endswith(b"ok")
    await peer.leave()


async def test_the_return_value_is_ignored() -> None:
    """If logging raises after a run has failed, the task ends with that error."""

    class Raises(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise LookupError("no log today")

    async def app(scope: Any, receive: Any, send: Any) -> object:
        return ["something", object()]

    logger, raises = logging.getLogger("aiofastsocket"), Raises()
    logger.addFilter(raises)
    try:
        peer = Peer(app)
        peer.wire.protocol.data_received(GET)
        tasks = [exchange.task for exchange in peer.service.tasks]
        await peer.turn()
        for task in tasks:
            assert task is not None
            assert isinstance(task.exception(), LookupError)
    finally:
        logger.removeFilter(raises)
    peer.wire.protocol.connection_lost(None)
    await peer.service.close()


async def test_headers_may_be_a_generator_but_not_send() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        def headers() -> Iterator[tuple[bytes, bytes]]:
            yield b"x-one", b"1"
            yield b"x-two", b"2"

        def sends() -> Iterator[tuple[bytes, bytes]]:
            file = {"type": "http.response.pathsend", "path": __file__}
            for message, error in (
                (START, RuntimeError),
                (LAST, RuntimeError),
                (file, RuntimeError),
            ):
                with pytest.raises(error):
                    send(message).send(None)
            yield b"x", b"y"

        if scope["path"] == "/":
            await send({**START, "headers": headers()})
            await send(LAST)
        else:
            await send({**START, "headers": sends()})
            await send(LAST)

    peer = Peer(app)
    answer = await peer.say(GET)
    assert b"x-one: 1\r\nx-two: 2\r\n" in answer
    answer = await peer.say(GET.replace(b"/ ", b"/sends "))
    assert b"x: y\r\n" in answer
    assert answer.endswith(b"\r\n\r\nlast")
    await peer.leave()


@pytest.mark.parametrize("value", [None, 1, "text\u20ac"])
@pytest.mark.parametrize("where", ["headers", "trailers", "hints", "accept"])
async def test_header_values_that_are_not_bytes(where: str, value: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if where == "accept":
            await send({"type": "websocket.accept", "headers": [(b"x", value)]})
        elif where == "hints":
            await send({"type": "http.response.early_hint", "links": [value]})
        elif where == "headers":
            await send({**START, "headers": [(b"x", value)]})
        else:
            await send({**START, "trailers": True})
            await send(LAST)
            await send({"type": "http.response.trailers", "headers": [(b"x", value)]})

    peer = Peer(app)
    te = GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n")
    answer = await peer.say(HANDSHAKE if where == "accept" else te)
    assert not answer.endswith(b"0\r\n\r\n")
    if where != "trailers":
        assert answer.startswith(b"HTTP/1.1 500")
    await peer.leave()


async def test_a_file_cannot_have_trailers(tmp_path: Any) -> None:
    """A file is sent without chunks: with trailers, its content would count as framing."""
    (tmp_path / "file").write_bytes(b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})
        await send({"type": "http.response.trailers", "headers": [(b"x", b"y")]})

    peer = Peer(app)
    answer = await peer.say(GET.replace(b"\r\n\r\n", b"\r\nTE: trailers\r\n\r\n"))
    assert b"content-length: 24\r\n" in answer
    assert b"chunked" not in answer
    peer.wire.protocol.connection_lost(None)
    await peer.turn()


async def test_a_file_that_comes_too_late(tmp_path: Any) -> None:
    """send() checks the order of messages when it is awaited, not when it is called."""
    (tmp_path / "file").write_bytes(b"file")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/2":
            await asyncio.sleep(0.01)
        await send(START)
        late = send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="after the response was complete"):
            await late

    peer = Peer(app)
    peer.wire.protocol.data_received(b"".join(GET.replace(b"/ ", b"/%d " % i) for i in (1, 2, 3)))
    await asyncio.sleep(0.1)
    bodies = [part.partition(b"HTTP")[0] for part in peer.wire.written.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"/1", b"/2", b"/3"]
    await peer.leave()


async def test_a_client_that_leaves_before_a_websocket_is_accepted() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["type"])
        seen.append((await receive())["type"])
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})

    peer = Peer(app)
    await peer.say(HANDSHAKE)
    assert not peer.wire.protocol.eof_received()
    await peer.turn()
    assert seen == ["websocket.connect", "websocket.disconnect"]
    await peer.leave()


async def test_a_frame_with_the_handshake_reaches_a_waiting_receive() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "websocket.accept"})
        assert (await waiting)["text"] == "hi"
        await send({"type": "websocket.send", "text": "heard"})

    peer = Peer(app)
    assert b"heard" in await peer.say(HANDSHAKE + frame(1, b"hi"))
    await peer.leave()


async def test_a_websockets_objects_are_free_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            await whole(send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def once(data: bytes) -> None:
        peer = Peer(app)
        await peer.say(data)
        await peer.leave()

    def ours() -> Counter[str]:
        kinds = {"Connection", "Exchange", "Handshake", "WebSocket", "Run", "Waiter", "Receive"}
        return Counter(n for o in gc.get_objects() if (n := type(o).__name__) in kinds)

    gc.collect()
    gc.disable()
    try:
        before = ours()
        for data in (GET, POST + b"abc", (POST + b"abc") * 2, HANDSHAKE + frame(1, b"x")):
            await once(data)
            assert ours() == before, data
    finally:
        gc.enable()


async def test_a_frame_in_pieces_is_put_together_once() -> None:
    """A frame is not put together again with each of its pieces."""
    size = 1 << 20
    heard = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard.append(len((await receive())["bytes"]))

    peer = Peer(app)
    await peer.say(HANDSHAKE)
    data = bytes([0x82, 0x80 | 127]) + size.to_bytes(8, "big") + bytes(4 + size)
    for at in range(0, len(data), 100):
        peer.wire.protocol.data_received(data[at : at + 100])
    await peer.turn()
    assert heard == [size]
    await peer.leave()


async def test_an_application_that_cannot_be_awaited() -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        return None

    peer = Peer(app)
    assert (await peer.say(GET)).startswith(b"HTTP/1.1 500")
    await peer.leave()


async def _serves(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await whole(send)


@pytest.mark.parametrize(("cut", "behind"), [(False, b""), (False, b"x"), (True, b"")])
@pytest.mark.parametrize("head", [GET, POST])
async def test_a_last_request_ends_at_once_unless_more_came(
    head: bytes, behind: bytes, cut: bool
) -> None:
    """An end that waits for the client costs four system calls."""
    last = head.replace(b"Host", b"Connection: close\r\nHost")
    data = last + (b"abc" if head is POST else b"") + behind
    peer = Peer(_serves)
    for piece in [bytes([byte]) for byte in data] if cut else [data]:
        peer.wire.protocol.data_received(piece)
    await peer.turn()
    assert (peer.wire.closed, peer.wire.ended) == (not behind, bool(behind))
    await peer.leave()
