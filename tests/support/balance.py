"""The check that other tests repeat after they have shaken the service."""

from .client import ask
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
