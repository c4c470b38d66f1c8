"""`--timeout-worker`: the stacks and the requests of a worker that hangs, for the log.

A worker hangs when its loop does not turn, or when no thread of its pool becomes free. The
supervisor sees that in the worker's page, and sends the worker SHOW_STACKS. faulthandler answers
this signal in C, even if another thread holds the interpreter's lock. Before that, a thread of the
worker logs the request, if it gets the lock.
"""

import asyncio
import faulthandler
import logging
import signal
import threading
from collections.abc import Callable
from urllib.parse import quote

from .pages import WorkerPage

logger = logging.getLogger("aiofastsocket")

SHOW_STACKS = signal.SIGRTMAX - 1


def show_stacks_when_asked(fd: int) -> None:
    """At each SHOW_STACKS from now on, write the stacks of all threads to the descriptor."""
    faulthandler.register(SHOW_STACKS, file=fd, all_threads=True)


Doing = Callable[[], list[str]]


def watch(loop: asyncio.AbstractEventLoop, page: WorkerPage, seconds: float, doing: Doing) -> None:
    """Start the thread that logs the request that has held up the loop for half of `seconds`, or
    the requests of the pool's threads (`doing`), if all threads have been busy for this long."""
    args = loop, page, seconds, doing
    threading.Thread(target=_watch, args=args, name="stuck", daemon=True).start()


def _watch(loop: asyncio.AbstractEventLoop, page: WorkerPage, seconds: float, doing: Doing) -> None:
    pause, told = threading.Event(), False
    while not loop.is_closed():
        pause.wait(seconds / 4)
        busy = page.busy_seconds()
        if busy >= seconds / 2 and not told:
            if paths := doing():
                logger.warning(
                    "no thread of the pool has been free for %.1f s: %s", busy, ", ".join(paths)
                )
            else:
                task = asyncio.current_task(loop)
                # A request's task has the decoded path as its name: any text of a client's.
                name = "no task" if task is None else quote(task.get_name())
                logger.warning("the event loop has been held up for %.1f s: %s", busy, name)
        told = busy >= seconds / 2
