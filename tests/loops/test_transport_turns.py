"""Coinciding events: several in one turn of the loop, or one in the middle of another."""

import asyncio
import gc
import socket
from functools import partial
from typing import Any

import pytest
from support.protocols import (
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
OURS = ["our-asyncio", "our-uvloop"]


def drain(sock: socket.socket) -> int:
    """Read all available data; its size."""
    count = 0
    try:
        while data := sock.recv(MIB):
            count += len(data)
    except BlockingIOError:
        pass
    return count


@pytest.mark.asyncio(loop_factories=OURS)  # others drop waiting connections, or lose descriptors
async def test_a_burst_whose_server_is_closed_by_the_first() -> None:
    """All were accepted, so all are served, though the first one never became a connection."""
    errors = hear_errors()
    server: Any = None
    protocols: list[Plain] = []

    def factory() -> Plain:
        if not errors:
            server.close()
            raise ValueError("the first")
        protocols.append(Plain(data=lambda p: p.write(b"answer")))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    clients = [Client(server.sockets[0].getsockname()) for _ in range(5)]
    for client in clients:
        client.send(b"question")
    assert sorted([await client.receive(6) for client in clients]) == [b"", *[b"answer"] * 4]
    for client in clients:
        client.sock.close()
    await asyncio.wait_for(server.wait_closed(), WAIT)
    for protocol in protocols:
        await protocol.ended()
    assert [str(error["exception"]) for error in errors] == ["the first"]


# -- one connection's callback, and another connection of the same turn --


async def test_what_one_writes_to_another_that_is_about_to_be_sent() -> None:
    """The data arrives once, after earlier data: connection_lost writes it in mid-flush."""
    async with serving(Plain) as server:
        with Client(server.address) as one, Client(server.address) as two:
            first, second = await server.of(one), await server.of(two)

            def said(_: Notes) -> None:
                first.close()
                second.write(b"1" * 1000)

            first.hooks = {"data": said, "lost": lambda _: second.write(b"2" * 200_000)}
            one.send(b"go")
            assert await two.receive(201_000) == b"1" * 1000 + b"2" * 200_000
            await turns()
            assert drain(two.sock) == 0
            assert second.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("kinds", [(Buffered, Plain), (Plain, Buffered)])
async def test_a_protocol_that_changes_in_the_turn_of_its_data(
    kinds: tuple[type[Notes], type[Notes]],
) -> None:
    before, after = kinds
    async with serving(before) as server:
        with Client(server.address) as one, Client(server.address) as two:
            protocols = [await server.of(one), await server.of(two)]
            new = [after(), after()]

            def change(number: int, _: Notes) -> None:
                if not new[number].events:
                    protocols[number].hand_over(new[number])

            for number in (0, 1):  # the first one called changes the other
                protocols[number].hooks = {"data": partial(change, 1 - number)}
            one.send(b"one")
            two.send(b"two")
            notes = [p.__dict__ for p in protocols]
            await server.until(lambda: all(sum(map(len, n["chunks"])) == 3 for n in notes))
            assert [b"".join(n["chunks"]) for n in notes] == [b"one", b"two"]
            assert sorted(bool(n.events) for n in new) == [False, True]
            changed = new.index(max(new, key=lambda n: len(n.events)))
            protocols[changed].lost = new[changed].lost
            server.protocols[server.protocols.index(protocols[changed])] = new[changed]


async def test_a_writer_that_does_not_wait_is_resumed_all_the_same() -> None:
    """The writer's own write may empty the buffer."""
    async with connected(Plain) as (client, protocol):
        for part in (64 * 1024, *[4096] * 400):
            protocol.write(bytes(part))
        while "pause" not in protocol.events:
            protocol.write(bytes(MIB))
        for _ in range(100):
            protocol.write(bytes(4096))
        while protocol.transport.get_write_buffer_size() and "resume" not in protocol.events:
            drain(client.sock)
            protocol.write(bytes(4096))
            await asyncio.sleep(0)
        reading = asyncio.create_task(client.rest())
        await protocol.told("resume")
        protocol.abort()
        await asyncio.gather(reading, return_exceptions=True)


# -- in the middle of something else --


async def test_connections_outlive_their_server_and_a_garbage_collection() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        over.set_result(None)

    over = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    with Client(server.sockets[0].getsockname()) as client:
        client.send(b"one")
        assert await client.receive(3) == b"one"
        server.close()
        del server
        await turns()
        gc.collect()
        client.send(b"two")
        assert await client.receive(3) == b"two"
    await asyncio.wait_for(over, WAIT)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("size", [1, MIB])
async def test_a_write_from_another_thread(debug: bool, size: int) -> None:
    """No loop promises this, but all allow it, in debug mode, too; no other event is needed."""
    async with connected(Plain) as (client, protocol):
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        reading = asyncio.ensure_future(client.receive(size))
        await asyncio.to_thread(protocol.transport.write, b"x" * size)
        assert len(await asyncio.wait_for(reading, WAIT)) == size
        loop.set_debug(False)
        protocol.write(b"two")
        protocol.close()
        assert await client.rest() == b"two"
