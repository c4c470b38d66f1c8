"""What this package uses of native/python/access.pyx."""

import asyncio
from collections.abc import Callable

class Access:
    times: bool
    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], object]) -> None: ...
    def take(self) -> bytes: ...
