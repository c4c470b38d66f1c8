"""WSGI applications (PEP 3333), by a2wsgi: their threads, and what these are busy with."""

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock, get_ident
from typing import Any

from ..errors import SetupError
from ..table.pulse import PulsePage

THREADS = 10
"""A worker runs so many requests at a time."""


class Threads:
    """Which of a worker's are in the application's hands, and since when; the supervisor sees it if
    all are. A thread that waits for its client is not."""

    def __init__(self, page: PulsePage) -> None:
        self._page = page
        self._lock = Lock()
        self._busy: dict[int, tuple[int, str]] = {}  # by thread: since when, and the path

    def runs(self, path: str) -> None:
        """This thread goes into the application."""
        with self._lock:
            self._busy[get_ident()] = time.monotonic_ns(), path
            if len(self._busy) == THREADS:
                self._page.pool_busy(max(since for since, _ in self._busy.values()))

    def waits(self) -> bool:
        """It is back; whether it was there: the application may have threads of its own."""
        with self._lock:
            if len(self._busy) == THREADS:
                self._page.pool_busy(0)
            return self._busy.pop(get_ident(), None) is not None

    def doing(self) -> list[str]:
        """The paths that they are at, if none is free. From any thread."""
        with self._lock:
            paths = [path for _, path in self._busy.values()]
        return paths if len(paths) == THREADS else []


class _Input:
    """`wsgi.input`: whoever reads it waits for the client."""

    def __init__(self, body: Any, outside: Callable[..., Any]) -> None:
        self._body = body
        self._outside = outside

    def read(self, size: int = -1) -> Any:
        """PEP 3333."""
        return self._outside(self._body.read, size)

    def readline(self, limit: int = -1) -> Any:
        """PEP 3333."""
        return self._outside(self._body.readline, limit)

    def readlines(self, hint: int = -1) -> Any:
        """PEP 3333."""
        return self._outside(self._body.readlines, hint)

    def __iter__(self) -> Iterator[Any]:
        while line := self.readline():
            yield line


def _reporting(app: Any, threads: Threads) -> Any:
    """The application, which says so where its threads go in and out."""

    def reporting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]

        def outside(call: Callable[..., Any], *args: Any) -> Any:
            was_inside = threads.waits()
            try:
                return call(*args)
            finally:
                if was_inside:
                    threads.runs(path)

        def start(*args: Any) -> Any:
            write = outside(start_response, *args)
            return lambda chunk: outside(write, chunk)

        environ["wsgi.input"] = _Input(environ["wsgi.input"], outside)
        threads.runs(path)
        try:
            body = app(environ, start)
            try:
                for chunk in body:
                    threads.waits()
                    try:
                        yield chunk
                    finally:
                        threads.runs(path)
            finally:
                getattr(body, "close", lambda: None)()
        finally:
            threads.waits()

    return reporting


def as_asgi(app: Any, threads: Threads) -> Any:
    """An ASGI application that runs it in these. Raises SetupError."""
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError:
        raise SetupError("a WSGI application needs a2wsgi: pip install a2wsgi") from None
    return WSGIMiddleware(_reporting(app, threads), workers=THREADS)
