"""`--timeout-worker`: what a worker whose loop does not turn was doing, for the log.

The supervisor sees by the worker's own page that it hangs, and sends it SHOW_STACKS, which
faulthandler answers in C, whoever has the interpreter's lock. Which request it is, a thread of the
worker's says before that, if it gets the lock.
"""

import asyncio
import faulthandler
import logging
import signal
import threading

from ..table.pulse import PulsePage

logger = logging.getLogger("aiofastsocket")

SHOW_STACKS = signal.SIGRTMAX - 1


def show_stacks_when_asked(fd: int) -> None:
    """From now on; of all threads, written to the descriptor."""
    faulthandler.register(SHOW_STACKS, file=fd, all_threads=True)


def watch(loop: asyncio.AbstractEventLoop, page: PulsePage, seconds: float) -> None:
    """Start the thread that says which request holds the loop up, when it has for half of that."""
    thread = threading.Thread(target=_watch, args=(loop, page, seconds), name="stuck", daemon=True)
    thread.start()


def _watch(loop: asyncio.AbstractEventLoop, page: PulsePage, seconds: float) -> None:
    pause, told = threading.Event(), False
    while not loop.is_closed():
        pause.wait(seconds / 4)
        busy = page.busy_seconds()
        if busy >= seconds / 2 and not told:
            task = asyncio.current_task(loop)
            name = "no task" if task is None else task.get_name()
            logger.warning("the loop has not turned for %.1f s: %s", busy, name)
        told = busy >= seconds / 2
