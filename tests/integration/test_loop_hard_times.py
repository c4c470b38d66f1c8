"""Our loops when something runs out, is closed under them, or is cancelled too early."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import pytest
from support.loops import Echo, ask
from support.service import until
from support.workers import Greeter, Who, Workers, bound, fork, serve_table, shake

import aiofastsocket
from aiofastsocket import ListenTable, LocalListener
from aiofastsocket.acceptor import Acceptor
from aiofastsocket.listeners import Peer, table_of
from aiofastsocket.loop import LOOPS


def program(text: str) -> str:
    """Run a program to its end; what it printed."""
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("loop", LOOPS)
def test_descriptors_that_run_out_and_are_taken_meanwhile(loop: str) -> None:
    """What the pause itself gives back is taken by somebody; still it resumes."""
    text = f"""
import aiofastsocket, asyncio, os, resource, socket
class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Hello, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    client = socket.socket()
    client.setblocking(False)
    taken = []
    "x".encode("idna")  # sock_connect imports it
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    def take():
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    take()
    await loop.sock_connect(client, address)
    for _ in range(25):
        await asyncio.sleep(0.05)
        take()
    for fd in taken:
        os.close(fd)
    print(await asyncio.wait_for(loop.sock_recv(client, 10), 20))
    server.close()
    await server.wait_closed()
aiofastsocket.run(main(), loop={loop!r}, slots=2)
"""
    assert program(text) == "b'hello'"


@pytest.mark.parametrize("loop", LOOPS)
def test_after_a_pause_the_owner_stands_first_again(loop: str) -> None:
    with bound() as sock, ListenTable(sock, slots=2, steer="spread") as table:

        async def paused_once() -> None:
            running: Any = asyncio.get_running_loop()
            acceptors: list[Acceptor] = []
            original = Acceptor.start

            def start(self: Acceptor) -> None:
                acceptors.append(self)
                original(self)

            Acceptor.start = start  # type: ignore[method-assign]
            stop = asyncio.Event()
            running.add_signal_handler(signal.SIGTERM, stop.set)
            running.add_signal_handler(
                signal.SIGUSR1, lambda: acceptors[0]._pause(OSError(24, "as if"))
            )
            server = await running.create_server(Who, sock=sock)
            await stop.wait()
            server.close()
            await server.wait_closed()

        main = partial(aiofastsocket.run, loop=loop)
        with Workers(table, lambda: main(paused_once()), 2) as workers:
            epochs = [slot.epoch for slot in table.slots()]
            for pid in workers.pids:
                os.kill(pid, signal.SIGUSR1)
            until(
                lambda: all(s.epoch > e for s, e in zip(table.slots(), epochs, strict=True)),
                "both stood first again",
            )
            time.sleep(0.1)
            shake(sock.getsockname(), 20, gap=0.002)
            before = sum(slot.own for slot in table.slots())
            shake(sock.getsockname(), 200, gap=0.002)
            assert sum(slot.own for slot in table.slots()) - before >= 190


def test_a_task_cancelled_before_it_began() -> None:
    """Its connection is closed, and the server does not wait for it for ever. (On the asyncio loop
    the task is asyncio's own.)"""

    async def main() -> None:
        running = asyncio.get_running_loop()
        server = await running.create_server(Echo, "127.0.0.1", 0)
        factory = running.get_task_factory()

        def cancelled(loop: Any, coro: Any, **options: Any) -> Any:
            task = asyncio.Task(coro, loop=loop, **options)
            if coro.__name__ == "connect_accepted_socket":
                task.cancel()
            return task

        running.set_task_factory(cancelled)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setblocking(False)
        assert await asyncio.wait_for(running.sock_recv(client, 10), 10) == b""
        client.close()
        running.set_task_factory(factory)
        waiter = running.create_task(server.wait_closed())
        await asyncio.sleep(0)
        server.close()
        await asyncio.wait_for(waiter, 10)

    aiofastsocket.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_reader_under_a_default_timeout(loop: str) -> None:
    """socket.setdefaulttimeout is for sockets of the user's: a transport never blocks its loop."""
    text = f"""
import aiofastsocket, asyncio, socket, time
socket.setdefaulttimeout(3)
class Flood(asyncio.Protocol):
    def connection_made(self, transport):
        before = time.monotonic()
        transport.write(b"x" * (64 << 20))
        print(time.monotonic() - before < 2)
        transport.abort()
async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Flood, "127.0.0.1", 0)
    client = await loop.run_in_executor(
        None, socket.create_connection, server.sockets[0].getsockname()
    )
    await asyncio.sleep(0.1)
    client.close()
    server.close()
    await server.wait_closed()
aiofastsocket.run(main(), loop={loop!r}, debug=True)
"""
    assert program(text) == "True"


@pytest.mark.parametrize("loop", LOOPS)
def test_an_oserror_of_the_factory_is_told(loop: str) -> None:
    said: list[dict[str, Any]] = []

    def factory() -> Echo:
        raise FileNotFoundError("no such template")

    async def main() -> None:
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda _, context: said.append(context))
        running.set_debug(True)  # asyncio's loop tells of it only then
        server = await running.create_server(factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    aiofastsocket.run(main(), loop=loop)
    assert [type(context["exception"]) for context in said] == [FileNotFoundError]


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
            "served by a server: close that first"
        ]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_closed_while_accepting_pauses(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiofastsocket.acceptor.RETRY_SECONDS", 0.05)
    said: list[object] = []
    with bound() as sock, ListenTable(sock, slots=2) as table:

        async def main() -> None:
            running: Any = asyncio.get_running_loop()
            running.set_exception_handler(lambda _, context: said.append(context))
            local = LocalListener(table)
            acceptor = Acceptor(running, local, lambda *_: None)
            acceptor.spawn()
            await asyncio.sleep(0.01)
            acceptor._pause(OSError(24, "as if"))
            table.close()
            await asyncio.sleep(0.1)

        aiofastsocket.run(main(), loop=loop)
    assert said == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_that_was_shut_down(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """Told once, and no busy loop."""
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
def test_who_waits_in_sock_accept_gets_a_slot_that_becomes_free(loop: str) -> None:
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
def test_a_signal_to_a_child_is_not_its_parents(loop: str) -> None:
    """multiprocessing's terminate(), in a server that handles TERM itself."""
    got: list[str] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGTERM, lambda: got.append("parent's"))
        pid = fork(child)
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        await asyncio.sleep(0.2)
        running.remove_signal_handler(signal.SIGTERM)

    def child() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
        time.sleep(60)

    aiofastsocket.run(main(), loop=loop)
    assert got == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_table_closed_under_its_server(loop: str) -> None:
    """Refused: clients would connect to what nobody serves."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2) as table:
            server = await running.create_server(Echo, sock=sock)
            with pytest.raises(RuntimeError, match="close that first"):
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
def test_a_socket_closed_by_who_made_it(loop: str, with_table: bool) -> None:
    """As on uvloop: the server goes on with it, and touches nobody else's descriptor."""

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


def test_run_in_a_running_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            aiofastsocket.run(asyncio.sleep(0))

    aiofastsocket.run(main())


def test_what_no_table_can_be_made_of() -> None:
    with pytest.raises(TypeError, match="bound socket"):
        ListenTable("127.0.0.1:80")  # type: ignore[arg-type]
    with bound() as sock, pytest.raises(aiofastsocket.UsageError, match="use 0 to"):
        ListenTable(sock, slots=100_000)
    with socket.socket() as sock, ListenTable(sock, slots=1) as table:
        assert not table.address.endswith(":0")


@pytest.mark.parametrize("loop", LOOPS)
def test_who_kept_only_the_socket_has_the_table(loop: str) -> None:
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
def test_a_server_closed_in_the_turn_of_an_accept(loop: str) -> None:
    """Whom it accepted it serves; whom it did not is left for others."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2) as table:
            server = await running.create_server(Greeter, sock=sock)
            await asyncio.sleep(0.01)
            running.call_later(0.01, server.close)
            clients = [socket.create_connection(sock.getsockname()) for _ in range(10)]
            time.sleep(0.05)  # now both are due
            await asyncio.sleep(0.2)
            accepted = sum(slot.accepted for slot in table.slots())
            answered = 0
            for client in clients:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    assert client.recv(100) == b"%d\n" % os.getpid()
                    answered += 1
                client.close()
            assert answered == accepted
            await server.wait_closed()

    aiofastsocket.run(main(), loop=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_was_refused_stops_nobody(loop: str) -> None:
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


@pytest.mark.parametrize("loop", LOOPS)
def test_a_burst_ends_with_its_acceptor(loop: str) -> None:
    """As with eager tasks (Python 3.12), where a factory may close its server in the burst."""
    served: list[int] = []

    async def main() -> None:
        running: Any = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2) as table:

            def serve(fd: int, _: Peer) -> None:
                os.close(fd)
                served.append(fd)
                if len(served) == 3:
                    acceptor.stop()

            acceptor = Acceptor(running, LocalListener(table), serve)
            acceptor.spawn()
            await asyncio.sleep(0.01)
            for _ in range(10):
                socket.create_connection(sock.getsockname()).close()
            await asyncio.sleep(0.05)
            acceptor.local.release()

    aiofastsocket.run(main(), loop=loop)
    assert len(served) == 3
