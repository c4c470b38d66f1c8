"""Checks that other tests repeat after they have disturbed the service."""

import os
import subprocess
import time

from aiofastsocket import SlotInfo

from .client import OnCore, ask
from .service import Service, until


def quiet(service: Service) -> list[SlotInfo]:
    """The slots while no worker tries to accept. A try counts while it lasts, successful or not, so
    that a kill during a try cannot hide a connection."""
    reads: list[list[tuple[int, int]]] = []

    def settled() -> bool:
        reads.append([(slot.accepted, slot.arrived) for slot in service.slots()])
        return len(reads) > 3 and reads[-1] == reads[-2] == reads[-3]

    until(settled, "no worker is accepting")
    return service.slots()


def check_spread(service: Service, connections: int = 2000) -> None:
    """The slot of each of two workers gets 40 to 60 % (nine standard deviations either way). If a
    slot's owner has no core just now, steering does not choose the worker that accepts."""
    before = quiet(service)
    for _ in range(connections):
        ask(service.address)
    after = quiet(service)
    assert sum(a.accepted - b.accepted for b, a in zip(before, after, strict=True)) == connections
    shares = [a.arrived - b.arrived for b, a in zip(before, after, strict=True) if a.live]
    assert len(shares) == 2
    assert sum(shares) == connections
    assert all(0.4 * connections <= share <= 0.6 * connections for share in shares), shares
    assert listeners(service) == len(service.slots())


def check_cpu(service: Service) -> None:
    """At least 95 % of a client's connections arrive at the slot of its core's worker."""
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
        assert service.slots()[slot].arrived - before.arrived >= 190
    assert listeners(service) == len(service.slots())


def listeners(service: Service) -> int:
    """Listening sockets on the service's port, as ss sees them."""
    port = service.address[1]
    out = subprocess.run(
        ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
    )
    return len(out.stdout.splitlines())
