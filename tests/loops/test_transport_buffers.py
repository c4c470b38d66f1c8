"""BufferedProtocol on a server's transport, and protocols that change in the middle of a stream."""

import asyncio
import contextlib
import random
import socket
import ssl
from functools import partial
from typing import Any

import pytest
from support.protocols import (
    LIKE_UVLOOP,
    MIB,
    WAIT,
    Buffered,
    Client,
    Notes,
    Plain,
    connected,
    hear_errors,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio


async def test_small_buffers_are_asked_for_until_everything_is_read() -> None:
    data = random.Random(4).randbytes(10_000)
    async with connected(Buffered) as (client, protocol):
        await client.send_all(data)
        client.finish()
        await protocol.ended()
        assert protocol.received == data
        assert max(map(len, protocol.chunks)) <= Buffered.capacity


async def test_a_part_of_a_buffer_is_filled_and_nothing_around_it() -> None:
    storage = bytearray(b"-" * 20)
    filling = partial(Buffered, buffer=lambda _: memoryview(storage)[5:10])
    async with connected(filling) as (client, protocol):
        client.send(b"0123456")
        await protocol.until(lambda: protocol.size == 7)
        assert protocol.chunks == [b"01234", b"56"]
        assert storage == b"-----56234----------"


async def test_a_buffer_is_let_go_between_the_callbacks() -> None:
    """A bytearray that the transport held could not be resized."""
    storage = bytearray(100)
    async with connected(partial(Buffered, buffer=lambda _: storage)) as (client, protocol):
        for count in range(1, 4):
            client.send(b"x")
            await protocol.until(lambda count=count: protocol.size == count)  # type: ignore[misc]
            storage += b"more"
        protocol.transport.pause_reading()
        storage += b"more"
        assert protocol.received == b"xxx"


class Duck(Notes):
    """Buffered by its methods, not by its class."""

    get_buffer = Buffered.get_buffer
    buffer_updated = Buffered.buffer_updated
    capacity = Buffered.capacity


@pytest.mark.asyncio(loop_factories=LIKE_UVLOOP)  # asyncio checks the class
@pytest.mark.parametrize("tls", [False, True])
async def test_a_buffered_protocol_by_its_methods(
    tls: bool, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    def talk(address: Any) -> None:
        with socket.create_connection(address, timeout=WAIT) as plain:
            if not tls:
                plain.sendall(b"0123456789")
                return
            with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(b"0123456789")
                sock.unwrap()  # a close with tickets unread would be a reset

    async with serving(Duck, ssl=server_context if tls else None) as server:
        await asyncio.to_thread(talk, server.address)
        protocol = await server.first()
        await protocol.ended()
        assert protocol.received == b"0123456789"
        assert protocol.chunks == [b"0123456", b"789"]


@pytest.mark.asyncio(loop_factories=["our-asyncio", "asyncio"])
async def test_asyncio_goes_by_a_buffered_protocols_class() -> None:
    errors = hear_errors()
    async with serving(Duck) as server:
        with Client(server.address) as client:
            client.send(b"x")
            protocol = await server.first()
            assert isinstance(await protocol.ended(), AttributeError)  # data_received
            assert errors


async def test_pausing_between_two_small_buffers() -> None:
    pausing = partial(Buffered, data=lambda p: p.transport.pause_reading())
    async with connected(pausing) as (client, protocol):
        client.send(b"0123456789")
        client.finish()
        for received in (b"0123456", b"0123456789"):
            await protocol.until(lambda received=received: protocol.received == received)  # type: ignore[misc]
            await turns()
            assert protocol.received == received
            assert "eof" not in protocol.events
            protocol.call("resume_reading")
        assert await protocol.ended() is None


async def test_closing_between_two_small_buffers() -> None:
    async with connected(partial(Buffered, data=lambda p: p.close())) as (client, protocol):
        client.send(b"0123456789")
        assert await protocol.ended() is None
        assert protocol.received == b"0123456"


def fail(_: Notes) -> None:
    raise LookupError("no buffer today")


@pytest.mark.parametrize(
    "hooks", [{"buffer": fail}, {"buffer": lambda _: bytearray()}, {"data": fail}]
)
async def test_a_buffer_that_is_missing_or_unusable_ends_the_connection(hooks: dict) -> None:  # type: ignore[type-arg]
    errors = hear_errors()
    async with connected(partial(Buffered, **hooks)) as (client, protocol):
        client.send(b"data")
        assert isinstance(await protocol.ended(), LookupError | RuntimeError)
        with contextlib.suppress(ConnectionResetError):  # because data was left unread
            assert await client.rest() == b""
        assert [e["protocol"] for e in errors] == [protocol]
        assert isinstance(errors[0]["exception"], LookupError | RuntimeError)
        assert errors[0]["transport"] is protocol.transport
        errors.clear()


# -- set_protocol --


async def test_protocols_of_both_kinds_take_turns_in_one_stream() -> None:
    """Each gives the connection to the next one from within data_received or buffer_updated."""
    data = random.Random(5).randbytes(MIB)

    class Wide(Buffered):
        capacity = 9999

    def change(protocol: Notes) -> None:
        kind = Plain if isinstance(protocol, Buffered) else Wide
        users.append(kind(data=change))
        protocol.hand_over(users[-1])
        assert protocol.transport.get_protocol() is users[-1]

    users: list[Notes] = []
    async with connected(partial(Plain, data=change)) as (client, first):
        await client.send_all(data)
        client.finish()
        await first.ended()
        assert first.received == data
        assert first.events == ["made", "data", "eof", "lost"]
        assert len(users) >= 4


async def test_the_last_protocol_hears_the_end() -> None:
    heard: list[str] = []
    last = Plain(
        data=lambda _: heard.append("data"),
        eof=lambda _: heard.append("eof"),
        lost=lambda _: heard.append("lost"),
    )
    async with connected(Plain) as (client, first):
        first.hand_over(last)
        client.send(b"data")
        client.finish()
        await first.ended()
        assert heard == ["data", "eof", "lost"]


async def test_a_protocol_set_while_reading_is_paused_gets_what_waits() -> None:
    async with connected(Plain) as (client, first):
        first.transport.pause_reading()
        client.send(b"for the second")
        await turns()
        second = Buffered()
        first.hand_over(second)
        await turns()
        second.call("resume_reading")
        await second.until(lambda: second.received == b"for the second")
        assert second.chunks == [b"for the", b" second"]


async def test_a_protocol_set_by_a_neighbour_in_the_turn_in_which_data_came() -> None:
    """The previous protocol of the connection is not called after that."""
    second: list[Buffered] = []

    def replace_the_other(protocol: Notes) -> None:
        for other in server.protocols:
            if other is not protocol and not second:
                second.append(Buffered())
                other.hand_over(second[0])

    async with serving(partial(Plain, data=replace_the_other)) as server:
        with Client(server.address) as one, Client(server.address) as two:
            protocols = [await server.of(one), await server.of(two)]
            one.send(b"0123456789")
            two.send(b"0123456789")
            await server.until(lambda: all(p.size == 10 for p in protocols))
            assert sorted(map(repr, (p.chunks for p in protocols))) == [
                "[b'0123456', b'789']",
                "[b'0123456789']",
            ]


async def test_pause_writing_is_told_to_the_protocol_of_that_moment() -> None:
    second = Plain()
    async with connected(Plain) as (_, first):
        first.hooks["pause"] = lambda _: pytest.fail("it has the connection no more")
        first.hand_over(second)
        second.write(bytes(32 * MIB))
        assert second.events == ["made", "pause"]
        await asyncio.sleep(0)
