"""The access log, on standard output or to a logger."""

import asyncio
import logging
from collections.abc import Callable

from ..._native.access import Access
from ..._native.formats import Formatted
from ..logs import as_uvicorn, standard_output

Address = tuple[str, int | None] | None  # a client's, as in ASGI scopes

logger = logging.getLogger("aiofastsocket")


class AccessLog:
    """Writes lines once per turn of the loop: together to standard output, or one by one to the
    logger named `logger`. form: the format of lines; None: the Common Log Format. on_drop: called
    with the number of lines that were not written."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        logger: str | None = None,
        form: str | None = None,
        on_drop: Callable[[int], object] = lambda lines: None,
    ) -> None:
        self.lines = Formatted(loop, self.flush, form) if form else Access(loop, self.flush)
        self._on_drop = on_drop
        self._logger = logging.getLogger(logger) if logger is not None else None
        self._as_uvicorn = logger is not None and as_uvicorn()

    def flush(self) -> None:
        """Write the lines that have come."""
        text = self.lines.take()
        if not text:
            return
        if self._logger is None:
            out = standard_output()
            if out is None:
                return
            dropped = out.dropped
            written = out.write(text)
            if out.dropped > dropped:
                self._on_drop(out.dropped - dropped)
            if written and dropped:
                out.dropped = 0
                logger.warning(
                    "%d lines of the access log were dropped: they could not be written", dropped
                )
            return
        for line in text.decode().split("\n")[:-1]:
            if self._as_uvicorn:
                self._logger.info(UVICORNS, *_parts(line))
            else:
                self._logger.info("%s", line)


UVICORNS = '%s - "%s %s HTTP/%s" %d'


def _parts(line: str) -> tuple[str, str, str, str, int]:
    """Client, method, target, version and status of a line of the access log."""
    host, _, rest = line.partition(" ")
    _, request, after = rest.split('"')
    method, target, version = [*request.split(" "), "", ""][:3]
    return host, method, target, version.removeprefix("HTTP/"), int(after.split()[0])
