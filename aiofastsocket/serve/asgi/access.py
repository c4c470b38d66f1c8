"""The access log: a line for each response, in the Common Log Format that log tools know."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

from .scope import Address, Scope


def _to_stdout(text: str) -> None:
    with suppress(OSError):  # a full disk, a closed pipe: no reason to answer nobody
        os.write(1, text.encode(errors="backslashreplace"))


class AccessLog:
    """Lines are written once a turn of the loop, all at once. write: takes whole lines."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[str], object] = _to_stdout
    ) -> None:
        self._loop = loop
        self._write = write
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def note(self, scope: Scope, status: int, sent: int) -> None:
        """A response. sent: bytes of its body."""
        target = _quoted(scope["raw_path"])
        if scope["query_string"]:
            target += "?" + _quoted(scope["query_string"])
        method = scope.get("method", "GET")
        self._add(scope["client"], f"{method} {target} HTTP/{scope['http_version']}", status, sent)

    def refused(self, client: Address, status: int) -> None:
        """What was no request."""
        self._add(client, "-", status, 0)

    def _add(self, client: Address, request: str, status: int, sent: int) -> None:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        host = client[0] if client else "-"
        self._lines.append(f'{host} - - [{self._stamp}] "{request}" {status} {sent}\n')
        if len(self._lines) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._write("".join(lines))


def _quoted(target: bytes) -> str:
    """Nothing in it ends the quotes: the parser lets no control characters through."""
    return target.decode("latin-1").replace('"', "%22")
