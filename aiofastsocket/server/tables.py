"""The listen tables of a service as its supervisor has them: steering under review, strangers at an
address, pages that were restored, the full stop, and calls that the kernel refuses.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from ..table.table import ListenTable
from .bind import Listener
from .summary import steering
from .worker import Setup

logger = logging.getLogger("aiofastsocket")

QUIET_SECONDS = 60.0  # the shortest time between two log lines on an invalid page or a refused call


class Tables:
    """The tables of a service's listeners, in their order."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        # By address: the restorations that were logged, and the time of the next log line.
        self._restored: dict[str, tuple[int, float]] = {}
        # By address: the time of the next log line on a refused call.
        self._refused: dict[str, float] = {}

    def __iter__(self) -> Iterator[ListenTable]:
        return (listener.table for listener in self._setup.listeners)

    def each(self, do: Callable[[ListenTable], object], *only: ListenTable) -> bool:
        """Call `do` with the tables; return whether one of the calls returned a true value. Workers
        hold the listeners too, and could make the kernel refuse a call: the service continues."""
        done = False
        for table in only or self:
            try:
                done = bool(do(table)) or done
            except OSError as error:
                if time.monotonic() >= self._refused.get(table.address, 0.0):
                    self._refused[table.address] = time.monotonic() + QUIET_SECONDS
                    logger.error("%s: refused, but the service continues: %s", table.address, error)
        return done

    # -- steering --

    def pinned(self) -> bool:
        """Whether workers are pinned to the cores of their slots."""
        if self._setup.config.pin != "auto":
            return self._setup.config.pin == "on"
        return any(not t.info().shared and t.info().steer == "cpu" for t in self)

    def are_reviewed(self) -> bool:
        """Whether the steering of one of them may have to change."""
        return any(t.info().wanted == "auto" and t.info().steer == "cpu" for t in self)

    def review(self, workers: Iterable[int]) -> None:
        """Leave `cpu` where the cores' shares are uneven; then the workers are no longer pinned."""
        for listener in self._setup.listeners:
            if self.each(ListenTable.review, listener.table):
                now = steering(self._setup, listener)
                logger.warning("%s: steering is now %s", listener.address, now)
                if not self.pinned():
                    for pid in workers:
                        with suppress(ProcessLookupError):
                            os.sched_setaffinity(pid, os.sched_getaffinity(0))

    # -- lines for the log --

    def tell_joined(self) -> None:
        """Log other programs that have begun to listen at an address."""
        for table in self:
            if table.joined():
                logger.warning("%s", table.of_strangers())

    def tell_restored(self) -> None:
        """Log pages that were invalid."""
        for table in self:
            times = table.info().restored
            told, again = self._restored.get(table.address, (0, 0.0))
            if times > told and time.monotonic() >= again:
                self._restored[table.address] = times, time.monotonic() + QUIET_SECONDS
                logger.error(
                    "%s: the page that all workers share was invalid, because a worker wrote to it:"
                    " restored; counters continue from the values that were read last",
                    table.address,
                )

    # -- the full stop --

    def stop_arrivals(self) -> None:
        """Do the first half of a full stop, once, as far as it is permitted."""
        for listener in self._ours():
            if listener.table.info().stopping:
                continue
            try:
                listener.unlink()
            except OSError as error:
                logger.warning("%s cannot be removed: %s", listener.address, error.strerror)
            try:
                listener.table.stop_arrivals()
            except OSError as error:
                logger.warning("%s; clients that connect now may be reset", error.strerror)

    def shut_down(self) -> None:
        """The second half, when all queues are empty: refuse new connections, free the port."""
        for listener in self._ours():
            with suppress(OSError):  # ENOTCONN: an earlier call did it
                listener.table.shutdown()

    def _ours(self) -> Iterator[Listener]:
        """Another process's socket is not ours to end; its queue is for the next server."""
        return (listener for listener in self._setup.listeners if not listener.foreign)
