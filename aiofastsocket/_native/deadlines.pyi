"""The names of native/python/deadlines.pyx that this package uses."""

import asyncio
from collections.abc import Callable
from typing import Any

class Timed:
    def wait_for(self, deadlines: Deadlines | None) -> None: ...

class Deadlines:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[Any], None]
    ) -> None: ...
    def clear(self) -> None: ...
