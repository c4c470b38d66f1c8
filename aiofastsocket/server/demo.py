"""The program that `serve` runs without a target: over HTTP, it shows the worker that answers, and
its counters."""

import asyncio
import os
from typing import cast

from ..table.table import ListenTable


class Demo(asyncio.Protocol):
    """Enough of HTTP for curl and wrk: one request without a body, then it closes."""

    def __init__(self, table: ListenTable, slot: int) -> None:
        self._table = table
        self._slot = slot
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._answer()
        elif len(self._received) > 65536:
            self._transport.abort()

    def _answer(self) -> None:
        slot = self._table.slot(self._slot)
        info = self._table.info()
        body = (
            f"worker {os.getpid()}, core {slot.cpu}, slot {slot.slot}\n"
            f"this slot's workers accepted: own {slot.own}, stolen {slot.stolen}, "
            f"orphan {slot.orphan}, global {slot.global_}\n"
            f"steering: {'shared' if info.shared else info.steer} ({info.why})\n"
        )
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + (b"" if self._received.startswith(b"HEAD ") else body.encode())
        )
        self._transport.close()
