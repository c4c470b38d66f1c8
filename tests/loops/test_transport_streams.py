"""asyncio's streams on a server's transport, where they rely on it; test_streams tests the rest."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.protocols import MIB, WAIT, Client

pytestmark = pytest.mark.asyncio
MUCH = bytes(32 * MIB)  # more than any socket's buffers take
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(handler: Handler) -> Any:
    """A client of `handler`, whose result, or exception, is the test's."""
    over = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
            over.set_result(None)
        except Exception as error:
            over.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        with Client(server.sockets[0].getsockname()) as client:
            yield client, over
        await asyncio.wait_for(over, WAIT)
    finally:
        server.close()
        await server.wait_closed()


async def test_drain_waits_for_the_client_to_read() -> None:
    drained = False

    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drained
        writer.write(MUCH)
        waiting.set()
        await writer.drain()
        drained = True
        low, _high = writer.transport.get_write_buffer_limits()
        assert writer.transport.get_write_buffer_size() <= low

    waiting = asyncio.Event()
    async with talking(write) as (client, over):
        await asyncio.wait_for(waiting.wait(), WAIT)
        assert not drained
        assert await client.receive(len(MUCH)) == MUCH
        await asyncio.wait_for(over, WAIT)
        assert drained


async def test_drain_tells_that_the_client_is_gone() -> None:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def without_end() -> None:
            while True:
                writer.write(bytes(MIB))
                await writer.drain()

        with pytest.raises(ConnectionError):
            await without_end()

    async with talking(write) as (client, _):
        await client.receive(3 * MIB)
        client.reset()


async def test_wait_closed_waits_until_everything_is_sent() -> None:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MUCH)
        writer.close()
        waiting.set()
        await writer.wait_closed()
        assert writer.transport.get_write_buffer_size() == 0

    waiting = asyncio.Event()
    async with talking(write) as (client, over):
        await asyncio.wait_for(waiting.wait(), WAIT)
        assert not over.done()
        assert await client.rest() == MUCH


async def test_readuntil_over_pieces() -> None:
    """Data comes in one piece or in many; the rest stays for the next call."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readuntil(b"\r\n\r\n") == b"GET /\r\nHost: x\r\n\r\n"
        assert await reader.readexactly(4) == b"body"
        writer.write(b"next")
        assert await reader.readuntil(b"--end") == b"x" * 50_000 + b"--end"
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readuntil(b"never")
        assert error.value.partial == b"rest"

    async with talking(read) as (client, _):
        for part in (b"GET /\r\nHo", b"st: x\r\n\r", b"\nbo", b"dy"):
            client.send(part)
            await asyncio.sleep(0)
        assert await client.receive(4) == b"next"
        await client.send_all(b"x" * 50_000 + b"--endrest")
        client.finish()


async def test_a_stream_that_is_full_stops_reading() -> None:
    """Reading stops until the handler reads: the client cannot send without end."""
    sent = 0

    async def read(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await full.wait()
        assert len(await reader.read(1 << 30)) < 1 * MIB
        total[0] = len(await reader.readexactly(1000))
        while data := await reader.read(MIB):
            total[0] += len(data)

    full, total = asyncio.Event(), [0]
    async with talking(read) as (client, over):
        blocked = 0
        while blocked < 20:
            try:
                sent += client.sock.send(bytes(MIB))
                blocked = 0
            except BlockingIOError:
                blocked += 1
            await asyncio.sleep(0)
        full.set()
        client.sock.setblocking(True)
        client.finish()
        await asyncio.wait_for(over, WAIT)
        assert 0 < total[0] < sent
