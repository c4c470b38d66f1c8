"""The end of a server's transport: data still sent, calls of its protocol, and leftovers."""

import asyncio
import gc
import os
import random
import weakref
from functools import partial
from typing import Any

import pytest
from support.protocols import (
    LIKE_UVLOOP,
    MIB,
    SOUND_WRITERS,
    Client,
    Notes,
    Plain,
    connected,
    hear_errors,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
MUCH = random.Random(7).randbytes(8 * MIB)  # more than a socket's buffers take
endings = pytest.mark.parametrize("how", ["close", "abort"])


async def test_close_sends_what_is_buffered() -> None:
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.write(MUCH)
        protocol.close()
        await turns()
        assert not protocol.lost.done()
        assert await client.rest() == MUCH
        assert await protocol.ended() is None


async def test_abort_drops_what_is_buffered() -> None:
    """The data is dropped at once, whether the client reads or not."""
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.write(MUCH)
        protocol.abort()
        assert await protocol.ended() is None
        assert protocol.transport.get_write_buffer_size() == 0
        received = await client.rest()
        assert len(received) < len(MUCH)
        assert MUCH.startswith(received)


async def test_abort_after_close_drops_what_is_buffered() -> None:
    async with connected(Plain, receive_buffer=262144) as (client, protocol):
        protocol.write(MUCH)
        protocol.close()
        await turns()
        protocol.abort()
        assert await protocol.ended() is None
        assert len(await client.rest()) < len(MUCH)


@pytest.mark.parametrize("methods", ["close close", "abort abort", "close abort", "abort close"])
async def test_ended_more_than_once(methods: str) -> None:
    """connection_lost comes once, later, and not from within any of the calls."""
    async with connected(Plain) as (client, protocol):
        for method in methods.split():
            protocol.call(method)
            assert protocol.transport.is_closing()
            assert protocol.events == ["made"]
        assert await protocol.ended() is None
        protocol.close()
        protocol.abort()
        await turns()
        assert protocol.events == ["made", "lost"]
        assert await client.rest() == b""


@endings
@pytest.mark.parametrize("event", ["made", "data", "eof", "lost"])
async def test_ended_in_a_callback(event: str, how: str) -> None:
    """connection_lost comes afterwards, not in the middle of it."""
    hooks: dict[str, Any] = {event: lambda p: p.call(how)}
    async with connected(partial(Plain, **hooks)) as (client, protocol):
        if event != "made":
            client.send(b"data")
            client.finish()
        assert await protocol.ended() is None
        assert await client.rest() == b""
        await turns()
        expected = ["made", "data", "eof"]
        last = expected.index(event) if event in expected else 2
        assert protocol.events == [*expected[: last + 1], "lost"]


@endings
async def test_ended_while_its_data_waits(how: str) -> None:
    """Data that the client has sent is not delivered after the end."""
    async with connected(Plain) as (client, protocol):
        client.send(b"too late")
        client.finish()
        protocol.call(how)
        assert await protocol.ended() is None
        assert protocol.events == ["made", "lost"]


@endings
async def test_ended_in_pause_writing(how: str) -> None:
    ending = partial(Plain, pause=lambda p: p.call(how))
    async with connected(ending, receive_buffer=262144) as (client, protocol):
        protocol.write(MUCH)
        received = await client.rest()
        assert await protocol.ended() is None
        assert len(received) == len(MUCH) or how == "abort"
        assert MUCH.startswith(received)


@pytest.mark.asyncio(loop_factories=LIKE_UVLOOP)
@endings
async def test_ended_in_resume_writing(how: str) -> None:
    """asyncio tries to end the connection twice, and reports this to its exception handler."""
    ending = partial(Plain, resume=lambda p: p.call(how))
    async with connected(ending, receive_buffer=262144) as (client, protocol):
        protocol.write(MUCH)
        received = await client.rest()
        assert await protocol.ended() is None
        assert len(received) == len(MUCH) or how == "abort"
        assert MUCH.startswith(received)
        assert protocol.events == ["made", "pause", "resume", "lost"]


# uvloop sends only some of the last words.
@pytest.mark.asyncio(loop_factories=[n for n in SOUND_WRITERS if n != "uvloop"])
async def test_a_protocol_resumed_after_close_may_still_write() -> None:
    """A protocol may write until the client has taken the earlier data: sslproto relies on it."""

    def resumed(protocol: Notes) -> None:
        if protocol.events.count("resume") == 1:
            for part in (b"last", MUCH, b"words"):
                protocol.write(part)

    async with connected(partial(Plain, resume=resumed)) as (client, protocol):
        protocol.write(MUCH)
        protocol.close()
        assert await client.rest() == MUCH + b"last" + MUCH + b"words"
        assert await protocol.ended() is None


@pytest.mark.parametrize("how", ["raise", "abort"])
async def test_what_was_written_before_the_end_arrives(how: str) -> None:
    """Data that the kernel takes arrives: for example, an answer to a request that then fails."""
    errors = hear_errors()

    def answer(protocol: Notes) -> None:
        protocol.write(b"sorry")
        if how == "abort":
            protocol.abort()
        else:
            raise ValueError("wrong")

    async with connected(partial(Plain, data=answer)) as (client, protocol):
        client.send(b"question")
        assert await client.rest() == b"sorry"
        ended = await protocol.ended()
    assert [str(error["exception"]) for error in errors] == ([] if how == "abort" else ["wrong"])
    assert str(ended) == ("None" if how == "abort" else "wrong")
    errors.clear()


async def test_is_closing() -> None:
    seen: list[tuple[str, bool]] = []

    def look(event: str, protocol: Notes) -> None:
        seen.append((event, protocol.transport.is_closing()))

    hooks: dict[str, Any] = {e: partial(look, e) for e in ("made", "data", "eof", "lost")}
    async with connected(partial(Plain, **hooks)) as (client, protocol):
        client.send(b"data")
        await protocol.told("data")
        client.finish()
        await protocol.ended()
        assert seen == [("made", False), ("data", False), ("eof", False), ("lost", True)]
        assert protocol.transport.is_closing()


async def test_an_orderly_end_is_no_reset() -> None:
    """The client reads the end of the data, and no reset."""
    async with connected(partial(Plain, data=lambda p: p.close())) as (client, protocol):
        client.send(b"question")
        assert await client.rest() == b""
        assert await protocol.ended() is None


async def test_the_client_may_leave_first_while_the_server_still_sends() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(MUCH)
        protocol.close()
        client.reset()
        error = await protocol.ended()
        assert error is None or isinstance(error, OSError)


# -- nothing is left --


class Light(asyncio.Protocol):
    """Keeps nothing but its transport, as most protocols do: a cycle."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        seen.append(weakref.ref(self))
        seen.append(weakref.ref(transport))

    def data_received(self, data: bytes) -> None:
        if data == b"abort":
            self.transport.abort()
        elif data == b"much":
            self.transport.write(MUCH)
        else:
            self.transport.write(data)
            self.transport.close()


seen: list["weakref.ref[object]"] = []


async def test_transports_protocols_and_descriptors_are_gone_afterwards() -> None:
    """Counted from the first connection on: a loop may keep something from then on."""

    async def each_way() -> int:
        seen.clear()
        for request in (b"close", b"abort", b"much", b""):
            with Client(server.sockets[0].getsockname()) as client:
                if request:
                    client.send(request)
                if request == b"much":
                    assert await client.receive(100_000) == MUCH[:100_000]
                    client.reset()
                else:
                    client.finish()
                    await client.rest()
        async with asyncio.timeout(30):
            while len(seen) < 8 or any(ref() is not None for ref in seen):
                gc.collect()
                await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd"))

    server = await asyncio.get_running_loop().create_server(Light, "127.0.0.1", 0)
    before = await each_way()
    assert [await each_way() for _ in range(5)] == [before] * 5
    server.close()
    await server.wait_closed()


async def test_descriptors_that_come_again_are_other_connections() -> None:
    """Many short connections at once, each ended in its own way: none gets another's data."""

    def answer(protocol: Notes) -> None:
        number = int(protocol.received[:6])
        if number % 3 == 0:
            protocol.abort()
        else:
            protocol.write(protocol.received)
            protocol.close()

    async def ask(number: int) -> None:
        with Client(server.address) as client:
            await turns(number % 4)
            client.send(b"%06d" % number)
            if number % 5 == 0:
                client.reset()
            else:
                expected = b"" if number % 3 == 0 else b"%06d" % number
                assert await client.rest() == expected

    async with serving(partial(Plain, data=answer)) as server:
        for begin in range(0, 800, 40):
            await asyncio.gather(*(ask(number) for number in range(begin, begin + 40)))
        assert all(p.size in (0, 6) for p in server.protocols)
