"""An asyncio.Protocol that sends received bytes back, for as long as the client likes."""

import asyncio
from typing import Any

from launch import launch


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def start(**address: Any) -> asyncio.AbstractServer:
    return await asyncio.get_running_loop().create_server(Echo, **address)


launch(start)
