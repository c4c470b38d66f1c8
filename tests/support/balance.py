"""The checks that other tests repeat after they have shaken the service."""

import os
import subprocess
import time

from .client import OnCore, ask
from .service import Service


def check_spread(service: Service, connections: int = 2000) -> None:
    """Two workers, each serves 40 to 60 % (nine standard deviations either way)."""
    before = service.slots()
    for _ in range(connections):
        ask(service.address)
    after = service.slots()
    shares = [b.accepted - a.accepted for a, b in zip(before, after, strict=True)]
    assert sum(shares) == connections
    live = [share for share, slot in zip(shares, after, strict=True) if slot.live]
    assert len(live) == 2
    assert all(0.4 * connections <= share <= 0.6 * connections for share in live), shares
    assert listeners(service) == len(service.slots())


def check_cpu(service: Service) -> None:
    """Of a client's connections the worker of its core accepts at least 95 %."""
    cores = os.sched_getaffinity(0)
    assert len(cores) > 1, "the machine for these tests has two cores"
    for slot in (0, 1):
        before = service.slots()[slot]
        assert before.cpu in cores
        assert os.sched_getaffinity(before.pid) == {before.cpu}
        with OnCore(before.cpu):
            for _ in range(200):
                ask(service.address)
                time.sleep(0.002)
        assert service.slots()[slot].own - before.own >= 190
    assert listeners(service) == len(service.slots())


def listeners(service: Service) -> int:
    """Listening sockets on the service's port, as ss sees them."""
    port = service.address[1]
    out = subprocess.run(
        ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    return len(out.stdout.splitlines())
