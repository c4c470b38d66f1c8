"""Exceptions in the callbacks of a server's protocol: their reports, and their effects."""

import asyncio
from functools import partial
from typing import Any

import pytest
from support.loops import ask
from support.protocols import (
    LIKE_ASYNCIO,
    MIB,
    Notes,
    Plain,
    connected,
    hear_errors,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


class Oops(Exception):
    pass


def fail(_: Notes) -> None:
    raise Oops


def only(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """The only reported error; it is removed here, because it keeps its connection alive."""
    assert [type(e.get("exception")) for e in errors] == [Oops]
    return errors.pop()


@pytest.mark.parametrize("event", ["data", "eof"])
async def test_reading_fails(event: str) -> None:
    """The connection ends with the exception; others, and the loop, go on."""
    errors = hear_errors()
    hooks: dict[str, Any] = {event: fail}
    async with serving(partial(Plain, **hooks)) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        protocol = await server.first()
        writer.write(b"data")
        writer.write_eof()
        assert isinstance(await protocol.ended(), Oops)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        error = only(errors)
        assert error["protocol"] is protocol
        assert error["transport"] is protocol.transport
        assert error["message"]
        server.protocols[0].hooks.clear()


async def test_a_failure_drops_what_is_buffered() -> None:
    errors = hear_errors()
    async with connected(partial(Plain, data=fail)) as (client, protocol):
        protocol.write(bytes(32 * MIB))
        client.send(b"data")
        assert isinstance(await protocol.ended(), Oops)
        assert len(await client.rest()) < 32 * MIB
        only(errors)


@pytest.mark.parametrize("event", ["pause", "resume"])
async def test_flow_control_fails(event: str) -> None:
    """The connection and its data go on; write does not raise."""
    errors = hear_errors()
    hooks: dict[str, Any] = {event: fail}
    async with connected(partial(Plain, **hooks)) as (client, protocol):
        protocol.write(bytes(32 * MIB))
        assert len(await client.receive(32 * MIB)) == 32 * MIB
        await protocol.told("resume")
        error = only(errors)
        assert error["protocol"] is protocol
        assert error["transport"] is protocol.transport
        protocol.write(b"more")
        assert await client.receive(4) == b"more"


@pytest.mark.parametrize("how", ["close", "abort", "eof", "flush"])
async def test_connection_lost_fails(how: str) -> None:
    """The connection ends anyway, and its descriptor is closed."""
    errors = hear_errors()
    async with connected(partial(Plain, lost=fail)) as (client, protocol):
        if how == "eof":
            client.finish()
        elif how == "flush":
            protocol.write(bytes(16 * MIB))
            protocol.close()
        else:
            protocol.call(how)
        assert len(await client.rest()) == (16 * MIB if how == "flush" else 0)
        assert await protocol.ended() is None
        await turns()
        only(errors)


@pytest.mark.asyncio(loop_factories=LIKE_ASYNCIO)
async def test_connection_made_fails() -> None:
    """The connection goes on. uvloop drops it, and closes its descriptor later."""
    errors = hear_errors()
    async with connected(partial(Plain, made=fail)) as (client, protocol):
        client.send(b"data")
        await protocol.until(lambda: protocol.received == b"data")
        only(errors)
        protocol.write(b"answer")
        assert await client.receive(6) == b"answer"


@pytest.mark.asyncio(loop_factories=OURS)
async def test_the_factory_fails() -> None:
    """asyncio reports nothing, except in debug mode; uvloop stops accepting."""
    failing = True

    def make() -> Plain:
        if failing:
            raise Oops
        return Plain(data=lambda p: p.write(p.chunks[-1]))

    errors = hear_errors()
    async with serving(make) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        only(errors)
        failing = False
        assert await ask(server.address, b"x") == b"x"


async def test_one_fails_in_the_turn_in_which_another_has_data() -> None:
    def fail_or_answer(protocol: Notes) -> None:
        if protocol.received == b"fail":
            raise Oops
        protocol.write(b"fine")

    errors = hear_errors()
    async with serving(partial(Plain, data=fail_or_answer)) as server:
        pairs = [await asyncio.open_connection(*server.address) for _ in range(9)]
        for number, (_, writer) in enumerate(pairs):
            writer.write(b"fail" if number % 2 else b"good")
        for number, (reader, writer) in enumerate(pairs):
            assert await reader.read(10) == (b"" if number % 2 else b"fine")
            writer.close()
            await writer.wait_closed()
        assert [type(e["exception"]) for e in errors] == [Oops] * 4
        errors.clear()
