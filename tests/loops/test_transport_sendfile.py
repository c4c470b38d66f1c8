"""loop.sendfile on a server's transport. uvloop has none; our loop on uvloop has it."""

import asyncio
import io
import random
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.protocols import MIB, Client, Plain, connected, serving, turns

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "our-asyncio", "our-uvloop"])
DATA = random.Random(9).randbytes(8 * MIB)  # more than a socket's buffers take


@pytest.fixture(params=["a file", "no descriptor"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A file that the kernel can send, and a file that must be read."""
    if request.param == "no descriptor":
        yield io.BytesIO(DATA)
        return
    (tmp_path / "data").write_bytes(DATA)
    with open(tmp_path / "data", "rb") as opened:
        yield opened


@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (1_000_000, None), (7, 100), (len(DATA) - 5, 100)]
)
async def test_a_file_arrives(file: Any, offset: int, count: int | None) -> None:
    """Only the requested part is sent; the file is left where the next part begins."""
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    async with connected(Plain) as (client, protocol):
        receiving = asyncio.create_task(client.rest())
        sent = await asyncio.get_running_loop().sendfile(protocol.transport, file, offset, count)
        assert sent == len(expected)
        assert file.tell() == offset + sent
        protocol.close()
        assert await receiving == expected


async def test_what_is_written_before_and_after_keeps_its_place(file: Any) -> None:
    async with connected(Plain) as (client, protocol):
        receiving = asyncio.create_task(client.rest())
        for _ in range(2):
            protocol.write(b"before")
            protocol.write(DATA)
            file.seek(0)
            await asyncio.get_running_loop().sendfile(protocol.transport, file)
            protocol.write(b"after")
        protocol.close()
        assert await receiving == (b"before" + DATA + DATA + b"after") * 2


async def test_nothing_is_written_meanwhile(tmp_path: Path) -> None:
    """A write during sendfile is an error, and harms neither the file nor the connection."""
    (tmp_path / "data").write_bytes(DATA)
    async with connected(Plain) as (client, protocol):
        with open(tmp_path / "data", "rb") as file:
            sending = asyncio.create_task(
                asyncio.get_running_loop().sendfile(protocol.transport, file)
            )
            await turns()
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                protocol.write(b"meanwhile")
            assert await client.receive(len(DATA)) == DATA
            assert await sending == len(DATA)
        protocol.write(b"after")
        assert await client.receive(5) == b"after"


@pytest.mark.parametrize("paused", [False, True])
async def test_what_the_client_says_meanwhile_is_heard_afterwards(file: Any, paused: bool) -> None:
    """The protocol gets the data afterwards if reading was not paused before."""
    async with connected(Plain) as (client, protocol):
        if paused:
            protocol.transport.pause_reading()
        sending = asyncio.create_task(asyncio.get_running_loop().sendfile(protocol.transport, file))
        await turns()
        client.send(b"meanwhile")
        await turns()
        assert protocol.received == b""
        assert await client.receive(len(DATA)) == DATA
        await sending
        assert protocol.transport.is_reading() is not paused
        if paused:
            await turns()
            assert protocol.received == b""
            protocol.call("resume_reading")
        await protocol.until(lambda: protocol.received == b"meanwhile")


@pytest.mark.asyncio(loop_factories=["our-asyncio", "our-uvloop"])  # asyncio's never reads again
async def test_cancelled_while_it_waits_for_what_was_written_before(file: Any) -> None:
    """The connection goes on as before."""
    async with connected(Plain) as (client, protocol):
        protocol.write(DATA)
        sending = asyncio.create_task(asyncio.get_running_loop().sendfile(protocol.transport, file))
        await turns()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        client.send(b"meanwhile")
        await protocol.until(lambda: protocol.received == b"meanwhile")
        protocol.write(b"after")
        assert await client.receive(len(DATA) + 5) == DATA + b"after"
        file.seek(0)
        receiving = asyncio.create_task(client.receive(len(DATA)))
        await asyncio.get_running_loop().sendfile(protocol.transport, file)
        assert await receiving == DATA


async def test_a_client_that_resets_meanwhile(file: Any) -> None:
    async with connected(Plain) as (client, protocol):
        sending = asyncio.create_task(asyncio.get_running_loop().sendfile(protocol.transport, file))
        await turns()
        client.reset()
        with pytest.raises(ConnectionError):
            await sending
        error = await protocol.ended()
        assert error is None or isinstance(error, OSError)


async def test_not_without_a_descriptor_if_that_is_not_wanted() -> None:
    loop = asyncio.get_running_loop()
    async with connected(Plain) as (client, protocol):
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(protocol.transport, io.BytesIO(b"data"), fallback=False)
        protocol.write(b"fine")
        assert await client.receive(4) == b"fine"


async def test_not_on_what_is_closing(file: Any) -> None:
    async with connected(Plain) as (_, protocol):
        protocol.close()
        with pytest.raises(RuntimeError, match="closing"):
            await asyncio.get_running_loop().sendfile(protocol.transport, file)


async def test_over_tls(
    file: Any, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async with serving(Plain, ssl=server_context) as server:
        reader, writer = await asyncio.open_connection(
            *server.address, ssl=client_context, server_hostname="localhost"
        )
        protocol = await server.first()
        receiving = asyncio.create_task(reader.readexactly(len(DATA) + 5))
        sent = await asyncio.get_running_loop().sendfile(protocol.transport, file)
        assert sent == len(DATA)
        protocol.write(b"after")
        assert await receiving == DATA + b"after"
        writer.close()
        await writer.wait_closed()


async def test_others_are_served_meanwhile(file: Any) -> None:
    """The server serves other clients while the file's client does not read."""
    async with serving(Plain) as server:
        with Client(server.address) as one, Client(server.address) as two:
            busy, other = await server.of(one), await server.of(two)
            sending = asyncio.create_task(asyncio.get_running_loop().sendfile(busy.transport, file))
            await turns()
            other.write(b"fine")
            assert await two.receive(4) == b"fine"
            assert not sending.done()
            assert await one.receive(len(DATA)) == DATA
            await sending
