"""Forking in the supervisor: even after an error, no child continues as a second supervisor."""

import logging
import os
import signal
from collections.abc import Callable

from ..streams import flush_standard_streams
from . import pidfile
from .signals import ACTED_ON

logger = logging.getLogger("aiofastsocket")


def forked(what: str, run: Callable[[], int]) -> int:
    """Fork a child that calls `run` and exits with the code that it returns; return the process id
    of the child. what: the child's name for the log. Raises OSError, as fork(2) does."""
    flush_standard_streams()
    # A signal that comes before the child has its own handlers must not reach ours.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ACTED_ON)
    try:
        pid = os.fork()
        if pid == 0:
            _run(what, run)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def how_it_ended(code: int) -> str:
    """How a process ended, in words. code: from os.waitstatus_to_exitcode."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def _run(what: str, run: Callable[[], int]) -> None:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        pidfile.let_go()
        code = run()
    except BaseException:
        logger.exception("%s failed", what)
    finally:
        flush_standard_streams()
        os._exit(code)
