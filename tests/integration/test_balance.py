"""The page's counters show where connections go."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from support.balance import check_cpu, check_spread, listeners
from support.client import OnCore, ask
from support.service import Service, until
from support.workers import helped

Serve = Callable[..., Service]


def test_spread_is_even_and_every_slot_listens(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2", "--steer", "spread")
    check_spread(service)
    assert len(service.slots()) == 4


def test_cpu_steering_serves_on_the_receiving_core(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2", "--steer", "cpu")
    assert "pinned to cores" in service.log()
    check_cpu(service)
    # The same holds after every worker was killed, and after a reload.
    for pid in service.owners():
        os.kill(pid, signal.SIGKILL)
    until(lambda: service.settled(2) and service.log().count("replaced") == 2, "successors serve")
    check_cpu(service)
    service.send(signal.SIGHUP)
    service.wait_log("reloaded")
    until(lambda: service.settled(2), "the old workers ended")
    check_cpu(service)


def test_auto_on_loopback_feeds_both_and_says_why(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2")
    with OnCore(min(os.sched_getaffinity(0))):
        check_spread(service)
    assert "steering spread (loopback: a connection arrives on its client's core)" in service.log()


def test_off_is_one_shared_listener(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2", "--backend", "off")
    for _ in range(50):
        ask(service.address)
    assert listeners(service) == 1
    assert service.info().shared
    assert sum(s.global_ for s in service.slots()) == 50
    assert "backend off" in service.log()


def test_a_busy_worker_is_helped(serve: Serve) -> None:
    """While a worker is in a slow handler, the others serve its new connections."""
    app_dir = ("--app-dir", str(Path(__file__).parents[1]))
    service = serve("support.workers:Who", "--workers", "3", "--steer", "spread", *app_dir)
    arrived, by_sibling = helped(service.slot_of, service.address)
    assert arrived >= 40
    assert by_sibling >= 0.95 * arrived
