"""Beyond TCP listening: unix sockets, UDP, subprocesses, signals, executors, debug mode."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import cast

import pytest
from support.loops import Echo, ask
from support.workers import fork

pytestmark = pytest.mark.asyncio


async def test_unix_server(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "s")
    server = await loop.create_unix_server(Echo, path)
    for _ in range(3):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"unix")
        assert await reader.readexactly(4) == b"unix"
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_udp() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.transport.sendto(data.upper(), addr)  # type: ignore[arg-type]

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answer.set_result(data)

    served, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    address = served.get_extra_info("sockname")
    client, _ = await loop.create_datagram_endpoint(Client, remote_addr=address)
    client.sendto(b"udp")
    assert await asyncio.wait_for(answer, 10) == b"UDP"
    client.close()
    served.close()
    await asyncio.sleep(0.01)


async def test_subprocess() -> None:
    if asyncio.get_running_loop().__class__.__module__.startswith("aiofastsocket"):
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    else:
        server = None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import os, sys\nfor name in os.listdir('/proc/self/fd'):\n"
        "    try: print(os.readlink('/proc/self/fd/' + name))\n    except OSError: pass\n"
        "sys.exit(int(input()))",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(b"7\n")
    assert process.returncode == 7
    assert b"fastsocket" not in out, "a subprocess inherits no listener"
    if server is not None:
        server.close()
        await server.wait_closed()


async def test_pipes() -> None:
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(write_end, "wb"))
    writing.write(b"through a pipe")
    writing.close()
    assert await reader.read() == b"through a pipe"
    reading.close()
    await asyncio.sleep(0.01)


async def test_signals_while_serving() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    came: asyncio.Queue[int] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, came.put_nowait, 1)
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await asyncio.wait_for(came.get(), 10) == 1
        assert await ask(server.sockets[0].getsockname(), b"x") == b"x"
    assert loop.remove_signal_handler(signal.SIGUSR1)
    server.close()
    await server.wait_closed()


async def test_executor_and_threads() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    def blocking() -> bytes:
        with socket.create_connection(address, timeout=10) as sock:
            sock.sendall(b"from a thread")
            return sock.recv(100)

    assert await loop.run_in_executor(None, blocking) == b"from a thread"
    called = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,))
    thread.start()
    await asyncio.wait_for(called.wait(), 10)
    thread.join()
    server.close()
    await server.wait_closed()


async def test_debug_mode_of_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.05
    try:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        assert await ask(server.sockets[0].getsockname(), b"x") == b"x"
        with caplog.at_level(logging.WARNING, "asyncio"):
            loop.call_soon(time.sleep, 0.1)
            await asyncio.sleep(0.01)
        assert "took" in caplog.text
        server.close()
        await server.wait_closed()
    finally:
        loop.set_debug(False)


async def test_timers_run_under_load() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = loop.create_task(tick())
    for _ in range(1000):  # however fast they are
        await asyncio.gather(*(ask(address, b"x") for _ in range(20)))
        if ticks >= 10:
            break
    ticking.cancel()
    assert ticks >= 10
    server.close()
    await server.wait_closed()
    await asyncio.gather(ticking, return_exceptions=True)


async def test_context_variables() -> None:
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Reads(Echo):
        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())
            super().data_received(data)

    loop = asyncio.get_running_loop()
    variable.set("the server's")
    server = await loop.create_server(Reads, "127.0.0.1", 0)
    variable.set("somebody else's")
    assert await ask(server.sockets[0].getsockname(), b"x") == b"x"
    assert seen == ["the server's"]
    server.close()
    await server.wait_closed()


async def test_fork_beside_a_running_loop() -> None:
    """The child has its own loop, for a server at another address; the parent's loop goes on."""
    loop = asyncio.get_running_loop()
    kind = type(loop)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    read_end, write_end = os.pipe()

    async def serve() -> None:
        own = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        assert await ask(own.sockets[0].getsockname(), b"child") == b"child"
        own.close()
        await own.wait_closed()

    def child() -> None:
        with asyncio.Runner(loop_factory=kind) as runner:
            runner.run(serve())
        os.write(write_end, b"fine")

    pid = fork(child)
    os.close(write_end)
    assert await loop.run_in_executor(None, os.waitpid, pid, 0) == (pid, 0)
    assert os.read(read_end, 10) == b"fine"
    os.close(read_end)
    assert await ask(server.sockets[0].getsockname(), b"parent") == b"parent"
    server.close()
    await server.wait_closed()
