"""The package on the device: the channel, the loops, `serve`, `stats`, and `auto`."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest
from support.client import Load, OnCore, ask, connect, receive_all
from support.service import COMMAND, Service, until

import aiofastsocket
from aiofastsocket.kernel import DeviceCore, device_cores

from .conftest import unload

pytestmark = pytest.mark.kernel

Serve = Callable[..., Service]
DEVICE = ("--backend", "device", "--workers", "2")


def cores(port: int) -> dict[int | None, DeviceCore]:
    return {c.core: c for c in device_cores() if c.address.endswith(f":{port}")}


def live(port: int, count: int) -> None:
    until(lambda: sum(c.live for c in cores(port).values()) == count, "local listeners are live")


def test_channel() -> None:
    with aiofastsocket.Channel("device") as channel, channel.socket() as sock:
        assert channel.why == "/dev/fastsocket is present"
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        channel.listen(sock, 64)
        channel.spawn_listen(sock, 1)
        with pytest.raises(BlockingIOError):
            channel.accept(sock)
        port = sock.getsockname()[1]
        live(port, 1)
        with (
            OnCore(1),
            socket.create_connection(sock.getsockname()) as client,
            channel.accept(sock) as connection,
        ):
            assert connection.getpeername() == client.getsockname()
            assert not os.get_inheritable(connection.fileno())
        assert cores(port)[1].own == 1
        assert cores(port)[1].owners == (os.getpid(),)
        channel.spawn_all_listen()
        channel.shutdown_listen(sock)
        channel.close_listen(sock)
    assert device_cores() == []


def test_refused_while_a_listener_lives() -> None:
    with aiofastsocket.Channel("device") as channel, channel.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        channel.listen(sock)
        channel.close()
        assert not unload()
    until(unload, "the module is unloaded when the listener is closed")


async def loop_serves(new_loop: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    assert type(asyncio.get_running_loop()).__name__ == new_loop
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def once() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
        await writer.wait_closed()

    for _ in range(20):
        await once()
    (core,) = [c for c in cores(port).values() if c.core is not None]
    assert core.owners == (os.getpid(),)
    assert core.live
    assert core.own + core.global_ == 20
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("name", ["uvloop", "asyncio"])
def test_loops_on_the_device(name: str) -> None:
    loop = aiofastsocket.new_event_loop(backend="device") if name == "uvloop" else None
    if loop is None:
        from aiofastsocket.loop import SelectorLoop

        loop = SelectorLoop(backend="device")
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(loop_serves(type(loop).__name__))


def test_serve_is_balanced_by_core(serve: Serve) -> None:
    service = serve("targets:Who", *DEVICE)
    port = service.address[1]
    assert "backend device (/dev/fastsocket is present)" in service.log()
    assert "steering by the device backend" in service.log()
    for _ in range(3):
        ask(service.address)
    live(port, 2)
    before = cores(port)
    for core in (0, 1):
        with OnCore(core):
            answers = {ask(service.address) for _ in range(100)}
        assert answers == {b"%d\n" % before[core].owners[0]}  # idle ones keep their own
    after = cores(port)
    assert [after[c].own - before[c].own for c in (0, 1)] == [100, 100]
    stats = subprocess.run([COMMAND, "stats", str(port)], capture_output=True, text=True, cwd="/")
    assert f"127.0.0.1:{port}  on the device" in stats.stdout
    found = subprocess.run(
        [COMMAND, "stats", "--json", str(service.pid)], capture_output=True, text=True, cwd="/"
    )
    (listener,) = [t for t in json.loads(found.stdout) if t.get("backend") == "device"]
    assert {c["core"]: c["own"] for c in listener["cores"]} == {
        None: 0,
        0: after[0].own,
        1: after[1].own,
    }


def test_queued_connections_survive_their_worker_on_the_device(serve: Serve) -> None:
    service = serve("targets:Who", *DEVICE)
    port = service.address[1]
    ask(service.address)
    live(port, 2)
    (victim,) = cores(port)[1].owners
    os.kill(victim, signal.SIGSTOP)
    clients: list[socket.socket] = []
    with OnCore(1):
        for _ in range(50):
            clients.append(connect(service.address))
            clients[-1].sendall(b"who\n")
    os.kill(victim, signal.SIGKILL)
    answers = [receive_all(client) for client in clients]
    for client in clients:
        client.close()
    assert all(answers)
    assert b"%d\n" % victim not in answers
    until(lambda: len(service.workers()) == 2, "the worker was replaced")
    live(port, 2)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_nothing_is_lost_on_the_device(serve: Serve, number: signal.Signals) -> None:
    service = serve("targets:Who", *DEVICE)
    old = set(service.workers())
    with Load(service.address, threads=3) as load:
        load.more(50)
        os.kill(service.pid, number)
        if number == signal.SIGHUP:
            until(lambda: not old & set(service.workers()), "other workers serve")
            load.more(50)
        else:
            assert service.process.wait(60) == 0
    expected = {"answered"} if number == signal.SIGHUP else {"answered", "refused"}
    assert set(load.outcomes) <= expected, load.outcomes
    if number == signal.SIGHUP:
        live(service.address[1], 2)


def test_auto_takes_what_is_there(serve: Serve) -> None:
    service = serve("targets:Who", "--backend", "auto")
    assert "backend device (/dev/fastsocket is present)" in service.log()
    assert service.stop() == 0
    until(unload, "the module is unloaded")
    service = serve("targets:Who", "--backend", "auto")
    why = "backend reuseport (/dev/fastsocket does not exist: the kernel module is not loaded)"
    assert service.log().count("backend") == 1
    assert why in service.log()
