"""`--backend off`, one shared listener for all workers: the column `off` of README's table."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client import Load, ask, connect, receive_all
from support.service import Service, stand_still, until

Serve = Callable[..., Service]
OFF = ("targets:Who", "--workers", "2", "--backend", "off")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_nothing_is_lost_without_local_listeners(serve: Serve, number: signal.Signals) -> None:
    service = serve(*OFF)
    with Load(service.address) as load:
        load.more(50)
        service.send(number)
        if number == signal.SIGHUP:
            service.wait_log("reloaded: 2 new workers serve")
            load.more(50)
        else:
            assert service.process.wait(30) == 0
    expected = {"answered"} | ({"refused"} if number == signal.SIGTERM else set())
    assert load.outcomes.keys() <= expected, load.outcomes


def test_all_workers_share_the_queue(serve: Serve) -> None:
    """One worker hangs and is killed. The other and the successor serve all waiting clients."""
    service = serve(*OFF)
    victim, other = service.workers()
    for pid in (victim, other):
        stand_still(pid)
    clients: list[socket.socket] = []
    for _ in range(50):
        clients.append(connect(service.address))
        clients[-1].sendall(b"who\n")
    os.kill(other, signal.SIGCONT)
    answers = [receive_all(client) for client in clients[:25]]
    os.kill(victim, signal.SIGKILL)
    answers += [receive_all(client) for client in clients[25:]]
    for client in clients:
        client.close()
    assert set(answers) == {b"%d\n" % other}  # at once: no client waited for the victim's end
    until(lambda: victim not in service.workers() and len(service.workers()) == 2, "replaced")
    assert ask(service.address)
    assert sum(slot.global_ for slot in service.slots()) == 51


def test_addresses_of_every_kind(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    binds = ("--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", f"unix:{path}")
    service = serve(*OFF, *binds)
    assert all(map(ask, service.addresses[:2]))
    assert ask(path)
    assert all(service.info(table).shared for table in range(3))
