"""The process that answers for metrics: a fork of the supervisor. It holds no listener of the
service, and cannot write the data that it reads.

It is separate from the workers, so that a worker that hangs cannot stop it, and one answer has all
workers. It is separate from the supervisor, which never reads from the network.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from ..._native import lib, text
from ..._native.http1 import Connection
from ...streams import flush_standard_streams
from ...table.view import Readable, TableView
from ..bind import Listener
from ..child import Child
from ..config import Config
from ..forked import forked, how_it_ended
from ..http.config import HttpConfig
from ..http.service import Service as HttpService
from ..logs import reopen
from ..looks import FOREVER
from ..pages import Pages
from ..privileges import drop
from .answer import Answer
from .collect import Service

logger = logging.getLogger("aiofastsocket")

RETRY_SECONDS = 1.0
HTTP = HttpConfig(access_log=False, proxy_headers=False, ws="none", limit_concurrency=64)


class MetricsProcess:
    """The metrics process as the supervisor sees it. fd: a listening socket, which no other process
    may hold."""

    def __init__(
        self, config: Config, fd: int, backend: str, listeners: Sequence[Listener], pages: Pages
    ) -> None:
        self._config = config
        self.fd = fd
        self._listeners = listeners
        self._pages = pages
        self._labels = {"version": text(lib.FS_RELEASE), "backend": backend}
        self.pid = 0  # there is no process
        self.due = 0.0  # time.monotonic: when a process must be started

    def start(self, close: Iterable[int], workers: Iterable[Child]) -> None:
        """Start the process, if it is due. close: descriptors that it must not hold; workers: those
        whose pipes it must not hold."""
        if self.pid or time.monotonic() < self.due:
            return
        supervisor = os.getpid()
        try:
            self.pid = forked("metrics process", lambda: self._run(supervisor, close, workers))
            self.due = FOREVER
        except OSError as error:
            self.due = time.monotonic() + RETRY_SECONDS
            logger.error("the metrics process cannot start: %s", error)

    def reap(self) -> None:
        """Check whether the process has ended; if so, another is due."""
        if self.pid == 0:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.pid, self.due = 0, time.monotonic() + RETRY_SECONDS
            how = how_it_ended(os.waitstatus_to_exitcode(status))
            logger.warning("metrics process %s: another is started", how)

    def reopen(self) -> None:
        """Tell the process to reopen the log files, which have been renamed."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def end(self) -> None:
        """End the process, with the service."""
        if self.pid:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)

    # -- in the fork --

    def _run(self, supervisor: int, close: Iterable[int], workers: Iterable[Child]) -> int:
        for fd in close:
            os.close(fd)
        for child in workers:
            child.close()
        # It ends with the supervisor. A signal to the whole process group is for the supervisor.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        drop(self._config, supervisor, signal.SIGKILL)
        tables = [_only_read(listener) for listener in self._listeners]
        self._pages.read_only()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.add_signal_handler(signal.SIGUSR1, reopen)
        answer = Answer(Service(self._pages, tables, self._labels))
        service = HttpService(loop, answer, HTTP)
        factory = partial(Connection, service, "http", None)
        loop.run_until_complete(loop.create_server(factory, sock=socket.socket(fileno=self.fd)))
        loop.run_forever()
        flush_standard_streams()
        return 1


def _only_read(listener: Listener) -> Readable:
    """A listener's table, read-only and without its descriptors."""
    table = listener.table
    with suppress(OSError):  # if a sandbox refuses the calls for it: the table as it is
        view = TableView.at(f"/proc/self/fd/{table.page_fd()}")
        listener.let_go()
        return view
    return table
