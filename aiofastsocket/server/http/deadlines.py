"""Deadlines that are all equally far away: one timer for any number of connections."""

import asyncio
from collections.abc import Callable
from typing import Any

LATE_SECONDS = 0.1  # a timer that comes so much later was held up
TURN_SECONDS = 0.05  # for the loop to read what lies there


class Deadlines:
    """Calls `expired(who)` for each that was not discarded `seconds` after it was added.

    When a handler has held the loop up, nobody has looked at what clients sent meanwhile: the loop
    gets a turn to read it before anything expires, one and no more.

    A dictionary keeps the order in which they were added, which is that in which they are due, so
    that adding and discarding are a dictionary's, and nobody looks through those that wait.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[Any], None]
    ) -> None:
        self.seconds = seconds
        self._loop = loop
        self._expired = expired
        self._due: dict[Any, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  # loop.time: when the timer is due
        self._waited = False  # a turn, since it came late

    def add(self, who: Any) -> None:
        """From now on. It is in here once: discard it before it begins anew."""
        due = self._due[who] = self._loop.time() + self.seconds
        if self._timer is None:
            self._look_at(due)

    def discard(self, who: Any) -> float | None:
        """No more; when it would have been due (loop.time), None if it was not here."""
        return self._due.pop(who, None)

    def clear(self) -> None:
        """Forget all, and the timer."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._at > LATE_SECONDS and not self._waited:
            self._waited = True
            self._timer = self._loop.call_later(TURN_SECONDS, self._look)
            return
        self._waited = False
        try:
            while self._due:
                who, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[who]
                self._expired(who)
        finally:  # whatever one of them raises, the others are still waited for
            if self._due and self._timer is None:
                self._look_at(next(iter(self._due.values())))

    def _look_at(self, due: float) -> None:
        self._at = due
        self._timer = self._loop.call_at(due, self._look)
