"""Streams and transports over a server's connections: half-close, backpressure, cancellation."""

import asyncio
import ssl
import sys
from typing import Any, cast

import pytest
from support.loops import ask

pytestmark = pytest.mark.asyncio

MIB = 1 << 20


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def start(handler: Any) -> tuple[asyncio.AbstractServer, Any]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()


async def end(server: asyncio.AbstractServer) -> None:
    server.close()
    await server.wait_closed()


async def test_lines() -> None:
    server, address = await start(echo_lines)
    assert await ask(address, b"one\ntwo\nthree\n") == b"one\ntwo\nthree\n"
    await end(server)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.skipif(
    (3, 13) <= sys.version_info < (3, 13, 3),
    reason="3.13.0's factory does not take what uvloop 0.23 gives it",
)
async def test_eager_tasks() -> None:
    """A handler's first step runs inside connection_made: it may write, read and close."""
    loop = asyncio.get_running_loop()
    factory: Any = getattr(asyncio, "eager_task_factory")  # noqa: B009 - typed for 3.11
    loop.set_task_factory(factory)
    ended = 0

    async def said(address: Any, words: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(words)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        return answer

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        writer.write(b"hello ")
        if (await reader.readline()) == b"echo\n":
            await asyncio.gather(writer.drain(), asyncio.sleep(0))
            writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()
        ended += 1

    async def close_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal ended
        writer.write(b"bye")
        writer.close()
        ended += 1

    server, address = await start(greet)
    assert await said(address, b"echo\nword\n") == b"hello word\n"
    assert await said(address, b"no\n") == b"hello "
    await end(server)
    server, address = await start(close_at_once)
    assert await asyncio.gather(*(said(address, b"") for _ in range(10))) == [b"bye"] * 10
    await end(server)
    assert ended == 12
    loop.set_task_factory(None)


async def test_half_close() -> None:
    """A client that has ended its side still receives the rest."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        for _ in range(3):
            await asyncio.sleep(0.01)
            writer.write(b"%d\n" % len(data))
        writer.write_eof()
        writer.close()

    server, address = await start(count)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"x" * 100_000)
    writer.write_eof()
    assert await reader.read() == b"100000\n" * 3
    writer.close()
    await writer.wait_closed()
    await end(server)


async def test_backpressure() -> None:
    """A client that does not read stops the server's drain, at bounded memory."""
    written = 0
    finished = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for _i in range(64):
            writer.write(b"x" * MIB)
            await writer.drain()
            written += 1
        writer.close()
        finished.set()

    server, address = await start(flood)
    reader, writer = await asyncio.open_connection(*address, limit=65536)
    before = -1
    while before != written:  # until no more is written
        before = written
        await asyncio.sleep(0.1)
    assert 0 < written < 48
    assert not finished.is_set()
    total = 0
    while data := await reader.read(MIB):
        total += len(data)
    assert total == 64 * MIB
    await finished.wait()
    writer.close()
    await writer.wait_closed()
    await end(server)


async def test_pause_and_resume_reading() -> None:
    loop = asyncio.get_running_loop()
    received: list[bytes] = []
    transports: list[asyncio.Transport] = []

    class Paused(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(cast(asyncio.Transport, transport))
            # uvloop begins to read after this call, even if the call pauses reading.
            loop.call_soon(transports[0].pause_reading)

        def data_received(self, data: bytes) -> None:
            received.append(data)

    server = await loop.create_server(Paused, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while not transports:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    writer.write(b"later")
    await asyncio.sleep(0.05)
    assert received == []
    transports[0].resume_reading()
    while not received:
        await asyncio.sleep(0.01)
    assert b"".join(received) == b"later"
    transports[0].abort()
    writer.close()
    await end(server)


async def test_a_cancelled_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(cast("asyncio.Task[None]", asyncio.current_task()))
        started.set()
        try:
            await reader.read()
        except asyncio.CancelledError:
            cancelled.set()
        finally:
            writer.close()

    server, address = await start(stuck)
    reader, writer = await asyncio.open_connection(*address)
    await started.wait()
    tasks[0].cancel()
    await cancelled.wait()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await end(server)


async def test_a_client_that_resets_a_stream() -> None:
    lost = asyncio.get_running_loop().create_future()

    class Waiting(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Waiting, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.transport.abort()  # nothing was sent: this is a FIN
    assert await asyncio.wait_for(lost, 10) is None
    await end(server)


async def test_start_tls_on_a_stream(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """A connection that is upgraded by its server."""
    loop = asyncio.get_running_loop()
    upgraded: list[asyncio.Task[None]] = []

    class Secret(asyncio.Protocol):
        def __init__(self) -> None:
            self.transport: asyncio.Transport | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            if self.transport is None:
                self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            assert self.transport is not None
            if data == b"STARTTLS\n":
                self.transport.write(b"go\n")
                upgraded.append(loop.create_task(self.upgrade()))
            else:
                self.transport.write(data)

        async def upgrade(self) -> None:
            assert self.transport is not None
            self.transport = await loop.start_tls(
                self.transport, self, server_context, server_side=True
            )

    server = await loop.create_server(Secret, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    transport = await loop.start_tls(
        writer.transport,
        asyncio.StreamReaderProtocol(inside := asyncio.StreamReader()),
        client_context,
        server_hostname="localhost",
    )
    assert transport is not None
    inside.set_transport(transport)
    await upgraded[0]
    transport.write(b"secret\n")
    assert await inside.readline() == b"secret\n"
    transport.close()
    await asyncio.sleep(0.05)
    await end(server)
