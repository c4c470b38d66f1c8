"""sock_accept and add_reader: accepting by hand."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.loops import table_counts

from aiofastsocket import ListenTable, tables_of

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def listening_or_table(slots: int | None) -> Iterator[socket.socket]:
    if slots is None:
        with listening() as sock:
            yield sock
    else:
        with bound() as sock, ListenTable(sock, slots=slots):
            yield sock


async def cancelled_after(turns: int, task: "asyncio.Task[Any]") -> Any:
    """Cancel a task after `turns` turns of the loop; its result, or its exception."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def test_sock_accept() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        waiting = loop.create_task(loop.sock_accept(sock))
        await asyncio.sleep(0)
        with socket.create_connection(sock.getsockname()) as client:
            connection, address = await waiting
            assert address == client.getsockname()
            client.sendall(b"x")
            assert await loop.sock_recv(connection, 10) == b"x"
            connection.close()


async def test_cancelled_sock_accept_takes_nothing() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        for _ in range(3):
            waiting = loop.create_task(loop.sock_accept(sock))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        with socket.create_connection(sock.getsockname()) as client:
            connection, address = await asyncio.wait_for(loop.sock_accept(sock), 10)
            assert address == client.getsockname()
            connection.close()


@pytest.mark.asyncio(loop_factories=OURS)  # asyncio and uvloop lose one in one of the turns
@pytest.mark.parametrize("slots", [None, 2])
async def test_a_cancelled_sock_accept_loses_no_connection(slots: int | None) -> None:
    """The next call gets an undelivered connection, however far the cancelled call had come."""
    loop: Any = asyncio.get_running_loop()
    with listening_or_table(slots) as sock:
        cancelled = set()
        for turns in range(6):
            first = loop.create_task(loop.sock_accept(sock))
            await asyncio.sleep(0)
            with socket.create_connection(sock.getsockname()) as client:
                result = await cancelled_after(turns, first)
                if isinstance(result, asyncio.CancelledError):
                    cancelled.add(turns)
                    result = await asyncio.wait_for(loop.sock_accept(sock), 10)
                connection, address = result
                assert address == client.getsockname()
                connection.close()
        assert 0 < len(cancelled) < 6  # some turns come before the result, others after it


@pytest.mark.asyncio(loop_factories=OURS)  # other loops allow one at a time
@pytest.mark.parametrize("slots", [None, 2])
async def test_a_cancelled_turn_is_the_next_ones(slots: int | None) -> None:
    loop: Any = asyncio.get_running_loop()
    with listening_or_table(slots) as sock:
        for turns in range(6):
            first, second = (loop.create_task(loop.sock_accept(sock)) for _ in range(2))
            await asyncio.sleep(0)
            with socket.create_connection(sock.getsockname()) as client:
                result = await cancelled_after(turns, first)
                if isinstance(result, asyncio.CancelledError):
                    result = await asyncio.wait_for(second, 10)
                assert result[1] == client.getsockname()
                result[0].close()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)


async def test_add_reader_on_a_listener() -> None:
    loop: Any = asyncio.get_running_loop()
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    with listening() as sock:
        loop.add_reader(sock, lambda: accepted.put_nowait(sock.accept()[0]))
        for _ in range(5):
            with socket.create_connection(sock.getsockname()):
                (await asyncio.wait_for(accepted.get(), 10)).close()
        loop.remove_reader(sock)


@pytest.mark.asyncio(loop_factories=OURS)
async def test_add_reader_stays_on_the_global_listener() -> None:
    """No slot of the table is claimed: all connections arrive at the socket that the user knows."""
    loop: Any = asyncio.get_running_loop()
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    with bound() as sock, ListenTable(sock, slots=2) as table:
        loop.add_reader(sock, lambda: accepted.put_nowait(sock.accept()[0]))
        for _ in range(5):
            with socket.create_connection(sock.getsockname()):
                (await asyncio.wait_for(accepted.get(), 10)).close()
        loop.remove_reader(sock)
        assert not any(slot.pid for slot in table.slots())


@pytest.mark.asyncio(loop_factories=OURS)
async def test_sock_accept_from_a_table() -> None:
    loop: Any = asyncio.get_running_loop()
    with bound() as sock, ListenTable(sock, slots=2) as table:
        for name in (table, sock) * 20:
            waiting = loop.create_task(loop.sock_accept(name))
            await asyncio.sleep(0.001)
            with socket.create_connection(sock.getsockname()) as client:
                connection, address = await asyncio.wait_for(waiting, 10)
                assert address == client.getsockname()
                assert not connection.getblocking()
                connection.close()
        slots = table.slots()
        assert sum(s.own for s in slots) >= 38
        assert sum(s.accepted for s in slots) == 40


@pytest.mark.asyncio(loop_factories=OURS)
async def test_several_accept_from_one_table() -> None:
    loop: Any = asyncio.get_running_loop()
    with bound() as sock, ListenTable(sock, slots=2) as table:
        waiting = [loop.create_task(loop.sock_accept(table)) for _ in range(5)]
        await asyncio.sleep(0.01)
        waiting[1].cancel()
        clients = [socket.create_connection(sock.getsockname()) for _ in range(4)]
        together = asyncio.gather(*waiting, return_exceptions=True)
        done: list[Any] = await asyncio.wait_for(together, 10)
        assert isinstance(done.pop(1), asyncio.CancelledError)
        accepted = {connection.getpeername() for connection, _ in done}
        assert accepted == {client.getsockname() for client in clients}
        for connection, _ in done:
            connection.close()
        for client in clients:
            client.close()


@pytest.mark.asyncio(loop_factories=OURS)
async def test_a_loop_that_does_not_wait_gives_the_slot_up() -> None:
    """A connection that comes while no task waits is left to others, and the loop does not spin."""
    loop: Any = asyncio.get_running_loop()
    with bound() as sock, ListenTable(sock, slots=2) as table:
        waiting = loop.create_task(loop.sock_accept(table))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.sleep(0)
        assert any(slot.live for slot in table.slots())
        with socket.create_connection(sock.getsockname()):
            while any(slot.live for slot in table.slots()):
                await asyncio.sleep(0.001)
            before = os.times()
            await asyncio.sleep(0.2)
            after = os.times()
            assert after.user + after.system - before.user - before.system < 0.15
            connection, _ = await asyncio.wait_for(loop.sock_accept(table), 10)
            connection.close()


@pytest.mark.asyncio(loop_factories=OURS)
async def test_mistakes_with_tables() -> None:
    loop: Any = asyncio.get_running_loop()
    with bound() as sock:
        table = ListenTable(sock, slots=2)
        server = await loop.create_server(asyncio.Protocol, sock=table)
        with pytest.raises(RuntimeError, match="served"):
            await loop.sock_accept(table)
        with pytest.raises(RuntimeError, match="served"):
            await loop.create_server(asyncio.Protocol, sock=table)
        server.close()
        await server.wait_closed()
        waiting = loop.create_task(loop.sock_accept(table))
        await asyncio.sleep(0.01)
        table.close()
        with pytest.raises(ValueError, match="closed"):
            await waiting
        with pytest.raises(ValueError, match="closed"):
            await loop.sock_accept(table)
        with pytest.raises(ValueError, match="closed"):
            await loop.create_server(asyncio.Protocol, sock=table)


@pytest.mark.asyncio(loop_factories=OURS)
async def test_a_table_outlives_its_server() -> None:
    loop: Any = asyncio.get_running_loop()
    with bound() as sock, ListenTable(sock, slots=2) as table:
        for made in range(1, 4):
            server = await loop.create_server(asyncio.Protocol, sock=table)
            await asyncio.sleep(0.01)
            with socket.create_connection(sock.getsockname()):
                while sum(slot.accepted for slot in table.slots()) < made:
                    await asyncio.sleep(0.001)
            server.close()
            await server.wait_closed()
            assert not any(slot.pid for slot in table.slots())


@pytest.mark.asyncio(loop_factories=OURS)
async def test_a_foreign_listener_is_served_as_it_is() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        server = await loop.create_server(asyncio.Protocol, sock=sock)
        with socket.create_connection(sock.getsockname()):
            await asyncio.sleep(0.01)
        assert table_counts() == []
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        server.close()
        await server.wait_closed()
    assert list(tables_of(os.getpid())) == []
