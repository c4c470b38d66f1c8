"""A loop in a process that forks: the process and thread that run it, and its use in a child.

A forked child that does not use its parent's loop has nothing to do. If the loop did not run at the
fork, the child may run it: the loop is renewed. If the loop ran, and one of its handlers forked the
child, the child must not continue the loop.
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
    """A mixin for a loop. It must come before the loop's base class."""

    def __init__(self, *base: Any) -> None:
        super().__init__(*base)
        self._pid = os.getpid()
        self._thread: int | None = None  # the thread that runs it
        self._forked_running = False
        pollers.add(self)

    # -- methods that subclasses implement --

    def resume_after_fork(self) -> None:
        """Called in a forked child before an inherited loop runs. Each loop implements it."""

    def begin_serving(self) -> None:
        """The loop is about to run."""

    def end_serving(self) -> None:
        """The loop has stopped."""

    # -- forks --

    def renew(self) -> None:
        """Called in a forked child at once: see table.part.Poller."""
        base: Any = super()
        if base.is_running():
            # A child that a handler forked may continue without the loop, but not with it.
            self._forked_running = True
            if self.runs_here():
                base.stop()

    def run_forever(self) -> None:
        """Like asyncio's run_forever. Local listeners are claimed before it, and given up after it.

        Raises RuntimeError in a forked child whose parent was running the loop.
        """
        base: Any = super()
        if self._forked_running:
            raise RuntimeError(_FORKED)
        if base.is_running() or base.is_closed():
            base.run_forever()  # raises the error
        if self._pid != os.getpid():
            self._pid = os.getpid()
            # The threads of the old executor exist only in the parent.
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
        """Whether this thread runs the loop."""
        return self._thread == threading.get_ident()

    def check_thread(self, what: str) -> None:
        """Raise RuntimeError if the loop runs in another thread."""
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(
                f"{what} was called in another thread than its loop's: use "
                "asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe"
            )
