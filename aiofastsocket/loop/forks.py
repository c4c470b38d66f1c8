"""A loop in a process that forks: which process and thread run it, and what a child may do with it.

A forked child that does not use its parent's loop has nothing to do. One that runs it before the
parent did gets it renewed; one that was forked by a handler of the running loop must not go on.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..table.part import pollers

_FORKED = (
    "this loop was running when its process forked: in the child make a new one "
    "(aiofastsocket.run), or fork before the loop runs"
)


class Forkable:
    """Mixed into a loop, before its base."""

    def __init__(self, *base: Any) -> None:
        super().__init__(*base)
        self._pid = os.getpid()
        self._thread: int | None = None  # that runs it
        self._forked_running = False
        pollers.add(self)

    # -- what others add --

    def resume_after_fork(self) -> None:
        """In a forked child, before an inherited loop runs: each loop has its own way."""

    def begin_serving(self) -> None:
        """The loop is about to run."""

    def end_serving(self) -> None:
        """It runs no more."""

    # -- forks --

    def renew(self) -> None:
        """In a forked child, at once: see table.part.Poller."""
        base: Any = super()
        if base.is_running():
            # Whoever forks in a handler may well go on without the loop; not with it.
            self._forked_running = True
            if self.runs_here():
                base.stop()

    def run_forever(self) -> None:
        """As asyncio's; local listeners are claimed first, and given up after.

        Raises RuntimeError in a forked child whose parent was running the loop.
        """
        base: Any = super()
        if self._forked_running:
            raise RuntimeError(_FORKED)
        if base.is_running() or base.is_closed():
            base.run_forever()  # which says so
        if self._pid != os.getpid():
            self._pid = os.getpid()
            # The threads of the old one are the parent's.
            base.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
            self.resume_after_fork()
        self._thread = threading.get_ident()
        try:
            self.begin_serving()
            base.run_forever()
        finally:
            self._thread = None
            if not self._forked_running:
                self.end_serving()
        if self._forked_running:
            raise RuntimeError(_FORKED)

    # -- threads --

    def runs_here(self) -> bool:
        """This thread runs it."""
        return self._thread == threading.get_ident()

    def check_thread(self, what: str) -> None:
        """Raise RuntimeError if the loop runs in another thread."""
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(
                f"{what} was called in another thread than its loop's: use "
                "asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe"
            )
