"""What is looked at again and again: each thing by its own interval."""

from collections.abc import Callable
from dataclasses import dataclass

FOREVER = float("inf")
SOON_SECONDS = 0.1


@dataclass
class Look:
    """do: called once `seconds` have gone by, and again after as many, or soon if it returns True.
    FOREVER: never."""

    seconds: float
    do: Callable[[], bool | None]
    due: float = FOREVER  # time.monotonic

    def begin(self, now: float) -> None:
        """From now on."""
        self.due = now + self.seconds

    def look(self, now: float) -> None:
        """If it is due."""
        if now >= self.due:
            self.begin(now)
            if self.do():
                self.due = now + min(SOON_SECONDS, self.seconds)
