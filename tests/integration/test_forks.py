"""What a fork does to a loop: before it runs, while it runs, and beside it."""

import asyncio
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from support.workers import Who, bound, fork, serve_table, shake

import aiofastsocket
from aiofastsocket import ListenTable
from aiofastsocket.loop import LOOPS


def ends(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def asked(address: object, count: int) -> list[int]:
    return await asyncio.get_running_loop().run_in_executor(None, shake, address, count)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_goes_on_with_a_running_loop(loop: str, tmp_path: object) -> None:
    """It is told so, and its parent's loop does not notice."""
    read_end, write_end = os.pipe()
    parent = os.getpid()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Who, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        if os.fork() == 0:
            await asyncio.sleep(60)
            os._exit(3)
        await asyncio.sleep(0.2)
        assert await asked(address, 20) == [parent] * 20
        server.close()
        await server.wait_closed()

    try:
        aiofastsocket.run(main(), loop=loop)
    except RuntimeError as error:
        if os.getpid() != parent:
            os.write(write_end, str(error).encode())
            os._exit(0)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(4)
    assert ends(-1) == 0
    os.close(write_end)
    with os.fdopen(read_end) as told:
        assert "was running when its process forked" in told.read()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_of_a_running_loop_with_a_loop_of_its_own(loop: str) -> None:
    """fork() in a handler, and a server in the child: each has its own slot."""
    with bound() as sock, ListenTable(sock, slots=4, steer="spread") as table:

        async def main() -> None:
            running = asyncio.get_running_loop()
            server = await running.create_server(Who, sock=table.sock)
            await asyncio.sleep(0.01)
            pid = fork(partial(serve_table, table, loop))
            while sum(slot.live for slot in table.slots()) < 2:
                await asyncio.sleep(0.01)
            answers = await asked(sock.getsockname(), 300)
            assert set(answers) == {pid, os.getpid()}
            os.kill(pid, signal.SIGTERM)
            assert ends(pid) == 0
            assert await asked(sock.getsockname(), 20) == [os.getpid()] * 20
            server.close()
            await server.wait_closed()

        aiofastsocket.run(main(), loop=loop)


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_child_that_closes_what_it_inherited(loop_name: str) -> None:
    """Its parent's epoll set, claims and listeners stay."""
    loop = aiofastsocket.new_event_loop(loop_name)
    server = loop.run_until_complete(loop.create_server(Who, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    readable, other = socket.socketpair()
    came: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(readable, lambda: came.set_result(readable.recv(10)))
    loop.run_until_complete(asyncio.sleep(0.01))

    def child() -> None:
        loop.remove_reader(readable)
        server.close()
        loop.close()

    assert ends(fork(child)) == 0
    other.send(b"still here")
    assert loop.run_until_complete(asyncio.wait_for(came, 10)) == b"still here"
    assert loop.run_until_complete(asked(address, 20)) == [os.getpid()] * 20
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.remove_reader(readable)
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()
    readable.close()
    other.close()


@pytest.mark.parametrize("loop_name", LOOPS)
def test_signals_and_wakeups_of_parent_and_child_do_not_mix(loop_name: str) -> None:
    loop = aiofastsocket.new_event_loop(loop_name)
    got: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: got.append("parent's"))
    loop.run_until_complete(asyncio.sleep(0))

    def child() -> None:
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon(os.write, write_end, b"r")
        loop.run_forever()
        # A look-up in a thread: the pool's threads were the parent's.
        loop.run_until_complete(loop.run_in_executor(None, os.getpid))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    loop.run_until_complete(loop.run_in_executor(None, os.getpid))
    read_end, write_end = os.pipe()
    pid = fork(child)

    async def parent() -> None:
        await loop.run_in_executor(None, os.read, read_end, 1)
        os.kill(pid, signal.SIGUSR1)
        assert await loop.run_in_executor(None, ends, pid) == 0
        await asyncio.sleep(0.05)

    loop.run_until_complete(parent())
    assert got == []
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.close()
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_returns_from_a_handler(loop: str, tmp_path: Path) -> None:
    """The rest of the turn, other connections' callbacks and answers, is the parent's."""
    parent = os.getpid()
    children: list[int] = []

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            with (tmp_path / str(os.getpid())).open("ab") as told:
                told.write(data)
            if not children:
                children.append(os.fork())
            self.transport.write(b"answer")

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(8)]
        await asyncio.sleep(0.1)
        for client in clients:
            client.sendall(b"x")
        answers = [await asyncio.to_thread(client.recv, 100) for client in clients]
        assert ends(children[0]) == 0
        assert answers == [b"answer"] * 8
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(client.recv, 100) == b""  # and not twice
            client.close()
        server.close()
        await server.wait_closed()

    try:
        aiofastsocket.run(main(), loop=loop)
    except RuntimeError as error:
        if os.getpid() != parent:
            os._exit(0 if "was running when" in str(error) else 3)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(4)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {str(parent): b"x" * 8}
