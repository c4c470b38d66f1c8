"""The access log: a line for each response, in the Common Log Format that log tools know."""

import asyncio
import logging
import time

from ..logs import as_uvicorn, standard_output
from .scope import Address, Scope

logger = logging.getLogger("aiofastsocket")


class AccessLog:
    """Lines are written once a turn of the loop, all at once: to standard output, or each to the
    logger of that name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, logger: str | None = None) -> None:
        self._loop = loop
        self._logger = logging.getLogger(logger) if logger is not None else None
        self._as_uvicorn = logger is not None and as_uvicorn()
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def asked(self, scope: Scope) -> tuple[str, str]:
        """What a line says of the client and its request."""
        target = _quoted(scope["raw_path"])
        if scope["query_string"]:
            target += "?" + _quoted(scope["query_string"])
        method, client = scope.get("method", "GET"), scope["client"]
        return client[0] if client else "-", f"{method} {target} HTTP/{scope['http_version']}"

    def note(self, asked: tuple[str, str], status: int, sent: int) -> None:
        """A response. sent: bytes of its body."""
        self._add(*asked, status, sent)

    def refused(self, client: Address, status: int) -> None:
        """What was no request."""
        self._add(client[0] if client else "-", "-", status, 0)

    def _add(self, host: str, request: str, status: int, sent: int) -> None:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now))
        self._lines.append(f'{host} - - [{self._stamp}] "{request}" {status} {sent}\n')
        if len(self._lines) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come."""
        if self._lines:
            lines, self._lines = self._lines, []
            if self._logger is not None and self._as_uvicorn:
                for line in lines:
                    self._logger.info(UVICORNS, *_parts(line))
            elif self._logger is not None:
                for line in lines:
                    self._logger.info("%s", line[:-1])
            else:
                out = standard_output()
                dropped = out.dropped
                if out.write("".join(lines).encode(errors="backslashreplace")) and dropped:
                    out.dropped = 0
                    logger.warning(
                        "%d lines of the access log were dropped: nobody read them", dropped
                    )


UVICORNS = '%s - "%s %s HTTP/%s" %d'


def _parts(line: str) -> tuple[str, str, str, str, int]:
    """Client, method, target, version and status, of a line of ours."""
    host, _, rest = line.partition(" ")
    _, request, after = rest.split('"')
    method, target, version = [*request.split(" "), "", ""][:3]
    return host, method, target, version.removeprefix("HTTP/"), int(after.split()[0])


def _quoted(target: bytes) -> str:
    """Nothing in it ends the quotes: the parser lets no control characters through."""
    return target.decode("latin-1").replace('"', "%22")
