"""Tables, their sockets and the servers on them: their owners, and the order of closing."""

import asyncio
import errno
import gc
import os
import signal
import socket
import subprocess
import threading
import time
from functools import partial
from typing import Any, cast

import pytest
from support.loops import Echo, ask
from support.service import until
from support.workers import Greeter, bound, fork, serve_table

import aiofastsocket
from aiofastsocket import ListenTable, LocalListener
from aiofastsocket.choices import LOOPS
from aiofastsocket.loop.acceptor import Acceptor
from aiofastsocket.loop.watching import Watching
from aiofastsocket.table.table import table_of


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_closed_in_another_thread(loop: str) -> None:
    with bound() as sock, ListenTable(sock, slots=2) as table:
        errors: list[BaseException] = []

        def close() -> None:
            try:
                table.close()
            except RuntimeError as error:
                errors.append(error)

        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Echo, sock=sock)
            thread = threading.Thread(target=close)
            thread.start()
            thread.join()
            assert await ask(sock.getsockname(), b"x") == b"x"
            server.close()
            await server.wait_closed()

        aiofastsocket.run(main(), loop=loop)
        assert [str(error).partition(" is ")[2] for error in errors] == [
            "served by a server: close the server first"
        ]


class Overdue:
    """A listener that has to look again at once, three times."""

    def __init__(self) -> None:
        self.looked = 0

    def look_due(self) -> int:
        return 0 if self.looked < 3 else -1

    def look(self) -> list[int]:
        self.looked += 1
        return [self.looked]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_look_that_is_due_at_once(loop: str) -> None:
    """The look is scheduled twice before it runs: uvloop returns no timer for a delay of 0."""

    async def main() -> None:
        running: Any = asyncio.get_running_loop()
        local, left = Overdue(), list[int]()
        same: Any = left.append
        watching = Watching(running, cast(Any, local), own=same, other=same, left=same)
        watching.schedule()
        watching.schedule()
        for _ in range(20):
            await asyncio.sleep(0)
        assert left == [1, 2, 3]

    aiofastsocket.run(main(), loop=loop)


class Nobody:
    """Takes no connection."""

    def take(self, slot: int, source: int, most: int) -> int:
        return -errno.EAGAIN

    def show(self, part: int) -> None:
        pass


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_closed_while_accepting_pauses(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiofastsocket.loop.acceptor.RETRY_SECONDS", 0.05)
    said: list[object] = []
    with bound() as sock, ListenTable(sock, slots=2) as table:

        async def main() -> None:
            running: Any = asyncio.get_running_loop()
            running.set_exception_handler(lambda _, context: said.append(context))
            local = LocalListener(table)
            acceptor = Acceptor(running, local, Nobody())
            acceptor.start()
            await asyncio.sleep(0.01)
            acceptor._pause(OSError(24, "as if"))
            table.close()
            await asyncio.sleep(0.1)

        aiofastsocket.run(main(), loop=loop)
    assert said == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_that_was_shut_down(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """The shutdown is logged once, and the loop does not spin."""
    said: list[object] = []
    with bound() as sock, ListenTable(sock, slots=2) as table:

        async def main() -> None:
            running = asyncio.get_running_loop()
            running.set_exception_handler(lambda _, context: said.append(context))
            server = await running.create_server(Echo, sock=sock)
            assert await ask(sock.getsockname(), b"x") == b"x"
            table.shutdown()
            await asyncio.sleep(0.05)
            before = time.process_time()
            await asyncio.sleep(0.3)
            assert time.process_time() - before < 0.2
            server.close()
            await server.wait_closed()

        aiofastsocket.run(main(), loop=loop)
    assert said == []
    assert caplog.text.count("was shut down") == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_accepted_by_hand_then_served(loop: str) -> None:
    with bound() as sock, ListenTable(sock, slots=2, backlog=321) as table:

        async def main() -> None:
            running = asyncio.get_running_loop()
            with socket.create_connection(sock.getsockname()):
                (await running.sock_accept(sock))[0].close()
            server = await running.create_server(Echo, sock=sock)
            assert await ask(sock.getsockname(), b"x") == b"x"
            server.close()
            await server.wait_closed()

        aiofastsocket.run(main(), loop=loop)
        out = subprocess.run(
            ["ss", "-Hltn", f"sport = :{sock.getsockname()[1]}"], capture_output=True, text=True
        ).stdout
        assert [line.split()[2] for line in out.splitlines()] == ["321"] * 3
        assert not table.closed


@pytest.mark.parametrize("loop", LOOPS)
def test_a_waiting_sock_accept_gets_a_slot_that_becomes_free(loop: str) -> None:
    async def accepts(table: ListenTable) -> None:
        running: Any = asyncio.get_running_loop()
        while True:
            connection, _ = await running.sock_accept(table)
            connection.close()

    with bound() as sock, ListenTable(sock, slots=1) as table:
        first = fork(partial(serve_table, table, loop, Greeter))
        until(lambda: table.slot(0).live, "the first has it")
        second = fork(lambda: aiofastsocket.run(accepts(table), loop=loop))
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        until(lambda: table.slot(0).live and table.slot(0).pid == second, "the second has it")
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_closed_under_its_server(loop: str) -> None:
    """Closing is refused: clients would connect to an address that no server serves."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2) as table:
            server = await running.create_server(Echo, sock=sock)
            with pytest.raises(RuntimeError, match="close the server first"):
                table.close()
            assert await ask(sock.getsockname(), b"x") == b"x"
            server.close()
            await server.wait_closed()
            table.close()
            with pytest.raises(ValueError, match="is closed"):
                await running.create_server(Echo, sock=table.sock)

    aiofastsocket.run(main(), loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("with_table", [False, True])
def test_a_socket_closed_by_its_maker(loop: str, with_table: bool) -> None:
    """As on uvloop, the server goes on, and does not touch the descriptors of others."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock:
            address = sock.getsockname()
            table = ListenTable(sock, slots=2) if with_table else None
            server = await running.create_server(Echo, sock=sock)
        others = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
        for _ in range(6):
            assert await ask(address, b"x") == b"x"
        server.close()
        await server.wait_closed()
        if table is not None:
            table.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for fd in others:
            os.close(fd)

    aiofastsocket.run(main(), loop=loop)


def test_what_no_table_can_be_made_of() -> None:
    with pytest.raises(TypeError, match="bound socket"):
        ListenTable("127.0.0.1:80")  # type: ignore[arg-type]
    with bound() as sock, pytest.raises(aiofastsocket.UsageError, match="use 0 to"):
        ListenTable(sock, slots=100_000)
    with socket.socket() as sock, ListenTable(sock, slots=1) as table:
        assert not table.address.endswith(":0")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_socket_alone_keeps_the_table(loop: str) -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        sock = ListenTable(bound(), slots=2).sock
        gc.collect()
        server = await running.create_server(Echo, sock=sock, start_serving=False)
        table = table_of(sock)
        assert table is not None
        await server.start_serving()
        assert await ask(sock.getsockname(), b"x") == b"x"
        assert table.slot(0).own == 1
        server.close()
        await server.wait_closed()
        unstarted = await running.create_server(Echo, sock=sock, start_serving=False)
        table.close()
        with pytest.raises(ValueError, match="is closed"):
            await unstarted.start_serving()
        unstarted.close()
        sock.close()

    aiofastsocket.run(main(), loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_server_stops_no_other_server(loop: str) -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2):
            first = await running.create_server(Echo, sock=sock)
            second = await running.create_server(Echo, sock=sock, start_serving=False)
            with pytest.raises(RuntimeError, match="served by this loop already"):
                await second.serve_forever()
            second.close()
            await second.wait_closed()
            assert await ask(sock.getsockname(), b"x") == b"x"
            with pytest.raises(RuntimeError, match="is closed"):
                await second.start_serving()
            first.close()
            await first.wait_closed()
            assert sock.fileno() >= 0

    aiofastsocket.run(main(), loop=loop)
