"""Workers that could not keep up: the log names them, and counts the connections that siblings took
from them."""

import logging
import time
from collections.abc import Iterable, Mapping

from ..table.table import ListenTable
from .child import Child

logger = logging.getLogger("aiofastsocket")

QUIET_SECONDS = 60.0  # the shortest time between two log lines on one slot


class Late:
    """The late workers of some tables. workers: those that serve the tables, by process id."""

    def __init__(self, tables: Iterable[ListenTable], workers: Mapping[int, Child]) -> None:
        self._tables = tables
        self._workers = workers
        # By address and slot: the connections that were logged, and the time of the next log line.
        self._told: dict[tuple[str, int], tuple[int, float]] = {}

    def tell(self) -> None:
        """Log the connections that siblings have taken since the last time."""
        now = time.monotonic()
        for table in self._tables:
            for slot in table.slots() if not table.info().shared else ():
                told, again = self._told.get((table.address, slot.slot), (0, 0.0))
                taken = slot.helped - told
                if taken <= 0 or now < again:
                    continue
                self._told[table.address, slot.slot] = slot.helped, now + QUIET_SECONDS
                child = self._workers.get(slot.pid)
                held = child.page.busy_seconds() if child is not None else 0.0
                doing = f"has been held up for {held:.1f} s" if held > 0.05 else "was late"
                logger.warning(
                    "worker %d (slot %d) %s: other workers took %s that waited for it at %s",
                    *(slot.pid, slot.slot, doing, _connections(taken), table.address),
                )


def _connections(count: int) -> str:
    return "a connection" if count == 1 else f"{count} connections"
