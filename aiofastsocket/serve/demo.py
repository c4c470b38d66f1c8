"""What `serve` answers without a target: over HTTP, which worker this was and what it has done."""

import asyncio
import os
from typing import cast

from ..listeners import ListenTable


class Demo(asyncio.Protocol):
    """Enough of HTTP/1.1 for curl and wrk: requests without a body, answered in order."""

    def __init__(self, table: ListenTable, slot: int) -> None:
        self._table = table
        self._slot = slot
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._transport.is_closing():
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                if len(head) > 65536:
                    self._transport.abort()
                return
            self._received = rest
            self._answer(head.lower())

    def _answer(self, head: bytes) -> None:
        close = b"connection: close" in head or b" http/1.0" in head
        slot = self._table.slot(self._slot)
        info = self._table.info()
        body = (
            f"worker {os.getpid()}, core {slot.cpu}, slot {slot.slot}\n"
            f"accepted: own {slot.own}, stolen {slot.stolen}, orphan {slot.orphan}, "
            f"global {slot.global_}\n"
            f"steering: {'shared' if info.shared else info.steer} ({info.why})\n"
        )
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
            + f"Content-Length: {len(body)}\r\n".encode()
            + (b"Connection: close\r\n\r\n" if close else b"\r\n")
            + (b"" if head.startswith(b"head ") else body.encode())
        )
        if close:
            self._transport.close()
