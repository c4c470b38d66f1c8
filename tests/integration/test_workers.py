"""Forked workers on our loops: the page's counters show which worker serves."""

import asyncio
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from support.client import OnCore
from support.service import until
from support.workers import (
    Greeter,
    Who,
    Workers,
    blocked,
    bound,
    fork,
    handles,
    helped,
    serve_table,
    shake,
)

import aiofastsocket
from aiofastsocket import ListenTable
from aiofastsocket.table.table import table_of

LOOPS = ("uvloop", "asyncio")
CONNECTIONS = 4000

MakeTable = Callable[[], tuple[ListenTable, Any]]


@pytest.fixture
def table() -> Iterator[ListenTable]:
    with bound() as sock, ListenTable(sock, slots=8, steer="spread") as table:
        yield table


def check_each_own(table: ListenTable, pids: list[int], answers: list[int]) -> None:
    """Each child serves, first from its own slot. Nothing came by the global listener."""
    assert set(answers) == set(pids)
    # A sibling's attempt to accept counts while it lasts.
    until(lambda: sum(s.accepted for s in table.slots()) == len(answers), "all are counted", 5)
    slots = {slot.pid: slot for slot in table.slots() if slot.pid}
    assert slots.keys() == set(pids)
    for pid, slot in slots.items():
        assert slot.own >= len(answers) / len(pids) / 4
        assert slot.accepted == answers.count(pid)
        assert slot.global_ == slot.orphan == 0
    assert sum(slot.arrived for slot in slots.values()) == len(answers)
    assert table.info().others == 0


def idle_children() -> list[int]:
    """Children that have the table and never serve it: one without a loop, one with."""
    return [fork(partial(time.sleep, 60)), fork(lambda: aiofastsocket.run(asyncio.sleep(60)))]


@pytest.mark.parametrize("loop", LOOPS)
def test_forked_children_on_loops_of_their_own(table: ListenTable, loop: str) -> None:
    idle = idle_children()
    with Workers(table, partial(serve_table, table, loop), 4) as workers:
        check_each_own(table, workers.pids, shake(table.sock.getsockname(), CONNECTIONS))
    for pid in idle:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("loop_name", LOOPS)
def test_forked_children_go_on_with_the_server_made_before(loop_name: str) -> None:
    loop = aiofastsocket.new_event_loop(loop_name, steer="spread", slots=8)
    server = loop.run_until_complete(loop.create_server(Who, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    with server.sockets[0].dup() as sock:
        table = table_of(sock)
    assert table is not None
    assert not any(slot.pid for slot in table.slots()), "a loop that does not run serves nobody"

    def child() -> None:
        loop.add_signal_handler(signal.SIGTERM, loop.stop)
        loop.run_forever()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()

    with Workers(table, child, 4) as workers:
        check_each_own(table, workers.pids, shake(address, CONNECTIONS))
    # The parent's loop and server are unchanged.
    served = loop.run_in_executor(None, shake, address, 50)
    assert loop.run_until_complete(served) == [os.getpid()] * 50
    loop.run_until_complete(loop.shutdown_default_executor())
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("loop", LOOPS)
def test_multiprocessing(table: ListenTable, loop: str, method: str) -> None:
    context = multiprocessing.get_context(method)
    target: Any = serve_table
    children = [context.Process(target=target, args=(table, loop)) for _ in range(4)]  # type: ignore[attr-defined]
    never = context.Process(target=time.sleep, args=(60,))  # type: ignore[attr-defined]
    for child in (*children, never):
        child.start()
    pids = [child.pid for child in children]
    until(lambda: sum(s.live for s in table.slots()) == 4, "all serve", 60)
    check_each_own(table, pids, shake(table.sock.getsockname(), CONNECTIONS))
    for child in (*children, never):
        child.terminate()
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    for child in (*children, never):
        child.close()
    if method != "fork":
        end_helpers()


def end_helpers() -> None:
    """End the two processes that multiprocessing keeps, with pipes, for the next time."""
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("killed", [False, True], ids=["fresh", "all killed once"])
def test_a_busy_owner_is_helped(table: ListenTable, loop: str, killed: bool) -> None:
    with Workers(table, partial(serve_table, table, loop), 4) as workers:
        if killed:
            workers.kill_each_once()
        arrived, by_sibling = helped(workers.slot_of, table.sock.getsockname())
        assert arrived >= 40
        assert by_sibling >= 0.95 * arrived


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("killed", [False, True], ids=["fresh", "all killed once"])
def test_an_idle_owner_keeps_its_own(table: ListenTable, loop: str, killed: bool) -> None:
    with Workers(table, partial(serve_table, table, loop), 4) as workers:
        if killed:
            workers.kill_each_once()
        before = sum(slot.own for slot in table.slots())
        shake(table.sock.getsockname(), 400, gap=0.002)
        assert sum(slot.own for slot in table.slots()) - before >= 0.95 * 400
        assert len(workers.slots()) == 4


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("killed", [False, True], ids=["fresh", "all killed once"])
def test_a_connection_wakes_one(table: ListenTable, loop: str, killed: bool) -> None:
    with Workers(table, partial(serve_table, table, loop, Greeter), 4) as workers:
        if killed:
            workers.kill_each_once()
        shake(table.sock.getsockname(), 20, gap=0.002, request=b"")
        before = blocked(workers.pids)
        shake(table.sock.getsockname(), 200, gap=0.002, request=b"")
        assert 150 <= blocked(workers.pids) - before <= 210


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_dead_worker_left_is_served(table: ListenTable, loop: str) -> None:
    """There is no supervisor: the siblings notice by themselves."""
    with Workers(table, partial(serve_table, table, loop), 3) as workers:
        victim = workers.pids[0]
        os.kill(victim, signal.SIGSTOP)
        slot = workers.slot_of(victim)
        # The siblings are stopped as well: they must not take connections from the stopped worker.
        for pid in workers.pids[1:]:
            os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(table.sock.getsockname()) for _ in range(60)]
        assert table.queued(slot.slot) > 0
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        workers.pids.remove(victim)
        for pid in workers.pids:
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            client.settimeout(20)
            client.sendall(b"who\n")
            assert int(client.recv(100)) in workers.pids
            client.close()
        until(lambda: not table.slot(slot.slot).live, "the dead worker gets nothing")
        assert sum(s.orphan + s.stolen for s in table.slots()) > 0


@pytest.mark.parametrize("loop", LOOPS)
def test_more_workers_than_slots(loop: str) -> None:
    with bound() as sock, ListenTable(sock, slots=2, steer="spread") as table:
        pids = [fork(partial(serve_table, table, loop)) for _ in range(4)]
        until(lambda: sum(s.live for s in table.slots()) == 2, "two have slots")
        shake(sock.getsockname(), 200)
        # A worker with a slot ends; a worker without a slot takes its place.
        owner = table.slot(0).pid
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        pids.remove(owner)
        until(lambda: table.slot(0).live and table.slot(0).pid in pids, "a successor has the slot")
        assert set(shake(sock.getsockname(), 200)) <= set(pids)
        until(lambda: all(handles(pid, signal.SIGTERM) for pid in pids), "the fourth runs, too")
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pinned_worker_gets_its_cores_slot(loop: str) -> None:
    """With cpu steering, a pinned worker serves the clients of its core."""
    cores = sorted(os.sched_getaffinity(0))
    assert len(cores) > 1, "the machine for these tests has two cores"

    def pinned(shared: ListenTable, core: int) -> None:
        os.sched_setaffinity(0, {core})
        serve_table(shared, loop)

    with bound() as sock, ListenTable(sock, slots=2 * len(cores), steer="cpu") as table:
        pids = {core: fork(partial(pinned, table, core)) for core in reversed(cores[:2])}
        until(lambda: sum(slot.live for slot in table.slots()) == 2, "both serve")
        for core, pid in pids.items():
            assert next(slot.cpu for slot in table.slots() if slot.pid == pid) == core
            with OnCore(core):
                answers = shake(sock.getsockname(), 100, gap=0.002)
            assert answers.count(pid) >= 95
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
            assert os.waitpid(pid, 0)[1] == 0
