"""An asyncio.Protocol that answers one request and closes."""

import asyncio
from typing import Any

from answer import HELLO
from launch import launch


class Hello(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(HELLO)
        self.transport.close()


async def start(**address: Any) -> asyncio.AbstractServer:
    return await asyncio.get_running_loop().create_server(Hello, **address)


launch(start)
