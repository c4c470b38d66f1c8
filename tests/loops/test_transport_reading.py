"""Calls of a server's transport to its protocol: data, the end of data, and paused reading."""

import asyncio
import random
from functools import partial
from typing import Any

import pytest
from support.protocols import (
    LIKE_ASYNCIO,
    MIB,
    NOT_UVLOOP,
    Buffered,
    Client,
    Notes,
    Plain,
    connected,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
kinds = pytest.mark.parametrize("kind", [Plain, Buffered])


class Roomy(Buffered):
    capacity = 100_000


@pytest.mark.parametrize("kind", [Plain, Roomy])
async def test_data_arrives_whole_and_in_order(kind: type[Notes]) -> None:
    """Chunks also stay unchanged: they are compared when all have come."""
    data = random.Random(1).randbytes(8 * MIB)
    async with connected(kind) as (client, protocol):
        await client.send_all(data)
        await protocol.until(lambda: protocol.size >= len(data))
        assert protocol.received == data
        assert protocol.events == ["made", "data"]


@kinds
async def test_data_that_came_before_the_connection_was_accepted(kind: type[Notes]) -> None:
    async with serving(kind) as server:
        with Client(server.address) as client:
            client.send(b"early, and longer than a buffer")
            protocol = await server.of(client)
            await protocol.until(lambda: protocol.size == 31)
            assert protocol.received == b"early, and longer than a buffer"


@kinds
async def test_data_and_eof_that_come_at_once(kind: type[Notes]) -> None:
    async with serving(kind) as server:
        with Client(server.address) as client:
            client.send(b"all there is")
            client.finish()
            protocol = await server.of(client)
            assert await protocol.ended() is None
            assert protocol.received == b"all there is"
            assert protocol.events == ["made", "data", "eof", "lost"]


@kinds
async def test_a_client_that_sends_and_leaves_before_it_is_accepted(kind: type[Notes]) -> None:
    async with serving(kind) as server:
        with Client(server.address) as client:
            client.send(b"here I was")
        protocol = await server.first()
        assert await protocol.ended() is None
        assert protocol.received == b"here I was"
        assert protocol.events == ["made", "data", "eof", "lost"]


@kinds
async def test_a_client_that_leaves_before_it_is_accepted(kind: type[Notes]) -> None:
    async with serving(kind) as server:
        Client(server.address).sock.close()
        protocol = await server.first()
        assert await protocol.ended() is None
        assert protocol.events == ["made", "eof", "lost"]


@kinds
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_client_that_resets_while_we_read(kind: type[Notes], accepted: bool) -> None:
    async with serving(kind) as server:
        client = Client(server.address)
        if accepted:
            await server.of(client)
        client.reset()
        protocol = await server.first()
        assert isinstance(await protocol.ended(), ConnectionResetError)
        assert protocol.events == ["made", "lost"]


@kinds
async def test_a_reset_after_data(kind: type[Notes]) -> None:
    """Unread data may be lost; nothing comes after the end."""
    async with serving(kind) as server:
        client = Client(server.address)
        client.send(b"never mind")
        client.reset()
        protocol = await server.first()
        error = await protocol.ended()
        assert error is None or isinstance(error, OSError)
        assert b"never mind".startswith(protocol.received)


# -- paused --


@kinds
async def test_nothing_is_delivered_while_paused(kind: type[Notes]) -> None:
    """Neither data nor its end is delivered; both come in order afterwards."""
    async with connected(kind) as (client, protocol):
        assert protocol.transport.is_reading()
        protocol.transport.pause_reading()
        assert not protocol.transport.is_reading()
        client.send(b"later")
        client.finish()
        await turns()
        assert protocol.events == ["made"]
        protocol.call("resume_reading")
        assert protocol.transport.is_reading()
        assert await protocol.ended() is None
        assert protocol.received == b"later"
        assert protocol.events == ["made", "data", "eof", "lost"]


@pytest.mark.asyncio(loop_factories=LIKE_ASYNCIO)
@kinds
async def test_paused_in_connection_made(kind: type[Notes]) -> None:
    """uvloop begins to read after connection_made, even if it pauses reading."""
    async with serving(partial(kind, made=lambda p: p.transport.pause_reading())) as server:
        with Client(server.address) as client:
            client.send(b"early")
            protocol = await server.of(client)
            await turns()
            assert protocol.events == ["made"]
            assert not protocol.transport.is_reading()
            protocol.transport.resume_reading()
            await protocol.until(lambda: protocol.received == b"early")


async def test_paused_at_once_after_connection_made() -> None:
    def pause(protocol: Notes) -> None:
        asyncio.get_running_loop().call_soon(protocol.transport.pause_reading)

    async with serving(partial(Plain, made=pause)) as server:
        with Client(server.address) as client:
            protocol = await server.of(client)
            await turns()
            client.send(b"data")
            await turns()
            assert protocol.events == ["made"]
            protocol.transport.resume_reading()
            await protocol.until(lambda: protocol.received == b"data")


async def test_pausing_and_resuming_twice_is_as_once() -> None:
    async with connected(Plain) as (client, protocol):
        for _ in range(2):
            protocol.transport.pause_reading()
        client.send(b"one")
        await turns()
        assert protocol.events == ["made"]
        for _ in range(2):
            protocol.call("resume_reading")
        await protocol.until(lambda: protocol.received == b"one")
        protocol.call("resume_reading")
        client.send(b"two")
        await protocol.until(lambda: protocol.received == b"onetwo")


async def test_paused_and_resumed_in_one_turn() -> None:
    async with connected(Plain) as (client, protocol):
        client.send(b"data")
        protocol.transport.pause_reading()
        protocol.call("resume_reading")
        await protocol.until(lambda: protocol.received == b"data")


@kinds
async def test_paused_by_what_is_received(kind: type[Notes]) -> None:
    """One call for each resume, until the last byte."""
    data = random.Random(2).randbytes(MIB)
    pausing = partial(kind, data=lambda p: p.transport.pause_reading())
    async with connected(pausing) as (client, protocol):
        sending = asyncio.create_task(client.send_all(data))
        for count in (1, 2, 3):
            await protocol.until(lambda count=count: len(protocol.chunks) >= count)  # type: ignore[misc]
            await turns()
            assert len(protocol.chunks) == count
            protocol.call("resume_reading")
        protocol.hooks.clear()
        protocol.call("resume_reading")
        if isinstance(protocol, Buffered):
            protocol.capacity = 65536
        await protocol.until(lambda: protocol.size >= len(data))
        assert protocol.received == data
        await sending


async def test_pausing_and_resuming_what_is_closed_does_nothing() -> None:
    async with connected(Plain) as (client, protocol):
        client.send(b"too late")
        protocol.close()
        for _ in range(2):
            assert not protocol.transport.is_reading()
            protocol.call("resume_reading")
            protocol.transport.pause_reading()
            protocol.call("resume_reading")
            await protocol.ended()
        assert protocol.received == b""


# -- the turn in which two have data --


@kinds
@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
async def test_what_one_does_to_another_holds_at_once(kind: type[Notes], how: str) -> None:
    """The other protocol does not get its data, even if the data has already arrived."""

    def stop_the_other(protocol: Notes) -> None:
        for other in server.protocols:
            if other is not protocol:
                other.call(how)

    async with serving(partial(kind, data=stop_the_other)) as server:
        with Client(server.address) as one, Client(server.address) as two:
            protocols = [await server.of(one), await server.of(two)]
            one.send(b"data")
            two.send(b"data")
            await server.until(lambda: any(p.size for p in protocols))
            await turns()
            assert sorted(p.size for p in protocols) == [0, 4]
            if how != "pause_reading":
                return
            stopped = protocols[0 if protocols[1].size else 1]
            stopped.transport.resume_reading()
            await stopped.until(lambda: stopped.received == b"data")


# -- the client has no more to say --


async def test_eof_received_that_keeps_the_connection_open() -> None:
    async with connected(partial(Plain, eof=lambda _: True)) as (client, protocol):
        client.send(b"question")
        client.finish()
        await protocol.told("eof")
        await turns()
        assert not protocol.transport.is_closing()
        assert protocol.events == ["made", "data", "eof"]
        protocol.write(b"answer")
        assert await client.receive(6) == b"answer"
        protocol.close()
        assert await client.rest() == b""
        assert await protocol.ended() is None


@pytest.mark.parametrize("answer", [None, False])
async def test_eof_received_that_does_not(answer: Any) -> None:
    """Buffered data is sent before the connection closes."""
    data = random.Random(3).randbytes(8 * MIB)
    answering = partial(Plain, data=lambda p: p.write(data), eof=lambda _: answer)
    async with connected(answering, receive_buffer=262144) as (client, protocol):
        client.send(b"question")
        client.finish()
        await protocol.told("eof")
        assert protocol.transport.is_closing()
        assert not protocol.lost.done()
        assert await client.rest() == data
        assert await protocol.ended() is None


@pytest.mark.asyncio(loop_factories=NOT_UVLOOP)  # uvloop reads although it was paused at first
@pytest.mark.parametrize("when", ["made", "data"])
async def test_a_reset_is_told_when_reading_goes_on(when: str) -> None:
    """The loss, too, is noticed by reading."""
    pausing = partial(Plain, **{when: lambda p: p.transport.pause_reading()})
    async with serving(pausing) as server:
        with Client(server.address) as client:
            if when == "data":
                client.send(b"x")
            else:
                client.reset()  # before the loop turns, and accepts it
            protocol = await server.first()
            await protocol.told(when)
            if when == "data":
                client.reset()
            await turns()
            await turns()
            assert protocol.events == (["made", "data"] if when == "data" else ["made"])
            protocol.transport.resume_reading()
            assert isinstance(await protocol.ended(), ConnectionResetError)
