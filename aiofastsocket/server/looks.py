"""What is looked at again and again: each thing by its own interval."""

from collections.abc import Callable
from dataclasses import dataclass

FOREVER = float("inf")


@dataclass
class Look:
    """do: called once `seconds` have gone by, and again after as many. FOREVER: never."""

    seconds: float
    do: Callable[[], object]
    due: float = FOREVER  # time.monotonic

    def begin(self, now: float) -> None:
        """From now on."""
        self.due = now + self.seconds

    def look(self, now: float) -> None:
        """If it is due."""
        if now >= self.due:
            self.begin(now)
            self.do()
