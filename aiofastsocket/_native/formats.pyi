"""The names of native/python/formats.pyx that this package uses."""

import asyncio
from collections.abc import Callable

from .access import Access

class Formatted(Access):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, flush: Callable[[], object], form: str
    ) -> None: ...

def parsed(form: str) -> list[tuple[int, bytes]]: ...
