"""Workers that are to be replaced because of what they have become: too large, or too old."""

import time

from ..proc import resident_bytes
from .child import Child
from .config import Config
from .looks import FOREVER
from .pages import Told

LOOK_SECONDS = 2.0
YOUNG_SECONDS = 10.0  # so long a worker is not looked at: one that is born too large is not better


def seconds_between_looks(config: Config) -> float:
    """FOREVER: there is no such limit."""
    looks = [LOOK_SECONDS] if config.limit_worker_rss is not None else []
    if config.limit_worker_lifetime is not None:
        looks.append(config.limit_worker_lifetime / 10)
    return min(looks, default=FOREVER)


def is_worn(child: Child, config: Config) -> tuple[Told, str] | None:
    """Why it is to be replaced, if it is: for counters, and for the log."""
    age = time.monotonic() - child.began
    if config.limit_worker_lifetime is not None and age >= config.limit_worker_lifetime:
        return Told.LIFETIME, f"has served for {age:.0f} s (--limit-worker-lifetime)"
    if config.limit_worker_rss is not None and age >= YOUNG_SECONDS:
        size = resident_bytes(child.pid)
        if size > config.limit_worker_rss:
            return Told.MEMORY, f"has {size} bytes of memory (--limit-worker-rss)"
    return None
