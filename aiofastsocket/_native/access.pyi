"""The names of native/python/access.pyx that this package uses."""

import asyncio
from collections.abc import Callable

class Access:
    times: bool
    def __init__(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], object]) -> None: ...
    def take(self) -> bytes: ...
