"""The parts of serve that need no process: addresses, targets, limits of the machine."""

import asyncio
import functools
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from aiofastsocket import UsageError, proc
from aiofastsocket._native.deadlines import Deadlines, Timed
from aiofastsocket.errors import ClientDisconnected
from aiofastsocket.server.bind import Bind
from aiofastsocket.server.child import Child
from aiofastsocket.server.config import Config
from aiofastsocket.server.http.failures import has_left
from aiofastsocket.server.machine import cgroup_cpus, worker_count
from aiofastsocket.server.supervisor import Slot, Supervisor
from aiofastsocket.server.target import kind_of
from aiofastsocket.server.worker import Setup


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:80", Bind("127.0.0.1", 80)),
        ("[::1]:0", Bind("::1", 0)),
        ("example.org:65535", Bind("example.org", 65535)),
        ("unix:/run/x:1", Bind(path="/run/x:1")),
        ("fd://3", Bind(fd=3)),
    ],
)
def test_bind_forms(text: str, bind: Bind) -> None:
    assert Bind.parse(text) == bind


def test_kinds_of_targets() -> None:
    async def handle(reader: object, writer: object) -> None: ...

    async def one(reader: object) -> None: ...

    async def app(scope: object, receive: object, send: object) -> None: ...

    class App:
        async def __call__(self, scope: object, receive: object, send: object) -> None: ...

    class Handler:
        async def __call__(self, reader: object, writer: object) -> None: ...

        async def method(self, reader: object, writer: object) -> None: ...

    class Echo(asyncio.Protocol):
        def __init__(self, size: int = 1) -> None: ...

    assert kind_of(Echo) == kind_of(asyncio.BufferedProtocol) == "protocol"
    assert kind_of(lambda: Echo()) == kind_of(functools.partial(Echo, 5)) == "protocol"
    assert kind_of(handle) == kind_of(Handler()) == kind_of(Handler().method) == "stream"
    assert kind_of(functools.partial(lambda x: Echo(x), 5)) == "protocol"
    assert kind_of(app) == kind_of(App()) == kind_of(functools.partial(app)) == "asgi3"
    with pytest.raises(UsageError, match="which --interface stream cannot serve"):
        kind_of(app, "stream")
    for wrong in (one, 5, "text", lambda x: x, None, App):
        with pytest.raises(UsageError, match=r"target is .*, not an ASGI or WSGI application"):
            kind_of(wrong)


def test_errors_of_a_client_that_has_left() -> None:
    @dataclass
    class Own(Exception):
        number: int  # a dataclass is unhashable

    gone, group = ClientDisconnected("gone"), ExceptionGroup
    circle = ValueError()
    circle.__cause__ = circle
    behind = Own(1)
    behind.__context__ = gone
    assert all(map(has_left, (gone, behind, group("", [gone, group("", [behind])]))))
    assert not any(map(has_left, (Own(2), circle, group("", [gone, ValueError()]))))


def test_cgroup_limit_is_the_tightest_of_all_parents(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    membership = "1:cpu:/elsewhere\n0::/a/b\n"
    assert cgroup_cpus(tmp_path, membership) is None
    (inner / "cpu.max").write_text("max 100000\n")
    assert cgroup_cpus(tmp_path, membership) is None
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    assert cgroup_cpus(tmp_path, membership) == 1.5
    (inner / "cpu.max").write_text("400000 100000\n")
    assert cgroup_cpus(tmp_path, membership) == 1.5
    assert cgroup_cpus(tmp_path, "1:cpu:/only-v1\n") is None


def test_a_worker_that_ended_when_it_was_ready_is_not_sent_a_signal() -> None:
    """The worker's process id may belong to another process by then."""
    status, told = os.pipe()
    control, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(told, b"ready\n")
        os._exit(0)
    os.close(told)
    os.set_blocking(status, False)
    supervisor = Supervisor(Setup(Config(), cast(Any, None), [], asyncio.new_event_loop))
    supervisor._slots = [Slot()]
    supervisor._exit_code = 0  # the supervisor stops
    supervisor._workers[pid] = Child(pid, 0, 1, status, control, supervisor._pages.take())
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    supervisor._reap()
    assert supervisor._workers == {}
    supervisor._pages.close()
    os.close(held)


def test_parents_of_processes_with_odd_names() -> None:
    before = Path("/proc/self/comm").read_bytes()
    try:
        Path("/proc/self/comm").write_bytes(b"\xff) (\xfe")
        assert proc.parent(os.getpid()) == os.getppid()
    finally:
        Path("/proc/self/comm").write_bytes(before.rstrip())


def test_worker_count_stays_in_the_mask() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert worker_count() == 1
        assert Config().worker_count == 1
        assert Config().slot_count == 2
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("comes", [True, False])
def test_time_in_which_the_loop_was_held_up_does_not_count(
    make: Callable[[], asyncio.AbstractEventLoop], comes: bool
) -> None:
    """A body that came meanwhile is still in the socket: libuv runs timers before it reads."""
    loop = make()
    expired: list[Timed] = []
    who = Timed()
    deadlines = Deadlines(loop, 0.3, expired.append)

    def hold_up() -> None:
        loop.remove_reader(bell)
        time.sleep(0.8)
        if comes:
            client.send(b"more")

    def more() -> None:
        loop.remove_reader(server)
        who.wait_for(None)

    (bell, rope), (server, client) = socket.socketpair(), socket.socketpair()
    with bell, rope, server, client:
        loop.add_reader(bell, hold_up)
        loop.add_reader(server, more)
        who.wait_for(deadlines)
        rope.send(b"now")
        loop.run_until_complete(asyncio.sleep(1.5))
        deadlines.clear()
        loop.remove_reader(server)
    loop.close()
    assert expired == ([] if comes else [who])


def test_a_loop_whose_turns_are_slow_does_not_keep_clients_for_ever() -> None:
    loop = uvloop.new_event_loop()
    expired: list[Timed] = []
    who = Timed()
    deadlines = Deadlines(loop, 0.3, expired.append)

    async def busy() -> None:
        while not expired:
            time.sleep(0.15)
            await asyncio.sleep(0)

    who.wait_for(deadlines)
    loop.run_until_complete(asyncio.wait_for(busy(), 30))
    deadlines.clear()
    loop.close()
    assert expired == [who]
