"""One connection does no harm to others, to timers or to an idle loop."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from support.protocols import MIB, Client, Notes, Plain, connected, serving

pytestmark = pytest.mark.asyncio
ECHOES = 50


@contextlib.asynccontextmanager
async def in_a_thread(work: Callable[[Callable[[], bool]], None]) -> AsyncIterator[None]:
    """Run work(going) in a thread during the block; the test fails if it ends early."""
    over = threading.Event()
    running = asyncio.create_task(asyncio.to_thread(work, lambda: not over.is_set()))
    try:
        yield
        assert not running.done()
    finally:
        over.set()
        await running


async def others_are_served(address: Any, busy: Callable[[], int]) -> None:
    """Check echoes, new connections and timers, all while `busy` counts on."""
    loop = asyncio.get_running_loop()
    with Client(address) as client:
        for _ in range(ECHOES):
            before = busy()
            ticked = loop.create_future()
            loop.call_later(0.001, ticked.set_result, None)
            client.send(b"echo")
            assert await client.receive(4) == b"echo"
            await asyncio.wait_for(ticked, 30)
            with Client(address) as another:
                another.send(b"echo")
                assert await another.receive(4) == b"echo"
            async with asyncio.timeout(30):
                while busy() == before:
                    await asyncio.sleep(0)


def echo(protocol: Notes) -> None:
    if protocol.chunks[-1] == b"echo":
        protocol.write(b"echo")
    else:
        flood[0] += len(protocol.chunks.pop())


flood = [0]


async def test_a_client_that_sends_at_full_speed() -> None:
    async with serving(partial(Plain, data=echo)) as server:

        def send(going: Callable[[], bool]) -> None:
            with socket.create_connection(server.address) as sock:
                while going():
                    sock.sendall(bytes(MIB))

        async with in_a_thread(send):
            await others_are_served(server.address, lambda: flood[0])


async def test_clients_that_come_and_go_at_full_speed() -> None:
    async with serving(partial(Plain, data=echo)) as server:

        def connect(going: Callable[[], bool]) -> None:
            while going():
                with socket.create_connection(server.address, timeout=30) as sock:
                    sock.sendall(b"echo")
                    assert sock.recv(4) == b"echo"
                    count[0] += 1

        count = [0]
        async with in_a_thread(connect):
            await others_are_served(server.address, lambda: count[0])


async def test_hundreds_at_once() -> None:
    """Hundreds of clients connect and send their requests before the loop looks once."""
    many = 400
    async with serving(partial(Plain, data=echo), backlog=many) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.address)) for _ in range(many)]
            for client in clients:
                client.send(b"echo")
            for client in clients:
                assert await client.receive(4) == b"echo"
            assert len(server.protocols) == many


async def test_connections_that_wait_cost_nothing() -> None:
    """Each is in a state in which polling for too many events would never wait."""

    async def one(server: Any, prepare: Callable[[Client, Notes], None]) -> Client:
        client: Client = stack.enter_context(Client(server.address))
        prepare(client, await server.of(client))
        return client

    def paused_with_data(client: Client, protocol: Notes) -> None:
        protocol.transport.pause_reading()
        client.send(b"data")

    def paused_with_end(client: Client, protocol: Notes) -> None:
        protocol.transport.pause_reading()
        client.finish()

    def paused_and_reset(client: Client, protocol: Notes) -> None:
        protocol.transport.pause_reading()
        client.reset()

    def half_closed(client: Client, protocol: Notes) -> None:
        client.finish()

    def half_closed_by_both(client: Client, protocol: Notes) -> None:
        protocol.call("write_eof")
        client.finish()

    def not_read(client: Client, protocol: Notes) -> None:
        protocol.write(bytes(32 * MIB))

    def not_read_and_closing(client: Client, protocol: Notes) -> None:
        protocol.write(bytes(32 * MIB))
        protocol.close()
        client.send(b"data")
        client.finish()

    states = [
        paused_with_data,
        paused_with_end,
        paused_and_reset,
        half_closed,
        half_closed_by_both,
        not_read,
        not_read_and_closing,
    ]
    async with serving(partial(Plain, eof=lambda _: True)) as server:
        with contextlib.ExitStack() as stack:
            for prepare in states:
                await one(server, prepare)
            await asyncio.sleep(0.1)
            # A ratio of two clocks: a loop that turns without end would have it near 1.
            wall, cpu = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.3)
            assert time.thread_time() - cpu < (time.monotonic() - wall) / 3


async def test_a_slow_reader_holds_nobody_up() -> None:
    async with connected(partial(Plain, data=echo)) as (_, slow):
        slow.write(bytes(32 * MIB))
        address = slow.transport.get_extra_info("sockname")
        with Client(address) as client:
            for _ in range(ECHOES):
                client.send(b"echo")
                assert await client.receive(4) == b"echo"
        assert slow.events == ["made", "pause"]
