"""`--reload`: a process that watches the program's files and has the supervisor renew the workers.

A reload as by HUP: a program that does not start any more leaves the old one serving.
"""

import importlib.util
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .._native import check, lib
from ..errors import SetupError
from .signals import ACTED_ON

logger = logging.getLogger("aiofastsocket")


def check_watcher() -> None:
    """SetupError unless what watches is installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise SetupError("--reload needs watchfiles: pip install watchfiles")


@contextmanager
def watching(folders: list[str]) -> Iterator[None]:
    """Send ourselves SIGHUP whenever a Python file below these folders changes."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            for number in ACTED_ON:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the supervisor decides
            check(lib.fs_parent_death_signal(signal.SIGTERM, supervisor), "supervisor is gone")
            _watch(folders, supervisor)
        except BaseException:
            logger.exception("files are not watched any more")
        finally:
            os._exit(0)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # at the end the supervisor ignores SIGCHLD
            os.waitpid(pid, 0)


def _watch(folders: list[str], supervisor: int) -> None:
    from watchfiles import PythonFilter, watch

    for changes in watch(*folders, watch_filter=PythonFilter(), raise_interrupt=False):
        names = sorted({Path(name).name for _, name in changes})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        logger.info("%s%s changed", ", ".join(names[:3]), more)
        os.kill(supervisor, signal.SIGHUP)
