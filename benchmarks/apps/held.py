"""Two protocols for burst.py.

Held sends the worker's process id on each connection at once, and keeps the connection. Blocking
answers `GET /`, `GET /sleep` and `GET /burn`, and closes; the last two block the worker first.
"""

import asyncio
import os
import time
from typing import Any

from answer import HELLO

BLOCK_SECONDS = 0.1


class Held(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"%d\n" % os.getpid())


class Blocking(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /sleep"):
            time.sleep(BLOCK_SECONDS)
        elif data.startswith(b"GET /burn"):
            end = time.thread_time() + BLOCK_SECONDS
            while time.thread_time() < end:
                pass
        self.transport.write(HELLO)
        self.transport.close()
