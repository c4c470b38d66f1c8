"""Where connections go: by the page's counters."""

import os
import subprocess
import time
from collections.abc import Callable

import pytest
from support.balance import check_spread
from support.client import OnCore, ask
from support.service import Service

Serve = Callable[..., Service]


def listeners(service: Service) -> int:
    """Listening sockets on the service's port, as ss sees them."""
    port = service.address[1]
    out = subprocess.run(
        ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    return len(out.stdout.splitlines())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_spread_is_even_and_every_slot_listens(serve: Serve, loop: str) -> None:
    service = serve("targets:Who", "--workers", "2", "--steer", "spread", "--loop", loop)
    check_spread(service)
    assert listeners(service) == len(service.slots()) == 4


def test_cpu_steering_serves_on_the_receiving_core(serve: Serve) -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert len(cores) > 1, "the machine for these tests has two cores"
    service = serve("targets:Who", "--workers", "2", "--steer", "cpu")
    assert "pinned to cores" in service.log()
    for slot in (0, 1):
        core = service.slots()[slot].cpu
        assert os.sched_getaffinity(service.slots()[slot].pid) == {core}
        before = service.slots()[slot].own
        with OnCore(core):
            for _ in range(200):
                ask(service.address)
                time.sleep(0.002)
        assert service.slots()[slot].own - before >= 190


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
