"""Data written to a server's transport arrives: from anywhere, of any kind, in order."""

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import threading
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.protocols import (
    LIKE_ASYNCIO,
    MIB,
    SOUND_WRITERS,
    Client,
    Notes,
    Plain,
    connected,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
DATA = random.Random(6).randbytes(8 * MIB)


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"not all of this")[4:7],
        memoryview(array("I", [1, 2, 3])),
        DATA[: MIB + 1],
        bytearray(DATA[:MIB]),
        memoryview(DATA)[1 : 2 * MIB],
    ],
    ids=lambda data: f"{type(data).__name__}-{len(data)}",
)
@pytest.mark.asyncio(loop_factories=SOUND_WRITERS)
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_kinds_of_data(data: Any, method: str) -> None:
    expected = bytes(data)
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.call(method, data if method == "write" else [data])
        protocol.close()
        assert await client.rest() == expected


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("how", ["overwritten", "cleared"])
@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_what_was_passed_arrives_whatever_becomes_of_it(
    method: str, how: str, view: bool
) -> None:
    """Passed data arrives unchanged, if a socket takes it at once."""
    data = bytearray(b"what was passed")
    async with connected(Plain) as (client, protocol):
        written = memoryview(data) if view else data
        protocol.call(method, written if method == "write" else [written])
        if view:
            written.release()  # type: ignore[union-attr]
        if how == "overwritten":
            data[:] = b"x" * len(data)
        else:
            data.clear()
        assert await client.receive(15) == b"what was passed"


@pytest.mark.asyncio(loop_factories=LIKE_ASYNCIO)
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since then asyncio keeps it, as uvloop")
async def test_much_of_what_was_passed_arrives_whatever_becomes_of_it() -> None:
    data = bytearray(DATA)
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.write(data)
        data[:] = bytes(len(data))
        data.clear()
        assert await client.receive(len(DATA)) == DATA


@pytest.mark.asyncio(loop_factories=SOUND_WRITERS)
async def test_nothing_is_written_of_nothing() -> None:
    async with connected(Plain) as (client, protocol):
        for empty in (b"", bytearray(), memoryview(b"")):
            protocol.write(empty)
            protocol.call("writelines", [empty, empty])
        protocol.call("writelines", [])
        protocol.call("writelines", [b"", b"something", b""])
        protocol.close()
        assert await client.rest() == b"something"


@pytest.mark.parametrize("data", ["text", 5, [b"x"], ...], ids=repr)
async def test_what_cannot_be_written(data: Any) -> None:
    """write raises at once, and the connection goes on."""
    async with connected(Plain) as (client, protocol):
        with pytest.raises(TypeError):
            protocol.write(data)
        protocol.write(b"fine")
        assert await client.receive(4) == b"fine"


async def test_lines_of_all_kinds() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.call("writelines", [b"a", bytearray(b"b"), memoryview(b"c")])
        protocol.call("writelines", (b"d", b"e"))
        protocol.call("writelines", (b"%d" % i for i in range(3)))
        protocol.call("writelines", [b"x"] * 3000)
        protocol.close()
        assert await client.rest() == b"abcde012" + b"x" * 3000


@pytest.mark.asyncio(loop_factories=["our-asyncio", "our-uvloop"])  # uvloop sends earlier lines
async def test_lines_of_which_one_cannot_be_written() -> None:
    """Then no line is written, as on asyncio until Python 3.12."""
    async with connected(Plain) as (client, protocol):
        with pytest.raises(TypeError):
            protocol.call("writelines", [b"one", "two"])
        protocol.call("writelines", (part for part in [array("B", b"three"), b"four"]))
        protocol.close()
        assert await client.rest() == b"threefour"


@pytest.mark.asyncio(loop_factories=["our-asyncio", "our-uvloop"])
async def test_a_backlog_that_is_never_empty_needs_bounded_memory() -> None:
    """The list of pending data is as long as the backlog, not as long as all data ever written."""

    def go_on(protocol: Notes) -> None:
        protocol.transport.set_write_buffer_limits(1_000_000)
        while protocol.transport.get_write_buffer_size() <= 1_000_000:
            protocol.write(bytes(100))

    async with connected(partial(Plain, resume=go_on), receive_buffer=8192) as (client, protocol):
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 30_000)
        go_on(protocol)
        for _ in range(30):
            await client.receive(MIB)
        assert protocol.events.count("resume") > 10
        lists = [x for x in gc.get_referents(protocol.transport) if isinstance(x, list)]
        assert max(map(len, lists)) < 50_000
        protocol.abort()


async def test_order_is_kept() -> None:
    """Many small writes keep their order, with large ones and turns between them."""
    numbers = iter(range(1000))
    expected = bytearray()
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        receiving = asyncio.create_task(client.rest())
        for number in numbers:
            part = b"%d," % number * (10_000 if number % 100 == 50 else 1)
            expected += part
            if number % 7 == 0:
                protocol.call("writelines", [part[:1], part[1:]])
            else:
                protocol.write(part)
            if number % 5 == 0:
                await asyncio.sleep(0)
        protocol.close()
        assert await receiving == expected


# -- from anywhere, though the loop has nothing else to do --


def from_call_soon(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    loop.call_soon(write)


def from_a_timer(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    loop.call_later(0.001, write)


def from_a_thread(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(write,))
    thread.start()
    thread.join()


def from_a_done_callback(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    future = loop.run_in_executor(None, bool)
    future.add_done_callback(lambda _: write())


def from_a_task(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    async def task() -> None:
        await asyncio.sleep(0.001)
        write()

    future = loop.create_task(task())
    future.add_done_callback(lambda task: task.result())


def from_a_reader(loop: asyncio.AbstractEventLoop, write: Callable[[], None]) -> None:
    fd = os.eventfd(1)

    def readable() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        write()

    loop.add_reader(fd, readable)


@pytest.mark.parametrize(
    "begin",
    [
        from_call_soon,
        from_a_timer,
        from_a_thread,
        from_a_done_callback,
        from_a_task,
        from_a_reader,
    ],
)
async def test_written(begin: Callable[[asyncio.AbstractEventLoop, Any], None]) -> None:
    async with connected(Plain) as (client, protocol):
        begin(asyncio.get_running_loop(), partial(protocol.write, b"hello"))
        assert await client.receive(5) == b"hello"


@pytest.mark.parametrize("event", ["made", "data", "eof"])
async def test_written_in_a_callback(event: str) -> None:
    hooks: dict[str, Any] = {event: lambda p: p.write(b"hello")}
    async with connected(partial(Plain, **hooks)) as (client, protocol):
        client.send(b"data")
        client.finish()
        assert await client.rest() == b"hello"
        assert protocol.received == b"data"


async def test_written_to_others() -> None:
    """Data from one client is passed on to fifty others."""

    def pass_on(protocol: Notes) -> None:
        for other in server.protocols:
            if other is not protocol:
                other.write(protocol.chunks[-1])

    async with serving(partial(Plain, data=pass_on)) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.address)) for _ in range(51)]
            for client in clients:
                await server.of(client)
            clients[0].send(b"news")
            assert [await client.receive(4) for client in clients[1:]] == [b"news"] * 50


async def test_written_in_the_last_turn_of_the_loop() -> None:
    """The data is sent when the loop stops, not when it runs again."""
    kind = type(asyncio.get_running_loop())

    def run() -> bytes:
        with asyncio.Runner(loop_factory=kind) as runner:
            serve, client = serving(Plain), None
            try:
                server = runner.run(serve.__aenter__())
                client = Client(server.address)
                protocol = runner.run(server.of(client))

                async def say() -> None:
                    protocol.write(b"last words")

                runner.run(say())
                client.sock.settimeout(10)
                return client.sock.recv(100)
            finally:
                if client is not None:
                    client.sock.close()
                runner.run(serve.__aexit__(None, None, None))

    assert await asyncio.to_thread(run) == b"last words"


# -- much --


async def test_much_for_a_slow_reader() -> None:
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.write(DATA)
        protocol.close()
        received = bytearray()
        while part := await client.receive(50_000):
            received += part
            await turns(3)
        assert received == DATA


async def test_many_small_writes_in_one_turn() -> None:
    async with connected(Plain) as (client, protocol):
        for i in range(20_000):
            protocol.write(b"%05d" % i)
        assert await client.receive(100_000) == b"".join(b"%05d" % i for i in range(20_000))


async def test_both_directions_at_once() -> None:
    async with connected(partial(Plain, data=lambda p: p.write(p.chunks[-1]))) as (client, _):
        sending = asyncio.create_task(client.send_all(DATA))
        assert await client.receive(len(DATA)) == DATA
        await sending


# -- write_eof --


@pytest.mark.parametrize("size", [0, 5, len(DATA)])
async def test_write_eof_comes_after_what_was_written(size: int) -> None:
    """The client may go on sending."""
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        assert protocol.transport.can_write_eof()
        protocol.write(DATA[:size])
        protocol.call("write_eof")
        assert await client.rest() == DATA[:size]
        assert not protocol.transport.is_closing()
        client.send(b"still here")
        await protocol.until(lambda: protocol.received == b"still here")
        client.finish()
        assert await protocol.ended() is None


async def test_nothing_is_written_after_write_eof() -> None:
    async with connected(Plain) as (client, protocol):
        for _ in range(2):
            protocol.call("write_eof")
            with pytest.raises(RuntimeError, match="after write_eof"):
                protocol.write(b"x")
            with pytest.raises(RuntimeError, match="after write_eof"):
                protocol.call("writelines", [b"x"])
        assert await client.rest() == b""


async def test_write_eof_after_close_does_nothing() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(b"data")
        protocol.close()
        protocol.call("write_eof")
        assert await client.rest() == b"data"
        assert await protocol.ended() is None


# -- after the end --


@pytest.mark.asyncio(loop_factories=SOUND_WRITERS)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_what_is_written_after_the_end_is_ignored(how: str) -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(b"before")
        await turns()
        protocol.call(how)
        for _ in range(10):
            protocol.write(b"after")
            protocol.call("writelines", [b"after"])
        assert await client.rest() == b"before"
        assert await protocol.ended() is None


@pytest.mark.asyncio(loop_factories=[n for n in LIKE_ASYNCIO if n in SOUND_WRITERS])
async def test_what_is_written_after_connection_lost_is_ignored() -> None:
    """uvloop raises a RuntimeError: the handler is closed."""
    async with connected(partial(Plain, lost=lambda p: p.write(b"after"))) as (_, protocol):
        protocol.close()
        await protocol.ended()
        for _ in range(10):
            protocol.write(b"after")
            protocol.call("writelines", [b"after"])
            protocol.call("write_eof")
        assert protocol.transport.get_write_buffer_size() == 0


async def test_close_right_after_write_does_not_let_more_in() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(b"one")
        protocol.close()
        protocol.write(b"two")
        assert await client.rest() == b"one"


@pytest.mark.parametrize("paused", [False, True])
async def test_writing_to_a_client_that_is_gone(paused: bool) -> None:
    """No write raises; the connection ends, even if reading is paused."""
    async with connected(Plain) as (client, protocol):
        if paused:
            protocol.transport.pause_reading()
        client.reset()
        while not protocol.transport.is_closing():
            protocol.write(b"anybody there?")
            await asyncio.sleep(0)
        assert isinstance(await protocol.ended(), OSError)
