"""Connections are shared evenly, even when they come at once. A worker that is held up is helped.

The tests read the counters of the page.
"""

import os
import resource
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from support.client import Address, ask, connect, receive_all
from support.service import Service, stand_still, until

from aiofastsocket import SlotInfo

Serve = Callable[..., Service]


def burst(address: Address, count: int) -> tuple[list[socket.socket], Counter[bytes]]:
    """Open `count` connections at once and keep them; count the connections per worker."""
    clients: list[socket.socket] = []
    for _ in range(count):
        clients.append(socket.socket())
        clients[-1].setblocking(False)
        clients[-1].connect_ex(address)
    served: Counter[bytes] = Counter()
    for client in clients:
        select.select([client], [], [], 30)
        served[client.recv(100)] += 1
    return clients, served


def opened(service: Service) -> int:
    return sum(slot.open or 0 for slot in service.slots())


def test_a_burst_is_even(serve: Serve) -> None:
    """64 connections at once for four workers.

    With a random choice, the busiest worker has 20 in the median. When siblings took each
    connection that woke them, the busiest had 30 to 60.
    """
    service = serve("targets:Held", "--workers", "4", "--steer", "spread")
    most = []
    for _ in range(7):
        clients, served = burst(service.address, 64)
        assert opened(service) == 64
        counted = sorted(slot.open or 0 for slot in service.slots() if slot.pid)
        assert counted == sorted([0] * (4 - len(served)) + list(served.values()))
        most.append(max(served.values()))
        for client in clients:
            client.close()
        until(lambda: opened(service) == 0, "all are closed")
    assert sorted(most)[3] <= 27, most
    shares = [slot.busy for slot in service.slots() if slot.pid]
    assert all(share is not None and 0 < share < 1 for share in shares), shares


def owner_of(service: Service, pid: int) -> SlotInfo:
    return next(slot for slot in service.slots() if slot.pid == pid)


def test_nothing_is_steered_to_one_that_is_held_up(serve: Serve) -> None:
    service = serve("targets:Blocks", "--workers", "2", "--steer", "spread")
    ask(service.address)  # the loops of both have turned
    blocked = int(ask(service.address, b"block 0 0 5"))
    before = owner_of(service, blocked).arrived
    answers = Counter(int(ask(service.address)) for _ in range(100))
    assert answers == {next(iter(answers)): 100}
    assert blocked not in answers
    helper = owner_of(service, next(iter(answers)))
    # Without this, half of them would have come to the slot whose worker does not turn.
    assert owner_of(service, blocked).arrived - before <= 25
    assert helper.late >= 1
    # Its loop turns again, and new connections come to it.
    until(lambda: int(ask(service.address)) == blocked, "it serves again")


def test_one_that_stood_still_comes_back(serve: Serve) -> None:
    """A worker is stopped while it waits for events; none is pending when it goes on."""
    service = serve("targets:Who", "--workers", "2", "--steer", "spread")
    stopped = service.slots()[0].pid
    stand_still(stopped)
    answers = {int(ask(service.address)) for _ in range(200)}
    assert stopped not in answers
    os.kill(stopped, signal.SIGCONT)
    until(lambda: int(ask(service.address)) == stopped, "it serves again")


@pytest.mark.long
def test_a_blocked_retired_worker_keeps_no_client_waiting(serve: Serve) -> None:
    """Both workers block, the retired one for longer: the other takes all waiting connections."""
    service = serve("targets:Blocks", "--workers", "2", "--steer", "spread")
    stays, goes = (slot.pid for slot in service.slots()[:2])
    # In this order: while the worker that stays is held up, it does not steer away from the other.
    for pid, seconds in ((stays, 1.5), (goes, 12)):
        order = f"block {pid} {seconds} 0".encode()
        until(partial(answered_by, service, pid, order), "the worker is held up")
    before = service.slots()[1]
    clients = [connect(service.address) for _ in range(30)]
    for client in clients:
        client.sendall(b"who\n")
    service.send(signal.SIGTTOU)
    answers = [int(receive_all(client)) for client in clients]
    for client in clients:
        client.close()
    slot = service.slots()[1]
    assert answers == [stays] * 30
    assert slot.arrived - before.arrived > 0
    assert slot.own == before.own
    assert goes in service.workers()  # it still sleeps
    service.stop(signal.SIGQUIT)
    assert f"worker {goes} does not stop (it has been held up for" in service.log()


def answered_by(service: Service, pid: int, request: bytes) -> bool:
    return int(ask(service.address, request)) == pid


def descriptors(pid: int, most: int) -> None:
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


@pytest.mark.long
def test_what_came_to_a_sibling_while_accepting_paused(serve: Serve) -> None:
    """Siblings' queues report by edges, which do not repeat: check all queues after the pause."""
    service = serve("targets:Held", "--workers", "2", "--steer", "spread")
    one, other = (slot.pid for slot in service.slots()[:2])
    descriptors(one, 3)
    stand_still(other)
    clients = [connect(service.address) for _ in range(20)]
    service.wait_log("accepting pauses")
    clients += [connect(service.address) for _ in range(20)]
    descriptors(one, 1024)
    said = [client.recv(100) for client in clients]
    assert said == [b"%d\n" % one] * 40
    until(partial(has_taken, service, one, 40), "all are counted")
    for client in clients:
        client.close()


def has_taken(service: Service, pid: int, count: int) -> bool:
    return owner_of(service, pid).accepted == count


def test_a_pause_leaves_nothing_waiting_at_its_own(serve: Serve) -> None:
    """A paused worker still turns, with less load than its sibling, which still takes its queue."""
    service = serve("targets:Held", "--workers", "2", "--steer", "spread")
    clients, _ = burst(service.address, 20)
    one, other = (slot.pid for slot in service.slots()[:2])
    descriptors(one, 3)
    more = []
    while "accepting pauses" not in service.log():
        more.append(connect(service.address))
    more += [connect(service.address) for _ in range(20)]
    assert {client.recv(100) for client in more} == {b"%d\n" % other}
    descriptors(one, 1024)
    until(lambda: service.slots()[0].live, "it serves again")
    for client in clients + more:
        client.close()
