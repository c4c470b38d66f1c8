"""Workers that must be replaced: they have become too large or too old, or they hang."""

import logging
import os
import time
from collections.abc import Collection, Iterable

from ..proc import resident_bytes
from .child import Child, State
from .config import Config
from .looks import FOREVER
from .pages import Pages, Told
from .stuck import SHOW_STACKS

logger = logging.getLogger("aiofastsocket")

LOOK_SECONDS = 2.0
YOUNG_SECONDS = 10.0  # no look at the size before this age: a successor is born as large


def seconds_between_looks(config: Config) -> float:
    """The interval of looks; FOREVER: there is no limit."""
    looks = [LOOK_SECONDS] if config.limit_worker_rss is not None else []
    if config.limit_worker_lifetime is not None:
        looks.append(config.limit_worker_lifetime / 10)
    return min(looks, default=FOREVER)


def is_worn(child: Child, config: Config) -> tuple[Told, str] | None:
    """The reason to replace a worker, for the counters and for the log; None: there is none."""
    age = time.monotonic() - child.began
    if config.limit_worker_lifetime is not None and age >= config.limit_worker_lifetime:
        return Told.LIFETIME, f"has served for {age:.0f} s (--limit-worker-lifetime)"
    if config.limit_worker_rss is not None and age >= YOUNG_SECONDS:
        size = resident_bytes(child.pid)
        if size > config.limit_worker_rss:
            return Told.MEMORY, f"uses {size} bytes of memory (--limit-worker-rss)"
    return None


def replace_worn(workers: Collection[Child], config: Config, pages: Pages) -> None:
    """Have one worn worker replaced, unless another is about to leave: each gets its successor
    before the next."""
    for child in workers:
        if any(other.state is State.LEAVING for other in workers):
            return
        why = is_worn(child, config) if child.state is State.SERVING else None
        if why is not None:
            child.state = State.LEAVING
            pages.count(why[0])
            logger.info("worker %d (slot %d) %s: replaced", child.pid, child.slot, why[1])


def replace_stuck(workers: Iterable[Child], config: Config, pages: Pages) -> bool:
    """Have one hanging worker replaced, with its stacks in the log. True: there may be another one,
    for a later call, because two workers at once would mix their lines."""
    limit = config.timeout_worker
    if limit is None:
        return False
    for child in workers:
        if child.state is State.SERVING and child.page.busy_seconds() >= limit:
            child.state, child.stuck = State.LEAVING, True
            pages.count(Told.STUCK)
            logger.error(
                "worker %d (slot %d) hangs, held up for %g s: replaced; its stacks:",
                *(child.pid, child.slot, limit),
            )
            os.kill(child.pid, SHOW_STACKS)
            return True
    return False
