"""`--timeout-worker`: what a worker that hangs was doing, for the log.

It hangs when its loop does not turn, or when no thread of its pool gets free. The supervisor sees
that by the worker's own page, and sends it SHOW_STACKS, which faulthandler answers in C, whoever
has the interpreter's lock. Which request it is, a thread of the worker's says before that, if it
gets the lock.
"""

import asyncio
import faulthandler
import logging
import signal
import threading
from collections.abc import Callable

from .pages import WorkerPage

logger = logging.getLogger("aiofastsocket")

SHOW_STACKS = signal.SIGRTMAX - 1


def show_stacks_when_asked(fd: int) -> None:
    """From now on; of all threads, written to the descriptor."""
    faulthandler.register(SHOW_STACKS, file=fd, all_threads=True)


Doing = Callable[[], list[str]]


def watch(loop: asyncio.AbstractEventLoop, page: WorkerPage, seconds: float, doing: Doing) -> None:
    """Start the thread that says which request holds the loop up, when it has for half of that; or
    which its pool's threads are busy with (`doing`), when all are."""
    args = loop, page, seconds, doing
    threading.Thread(target=_watch, args=args, name="stuck", daemon=True).start()


def _watch(loop: asyncio.AbstractEventLoop, page: WorkerPage, seconds: float, doing: Doing) -> None:
    pause, told = threading.Event(), False
    while not loop.is_closed():
        pause.wait(seconds / 4)
        busy = page.busy_seconds()
        if busy >= seconds / 2 and not told:
            if paths := doing():
                logger.warning("no thread has been free for %.1f s: %s", busy, ", ".join(paths))
            else:
                task = asyncio.current_task(loop)
                name = "no task" if task is None else task.get_name()
                logger.warning("the loop has not turned for %.1f s: %s", busy, name)
        told = busy >= seconds / 2
