"""Like raw.py, but `/block` blocks the whole worker for 100 ms, as a forgotten database call does.

It sleeps: other requests wait for the worker, not for the core.
"""

import asyncio
import time
from typing import Any

from answer import HELLO
from launch import launch


class Hello(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /block"):
            time.sleep(0.1)
        self.transport.write(HELLO)
        self.transport.close()


async def start(**address: Any) -> asyncio.AbstractServer:
    return await asyncio.get_running_loop().create_server(Hello, **address)


launch(start)
