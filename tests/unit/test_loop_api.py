"""new_event_loop, run, policy: the loops that they make, and their errors."""

import asyncio
import contextvars
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import uvloop
from support.loops import table_counts
from support.service import program
from support.workers import Who, bound, shake

import aiofastsocket
from aiofastsocket import ListenTable, SetupError, UsageError, new_event_loop, tables_of
from aiofastsocket.choices import LOOPS
from aiofastsocket.loop import SelectorLoop, UvloopLoop

FACTORIES = [asyncio.SelectorEventLoop, uvloop.new_event_loop, SelectorLoop, UvloopLoop]
KINDS = {"uvloop": UvloopLoop, "asyncio": SelectorLoop}


def shared_tables() -> list[bool]:
    """Whether each table of this process has no local listeners."""
    found = []
    for view in tables_of(os.getpid()):
        with view:
            found.append(view.info().shared)
    return found


@pytest.mark.parametrize("name", LOOPS)
def test_run(name: str) -> None:
    async def main() -> object:
        return type(asyncio.get_running_loop())

    assert aiofastsocket.run(main(), loop=name) is KINDS[name]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory came with Python 3.12")
def test_asyncio_run_takes_the_factory() -> None:
    async def main() -> object:
        return type(asyncio.get_running_loop())

    run: Any = asyncio.run  # typed for 3.11
    for name, kind in KINDS.items():
        assert run(main(), loop_factory=partial(new_event_loop, name)) is kind


def test_new_event_loop_is_a_loop_factory() -> None:
    async def main() -> object:
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=aiofastsocket.new_event_loop) as runner:
        assert runner.run(main()) is UvloopLoop


@pytest.mark.parametrize("name", LOOPS)
def test_wrong_names(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="use uvloop, asyncio"):
        new_event_loop("trio")
    with pytest.raises(UsageError, match="use auto, device, reuseport, off"):
        new_event_loop(name, backend="io_uring")
    with pytest.raises(UsageError, match="use auto, cpu, spread"):
        new_event_loop(name, steer="left")
    with pytest.raises(UsageError, match="use 1 to"):
        new_event_loop(name, slots=100_000)
    if not os.path.exists("/dev/fastsocket"):
        with pytest.raises(SetupError, match="backend device is not available"):
            new_event_loop(name, backend="device")
    assert caplog.text == ""


@pytest.mark.parametrize("name", LOOPS)
def test_backend_off_makes_no_listeners(name: str) -> None:
    async def main() -> list[bool]:
        server = await asyncio.get_running_loop().create_server(Who, "127.0.0.1", 0)
        shared = shared_tables()
        server.close()
        await server.wait_closed()
        return shared

    assert aiofastsocket.run(main(), loop=name, backend="off") == [True]


@pytest.mark.parametrize("name", LOOPS)
def test_reuse_port_is_the_users_own_way(name: str) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Who, "127.0.0.1", 0, reuse_port=True)
        shared = shared_tables()
        server.close()
        await server.wait_closed()
        return shared

    assert aiofastsocket.run(main(), loop=name) == [True]


@pytest.mark.parametrize("name", LOOPS)
def test_too_few_descriptors_for_slots(name: str) -> None:
    """The server listens as it would without aiofastsocket."""
    text = f"""
import aiofastsocket, asyncio, os, resource
async def main():
    loop = asyncio.get_running_loop()
    low = max(map(int, os.listdir("/proc/self/fd"))) + 12
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, low))
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    print(*[view.info().why for view in aiofastsocket.tables_of(os.getpid())])
    server.close()
aiofastsocket.run(main(), loop={name!r}, slots=64)
"""
    assert program(text) == "no slots could be made: Too many open files"


def test_without_uvloops_epoll_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop logs the missing epoll set once, and serves."""
    monkeypatch.setattr(UvloopLoop, "epoll", -1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            server = await loop.create_server(Who, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            assert await loop.run_in_executor(None, shake, address, 20) == [os.getpid()] * 20
            server.close()
            await server.wait_closed()

    aiofastsocket.run(main())
    assert caplog.text.count("wakes all idle workers") == 1


@pytest.mark.parametrize("handles", [True, False], ids=["libuv tells", "only the pump tells"])
def test_the_loop_tells_that_it_works(monkeypatch: pytest.MonkeyPatch, handles: bool) -> None:
    """libuv's handles report it, or only the pump while it serves, if uvloop hides libuv's
    names."""

    def keeps_to_itself() -> None:
        raise OSError

    if not handles:
        monkeypatch.setattr("aiofastsocket._native.libuv._library", keeps_to_itself)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            with ListenTable(sock, slots=2) as table:
                server = await loop.create_server(Who, sock=table)
                await loop.run_in_executor(None, shake, sock.getsockname(), 20)
                before = table.slot(0).busy
                await asyncio.sleep(0.2)  # the loop waits, and the slot shows it
                after = table.slot(0).busy
                server.close()
                await server.wait_closed()
        assert before is not None
        assert after is not None
        assert 0 < after < before < 1

    aiofastsocket.run(main())


def test_importing_sets_no_policy_and_loads_none() -> None:
    text = """
import asyncio, sys, aiofastsocket
assert "aiofastsocket.policy" not in sys.modules
assert asyncio.events._event_loop_policy is None
assert "uvloop" not in sys.modules
aiofastsocket.run(asyncio.sleep(0))
assert "aiofastsocket.policy" not in sys.modules
print("fine")
"""
    assert program(text) == "fine"


@pytest.mark.parametrize("name", LOOPS)
def test_policy(name: str) -> None:
    text = f"""
import asyncio, aiofastsocket
async def main():
    process = await asyncio.create_subprocess_exec("true")
    return type(asyncio.get_running_loop()).__name__, await process.wait()
asyncio.set_event_loop_policy(aiofastsocket.FastsocketPolicy({name!r}))
print(*asyncio.run(main()))
asyncio.set_event_loop_policy(None)
aiofastsocket.install(loop={name!r}, steer="spread")
print(*asyncio.run(main()))
"""
    assert program(text).split("\n") == [f"{KINDS[name].__name__} 0"] * 2


def test_a_policy_tells_a_mistake_at_once() -> None:
    with pytest.raises(UsageError, match="use uvloop, asyncio"):
        aiofastsocket.FastsocketPolicy("trio")
    with pytest.raises(UsageError, match="use auto, cpu, spread"):
        aiofastsocket.install(steer="left")


def test_a_policy_adds_no_warning_to_those_of_asyncio() -> None:
    text = """
import warnings
warnings.simplefilter("error")
import aiofastsocket
from aiofastsocket import *
loop = aiofastsocket.FastsocketPolicy().new_event_loop()
print(type(loop).__name__)
loop.close()
"""
    assert program(text) == "UvloopLoop"


def test_a_python_without_policies() -> None:
    text = """
import asyncio
vars(asyncio).pop("__getattr__", None)  # which makes them since Python 3.14
for module in (asyncio, asyncio.events, asyncio.unix_events):
    for name in [n for n in vars(module) if "Policy" in n or "event_loop_policy" in n]:
        delattr(module, name)
import aiofastsocket
from aiofastsocket import FastsocketPolicy, install
for use in (FastsocketPolicy, install):
    try:
        use()
    except aiofastsocket.SetupError as error:
        print(error)
asyncio.Runner(loop_factory=aiofastsocket.new_event_loop).run(asyncio.sleep(0))
"""
    lines = program(text).split("\n")
    assert len(lines) == 2
    assert all("loop_factory=aiofastsocket.new_event_loop" in line for line in lines)


@pytest.mark.parametrize("name", LOOPS)
def test_another_thread(name: str) -> None:
    errors: list[BaseException] = []

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Who, "127.0.0.1", 0)

        def close() -> None:
            try:
                server.close()
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
        assert server.is_serving()
        server.close()
        await server.wait_closed()

    aiofastsocket.run(main(), loop=name)
    assert len(errors) == 1
    assert "call_soon_threadsafe" in str(errors[0])


@pytest.mark.parametrize("name", LOOPS)
def test_another_loop(name: str) -> None:
    idle = new_event_loop(name)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="awaited in another"):
            await idle.create_server(Who, "127.0.0.1", 0)

    aiofastsocket.run(main(), loop=name)
    idle.close()


@pytest.mark.parametrize("name", LOOPS)
def test_a_table_is_made_where_another_server_is_refused(name: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with bound() as sock:
            address = sock.getsockname()
            with (
                ListenTable(sock, slots=2),
                pytest.raises(OSError, match=r"(?i)address already in use"),
            ):
                await loop.create_server(Who, *address)

    aiofastsocket.run(main(), loop=name)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_closed_with_its_server_open(name: str) -> None:
    """The loop releases the listeners, as asyncio's loop does."""
    loop = new_event_loop(name)
    server = loop.run_until_complete(loop.create_server(Who, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    loop.close()
    assert list(tables_of(os.getpid())) == []
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize("factory", FACTORIES)
def test_context_variables_after_a_pause(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A loop that stops and runs again accepts in the server's context, as asyncio's loops do."""
    variable = contextvars.ContextVar("variable", default="unset")

    class Says(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport = cast(asyncio.Transport, transport)
            transport.write(variable.get().encode())
            transport.close()

    async def start(loop: asyncio.AbstractEventLoop) -> asyncio.Server:
        variable.set("the server's")
        return await loop.create_server(Says, "127.0.0.1", 0)

    async def hear(address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        answer = await reader.read()
        writer.close()
        return answer

    loop = factory()
    server = loop.run_until_complete(start(loop))
    address = server.sockets[0].getsockname()
    assert loop.run_until_complete(hear(address)) == b"the server's"
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("defer", [False, True])
def test_defer_accept_of_a_server(name: str, defer: bool) -> None:
    """A connection is accepted once its client has sent data."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        create = partial(cast(Any, loop).create_server, defer_accept=defer)
        server = await create(Who, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            await asyncio.sleep(0.1)
            assert [slot.accepted for slot in table_counts()] == [0 if defer else 1]
            await loop.sock_sendall(client, b"who\n")
            assert await loop.sock_recv(client, 100) == b"%d\n" % os.getpid()
            assert [slot.accepted for slot in table_counts()] == [1]
        server.close()
        await server.wait_closed()

    aiofastsocket.run(main(), loop=name, slots=2, steer="spread")
