"""Periodic checks, each with its own interval."""

from collections.abc import Callable
from dataclasses import dataclass

FOREVER = float("inf")
SOON_SECONDS = 0.1


@dataclass
class Look:
    """One periodic check. do: called every `seconds` seconds, or after SOON_SECONDS if it returned
    True. seconds: FOREVER means never."""

    seconds: float
    do: Callable[[], bool | None]
    due: float = FOREVER  # time.monotonic

    def begin(self, now: float) -> None:
        """Begin the interval now."""
        self.due = now + self.seconds

    def look(self, now: float) -> None:
        """Call `do` if it is due."""
        if now >= self.due:
            self.begin(now)
            if self.do():
                self.due = now + min(SOON_SECONDS, self.seconds)
