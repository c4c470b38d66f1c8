"""Our loops when something runs out, is cancelled too early, or comes at a bad moment."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from functools import partial
from typing import Any

import pytest
from support.loops import Echo
from support.service import program, until
from support.workers import Greeter, Who, Workers, bound, fork, shake

import aiofastsocket
from aiofastsocket import ListenTable
from aiofastsocket.choices import LOOPS
from aiofastsocket.loop.acceptor import Acceptor


@pytest.mark.parametrize("loop", LOOPS)
def test_descriptors_that_run_out_and_are_taken_meanwhile(loop: str) -> None:
    """The program takes the descriptors that the pause gives back; accepting still resumes."""
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


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_reader_under_a_default_timeout(loop: str) -> None:
    """socket.setdefaulttimeout is for the user's sockets: a transport never blocks its loop."""
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
        running.set_debug(True)  # asyncio's loop reports it only then
        server = await running.create_server(factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    aiofastsocket.run(main(), loop=loop)
    assert [type(context["exception"]) for context in said] == [FileNotFoundError]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_to_a_child_is_not_its_parents(loop: str) -> None:
    """As multiprocessing's terminate() does, in a server that handles TERM itself."""
    got: list[str] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        running.add_signal_handler(signal.SIGTERM, lambda: got.append("parent's"))
        pid = fork(child)
        assert os.read(ready[0], 1)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        await asyncio.sleep(0.2)
        running.remove_signal_handler(signal.SIGTERM)

    def child() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
        os.write(ready[1], b"x")
        for _ in range(6000):  # short sleeps: a signal just before one does not interrupt it
            time.sleep(0.01)

    ready = os.pipe()
    aiofastsocket.run(main(), loop=loop)
    for fd in ready:
        os.close(fd)
    assert got == []


def test_run_in_a_running_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            aiofastsocket.run(asyncio.sleep(0))

    aiofastsocket.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_closed_in_the_turn_of_an_accept(loop: str) -> None:
    """The server serves the connections that it accepted, and leaves the others in the queue."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        with bound() as sock, ListenTable(sock, slots=2) as table:
            server = await running.create_server(Greeter, sock=sock)
            await asyncio.sleep(0.01)
            running.call_later(0.01, server.close)
            clients = [socket.create_connection(sock.getsockname()) for _ in range(10)]
            time.sleep(0.05)  # now the accepts and the close are due
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
