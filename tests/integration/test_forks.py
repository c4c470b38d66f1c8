"""Forks before a loop runs, while it runs, and with another loop in the child."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.protocols import MIB, Buffered, Client, Notes, Plain, connected, serving
from support.workers import Who, bound, fork, serve_table, shake

import aiofastsocket
from aiofastsocket import ListenTable
from aiofastsocket.choices import LOOPS


def ends(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def asked(address: object, count: int) -> list[int]:
    return await asyncio.get_running_loop().run_in_executor(None, shake, address, count)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_goes_on_with_a_running_loop(loop: str, tmp_path: object) -> None:
    """The child gets an error, and the parent's loop is not affected."""
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
    """A handler forks, and the child serves too: each process has its own slot."""
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
    """The parent's epoll set, claims and listeners stay intact."""
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
        # Run a call in a thread: the threads of the inherited pool exist only in the parent.
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


def run_and_fork(
    loop: str, tmp_path: Path, main: Callable[[], Coroutine[Any, Any, None]]
) -> dict[int, list[str]]:
    """Run `main`, which forks in a callback that returns in both; return their notes (`note`)."""
    parent = os.getpid()
    try:
        aiofastsocket.run(main(), loop=loop)
    except RuntimeError as error:
        if os.getpid() != parent:
            os._exit(0 if "was running when" in str(error) else 3)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(4)
    assert ends(-1) == 0
    return {int(path.name): path.read_text().split() for path in tmp_path.iterdir()}


def note(tmp_path: Path, event: str) -> None:
    with (tmp_path / str(os.getpid())).open("a") as notes:
        notes.write(event + "\n")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_returns_from_a_handler(loop: str, tmp_path: Path) -> None:
    """Only the parent does the rest of the turn: other connections' callbacks and answers."""
    forked: list[int] = []

    def answer(protocol: Notes) -> None:
        note(tmp_path, protocol.chunks[-1].decode())
        if not forked:
            forked.append(os.fork())
        protocol.write(b"answer")

    async def main() -> None:
        async with serving(partial(Plain, data=answer)) as server:
            clients = [Client(server.address) for _ in range(8)]
            for client in clients:
                await server.of(client)
            for client in clients:
                client.send(b"x")
            for client in clients:
                assert await client.receive(6) == b"answer"
                client.finish()
                assert await client.rest() == b""  # the answer does not come twice
                client.sock.close()

    assert run_and_fork(loop, tmp_path, main) == {os.getpid(): ["x"] * 8}


@pytest.mark.parametrize("kind", [Plain, Buffered])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_returns_while_others_wait_to_be_told(
    loop: str, kind: type[Notes], tmp_path: Path
) -> None:
    """The others wait for data that came while reading was paused, or for the rest of it."""
    forked: list[int] = []

    def told(protocol: Notes) -> None:
        note(tmp_path, f"{id(protocol)}:{protocol.chunks[-1].decode()}")
        if not forked:
            forked.append(os.fork())

    async def main() -> None:
        made = partial(kind, made=lambda p: p.call("pause_reading"), data=told)
        async with serving(made) as server:
            clients = [Client(server.address) for _ in range(3)]
            for client in clients:
                client.send(b"0123456789")
            protocols = [await server.of(client) for client in clients]
            for protocol in protocols:
                protocol.call("resume_reading")
            for protocol in protocols:
                await protocol.until(lambda protocol=protocol: protocol.size == 10)  # type: ignore[misc]
            for client in clients:
                client.sock.close()

    (notes,) = run_and_fork(loop, tmp_path, main).values()
    assert len(notes) == (3 if kind is Plain else 6)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_child_that_returns_to_a_receive_or_an_end(loop: str, tmp_path: Path) -> None:
    """The child gets neither the client's bytes nor connection_lost."""
    forked: list[int] = []

    def fork_once(_: Notes) -> None:
        forked.append(os.fork())

    def lost(_: Notes) -> None:
        note(tmp_path, "lost")

    async def main() -> None:
        hooks = {"buffer": lambda p: None if forked else fork_once(p), "lost": lost}
        async with connected(partial(Buffered, **hooks)) as (client, protocol):
            client.send(b"data")
            await protocol.until(lambda: protocol.received == b"data")
            protocol.hooks = {"resume": fork_once, "lost": lost}
            protocol.write(bytes(32 * MIB))
            protocol.close()
            # Read in a thread: no child has it, so no child reads this client's data.
            client.sock.setblocking(True)
            received = await asyncio.to_thread(client.sock.recv, 32 * MIB, socket.MSG_WAITALL)
            assert len(received) == 32 * MIB
            await protocol.ended()
        assert len(forked) == 2
        assert ends(forked[0]) == 0

    assert run_and_fork(loop, tmp_path, main) == {os.getpid(): ["lost"]}
