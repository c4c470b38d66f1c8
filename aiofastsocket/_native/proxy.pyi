"""The names of native/python/proxy.pyx that this package uses."""

import asyncio
from collections.abc import Callable

class Proxied:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        trusts: Callable[[object], bool],
        refused: Callable[[object], object],
        seconds: float,
    ) -> None: ...
    def __call__(self) -> asyncio.BaseProtocol: ...
