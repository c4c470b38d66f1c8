"""The names of native/python/http1.pyx that this package uses."""

import asyncio

from .exchange import Service

class Connection(asyncio.Protocol):
    def __init__(
        self,
        service: Service,
        scheme: str = "http",
        server: tuple[str, int | None] | None = None,
    ) -> None: ...
