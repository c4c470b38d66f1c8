"""Workers die: clients that were not yet accepted do not notice."""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial

import pytest
from support.balance import check_spread
from support.client import Load, ask, connect, listen_drops, receive_all
from support.service import ORDINARY, Service, session_members, until

Serve = Callable[..., Service]


@pytest.mark.parametrize("workers", [1, 2])
def test_queued_connections_survive_their_worker(serve: Serve, workers: int) -> None:
    service = serve("targets:Who", "--workers", str(workers), "--steer", "spread")
    victim = service.slots()[0].pid
    os.kill(victim, signal.SIGSTOP)
    clients: list[socket.socket] = []
    for _ in range(100):
        clients.append(connect(service.address))
        clients[-1].sendall(b"who\n")
    os.kill(victim, signal.SIGKILL)
    answers = [receive_all(client) for client in clients]
    for client in clients:
        client.close()
    assert all(answers)
    assert b"%d\n" % victim not in answers
    until(lambda: service.settled(workers), "the worker was replaced")
    until(lambda: service.accepted() == 100, "each connection is counted once")
    # The slot had a queue: its owner was stopped before the first connection arrived. A sibling
    # steers away from the slot as soon as it sees that its owner is late.
    assert service.slots()[0].arrived >= (100 if workers == 1 else 1)


def replaced(service: Service, victim: int) -> bool:
    return victim not in service.owners() and service.settled(2)


@pytest.mark.parametrize("accept", ["--defer-accept", "--no-defer-accept"])
def test_every_reset_is_accounted_for(serve: Serve, accept: str) -> None:
    """By the page's counters, each lost connection had been accepted by a killed worker.

    A connection that is reset in a queue would not be counted: fewer would be accepted than
    answered and reset together. A kill between counting and accepting counts one too many.
    """
    kills = 20
    service = serve("targets:Who", "--workers", "2", "--steer", "spread", accept)
    before = listen_drops(service.address[1])
    with Load(service.address) as load:
        for _ in range(kills):
            load.more(100)
            victim = service.kill_an_owner()
            load.more(20)
            # It dies when it is next scheduled. Until then it looks alive.
            until(partial(replaced, service, victim), "the worker was replaced")
    assert load.outcomes.keys() <= {"answered", "reset"}, load.outcomes
    total = load.outcomes.total()
    print("outcomes", load.outcomes, "accepted", service.accepted())
    assert total <= service.accepted() <= total + kills
    if accept == "--no-defer-accept":  # else each first ACK counts as dropped, tcp_check_req
        assert listen_drops(service.address[1]) == before
    assert service.log().count("killed by SIGKILL: replaced") == kills
    check_spread(service)


@pytest.mark.parametrize("wrapper", [(), ORDINARY], ids=["root", "ordinary"])
def test_supervisors_death_ends_the_workers(serve: Serve, wrapper: tuple[str, ...]) -> None:
    service = serve("targets:Who", "--workers", "2", wrapper=wrapper)
    assert len(service.workers()) == 2
    os.kill(service.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: not session_members(service.pid), "the workers ended")
    assert "Error" not in service.log()


def test_a_worker_told_to_stop_is_replaced(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2")
    first = service.owners()
    os.kill(first[0], signal.SIGTERM)
    until(lambda: service.settled(2) and first[0] not in service.owners(), "a successor serves")
    assert ask(service.address)


def test_stop_while_a_worker_blocks(serve: Serve) -> None:
    """A worker that does not react to signals is killed after the grace time."""
    at_once = ["--timeout-graceful-shutdown", "0", "--timeout-disconnect", "0"]
    at_once += ["--timeout-lifespan-shutdown", "0"]
    service = serve("targets:Who", "--workers", "1", *at_once)
    os.kill(service.owners()[0], signal.SIGSTOP)
    assert service.stop() == 0
    assert "does not stop" in service.log()
