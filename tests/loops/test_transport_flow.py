"""How a server's transport holds back its writers: limits, pause_writing, resume_writing."""

import asyncio
from functools import partial

import pytest
from support.protocols import MIB, Notes, Plain, connected

pytestmark = pytest.mark.asyncio
MUCH = bytes(32 * MIB)  # more than any socket's buffers take


async def test_limits() -> None:
    """The low limit is a quarter of the high one by default; uvloop starts with 16 bytes."""
    async with connected(Plain) as (_, protocol):
        transport = protocol.transport
        low, high = transport.get_write_buffer_limits()
        assert high == 65536
        assert 0 < low <= high // 4
        for arguments, limits in (
            ({"high": 4000}, (1000, 4000)),
            ({"low": 500}, (500, 2000)),
            ({"high": 9, "low": 9}, (9, 9)),
            ({"high": 0}, (0, 0)),
            ({}, (16384, 65536)),
        ):
            transport.set_write_buffer_limits(**arguments)
            got = transport.get_write_buffer_limits()
            assert got == limits or (arguments == {} and got == (16, 65536))


@pytest.mark.parametrize(("high", "low"), [(1, 2), (5, -1), (-1, None), (None, -1)])
async def test_invalid_limits(high: int | None, low: int | None) -> None:
    async with connected(Plain) as (_, protocol):
        before = protocol.transport.get_write_buffer_limits()
        with pytest.raises(ValueError, match="high"):
            protocol.transport.set_write_buffer_limits(high, low)
        assert protocol.transport.get_write_buffer_limits() == before


async def test_paused_above_the_high_limit_and_resumed_at_the_low_one() -> None:
    """pause_writing comes within write, resume_writing in a later turn when the client has read."""

    def look(protocol: Notes) -> None:
        sizes.append(protocol.transport.get_write_buffer_size())

    sizes: list[int] = []
    async with connected(partial(Plain, pause=look, resume=look)) as (client, protocol):
        protocol.transport.set_write_buffer_limits(high=200_000, low=100_000)
        protocol.write(MUCH)
        assert protocol.events == ["made", "pause"]
        assert 200_000 < protocol.transport.get_write_buffer_size() <= len(MUCH)
        protocol.write(b"more")
        assert protocol.events == ["made", "pause"]
        assert await client.receive(len(MUCH) + 4) == MUCH + b"more"
        await protocol.told("resume")
        assert protocol.events == ["made", "pause", "resume"]
        assert sizes[0] > 200_000
        assert sizes[1] <= 100_000
        assert protocol.transport.get_write_buffer_size() == 0


async def test_each_pause_has_its_resume() -> None:
    async with connected(Plain) as (client, protocol):
        for count in range(1, 4):
            protocol.write(MUCH)
            assert protocol.events.count("pause") == count
            assert await client.receive(len(MUCH)) == MUCH
            await protocol.until(lambda count=count: protocol.events.count("resume") == count)  # type: ignore[misc]


async def test_limits_lowered_below_what_is_buffered_pause_at_once() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.transport.set_write_buffer_limits(high=2 * len(MUCH))
        protocol.write(MUCH)
        assert protocol.events == ["made"]
        protocol.call("set_write_buffer_limits", 1000)
        assert protocol.events == ["made", "pause"]
        assert await client.receive(len(MUCH)) == MUCH
        await protocol.told("resume")


async def test_written_in_resume_writing() -> None:
    """A write in resume_writing may pause again, until all data is written."""
    left = [3]

    def go_on(protocol: Notes) -> None:
        if left[0]:
            left[0] -= 1
            protocol.write(MUCH)

    async with connected(partial(Plain, resume=go_on)) as (client, protocol):
        protocol.write(MUCH)
        assert await client.receive(4 * len(MUCH)) == MUCH * 4
        await protocol.until(lambda: protocol.events == ["made", *["pause", "resume"] * 4])


async def test_a_writer_that_respects_pause_writing_needs_bounded_memory() -> None:
    """Memory is bounded while the client does not read, and all data arrives when it does."""
    can_write = asyncio.Event()
    can_write.set()
    hooks = {"pause": lambda _: can_write.clear(), "resume": lambda _: can_write.set()}
    part, total, most, written = 10_000, 64 * MIB, 0, 0

    async def write() -> None:
        nonlocal most, written
        while written < total:
            await can_write.wait()
            protocol.write(bytes(part))
            written += part
            most = max(most, protocol.transport.get_write_buffer_size())

    async with connected(partial(Plain, **hooks)) as (client, protocol):
        writing = asyncio.create_task(write())
        await protocol.told("pause")
        received = 0
        while received < total:
            data = await client.receive(min(MIB, total - received))
            received += len(data)
        await writing
        assert protocol.events.count("pause") > 1
        assert most <= 65536 + part


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_paused_connection_can_end(how: str) -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(MUCH)
        assert protocol.events == ["made", "pause"]
        protocol.call(how)
        assert protocol.events == ["made", "pause"]
        if how == "close":
            assert await client.rest() == MUCH
        assert await protocol.ended() is None


async def test_a_client_that_resets_ends_a_paused_connection() -> None:
    async with connected(Plain) as (client, protocol):
        protocol.write(MUCH)
        client.reset()
        assert isinstance(await protocol.ended(), OSError)
        assert protocol.events == ["made", "pause", "lost"]
