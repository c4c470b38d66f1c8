"""asyncio.start_server: read one request, answer, close."""

import asyncio
from typing import Any

from answer import HELLO
from launch import launch


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await writer.drain()
    writer.close()


async def start(**address: Any) -> asyncio.AbstractServer:
    return await asyncio.start_server(handle, **address)


launch(start)
