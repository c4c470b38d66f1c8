"""Shared code of the loop tests: protocols, a client, and counters of this process's tables."""

import asyncio
import os
from typing import Any, cast

from aiofastsocket import SlotInfo, tables_of


class Echo(asyncio.Protocol):
    """Sends back received data; closes when the client ends its side."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Recorder(asyncio.Protocol):
    """Records its callbacks; sends "bye" at the end."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self.sock = transport.get_extra_info("sockname")

    def data_received(self, data: bytes) -> None:
        self.events.append(data.decode())

    def eof_received(self) -> None:
        self.events.append("eof")
        self.transport.write(b"bye")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.over.set_result(None)


async def ask(address: Any, request: bytes, **options: Any) -> bytes:
    """The answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address, **options)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readexactly(len(request)), 20)
    finally:
        writer.close()
        await writer.wait_closed()


def table_counts() -> list[SlotInfo]:
    """The first claimed slot of each of this process's tables."""
    found = []
    for view in tables_of(os.getpid()):
        with view:
            found += [slot for slot in view.slots() if slot.pid == os.getpid()][:1]
    return found
