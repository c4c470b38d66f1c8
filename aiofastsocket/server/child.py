"""A worker as its supervisor has it: forked, listened to, and let go."""

import logging
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from . import worker
from .forked import forked
from .looks import FOREVER
from .pages import Pages, WorkerPage

logger = logging.getLogger("aiofastsocket")

MOST_TOLD = 128 * 1024  # bytes: a complaint has 32 KiB at most
COMPLAINTS = (b"usage", b"setup", b"trace")


class State(IntEnum):
    """Of a worker, as its supervisor knows it.

    STARTING -> SERVING -> LEAVING -> STOPPING -> DRAINED
    STARTING -> CANCELLED -> STOPPING
    """

    STARTING = 0
    CANCELLED = 1  # told to stop before it was ready
    SERVING = 2
    LEAVING = 3  # it serves until a successor does
    STOPPING = 4  # it was told to, or said so
    DRAINED = 5  # it accepts no more


@dataclass
class Child:
    """A worker process and the supervisor's ends of its pipes."""

    pid: int
    slot: int
    generation: int
    status: int  # -1 once it has ended
    control: int
    page: WorkerPage
    state: State = State.STARTING
    stuck: bool = False  # its loop has not turned for --timeout-worker
    began: float = FOREVER  # time.monotonic: when it was ready
    reaped: bool = False  # its number may be another process's
    kill_at: float = FOREVER  # time.monotonic
    told: bytes = b""

    @property
    def ready(self) -> bool:
        """It was, at least."""
        return self.state >= State.SERVING

    @property
    def serves(self) -> bool:
        """It is ready, and nobody told it to stop."""
        return self.state in (State.SERVING, State.LEAVING)

    @property
    def stopping(self) -> bool:
        """It is to end, or is about to."""
        return self.state is State.CANCELLED or self.state >= State.STOPPING

    def begin_serving(self) -> None:
        """It is ready."""
        self.began = time.monotonic()
        cancelled = self.state is State.CANCELLED
        self.state = State.STOPPING if cancelled else State.SERVING

    def begin_stopping(self) -> None:
        """It was told to stop; once more changes nothing."""
        if not self.stopping:
            self.state = State.STOPPING if self.ready else State.CANCELLED

    def hear(self) -> None:
        """Take what it has told since the last time into `told`."""
        if self.status < 0:
            return
        with suppress(BlockingIOError):
            more = os.read(self.status, 65536)
            self.told += more
            if not more or len(self.told) > MOST_TOLD:  # it has nothing to say that is so long
                os.close(self.status)
                self.status = -1

    def said(self, line: bytes) -> bool:
        """Whether it has told this, in whatever order: it may have answered enough before it says
        that it is ready. The text of a complaint is none of it."""
        *lines, _ = self.told.split(b"\n")
        return line in lines and lines[0] not in COMPLAINTS

    def complains(self) -> bool:
        """It has said why it cannot start."""
        return not self.ready and self.told.split(b"\n", 1)[0] in COMPLAINTS

    def tell(self, word: bytes) -> None:
        """Through its pipe; one that has not read a thousand words gets no more."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.control, word)

    def end(self, *, quick: bool) -> None:
        """Tell it to stop; one that does not listen to signals yet just ends."""
        if not self.reaped:
            os.kill(self.pid, signal.SIGQUIT if quick and self.ready else signal.SIGTERM)

    def complaint(self, code: int) -> tuple[str, str]:
        """Why it could not start, given its exit code: kind ("usage", "setup", "trace"), text."""
        kind, _, text = self.told.decode(errors="replace").partition("\n")
        if text:
            return kind, text
        return "setup", f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"

    def close(self) -> None:
        """Close what there is of a worker that is gone, or of another worker's in a new one: pipes
        that others hold do not end."""
        if self.status >= 0:
            os.close(self.status)
        os.close(self.control)


def fork(
    setup: worker.Setup,
    slot: int,
    generation: int,
    *,
    pages: Pages,
    pin: bool,
    close: Iterable[int],
    others: Iterable[Child],
) -> Child:
    """Start a worker on a slot. close: descriptors that a worker must not hold; others: the workers
    that there are, of which it is to have nothing.

    Raises OSError if there are no descriptors or no memory for it; then nothing is left.
    """
    pipes: list[int] = []
    page = pages.take()
    try:
        pipes += os.pipe2(os.O_CLOEXEC)
        pipes += os.pipe2(os.O_CLOEXEC)
        status_in, status_out, control_in, control_out = pipes
        os.set_blocking(status_in, False)
        os.set_blocking(control_out, False)
        job = worker.Assignment(setup, slot, pin, status_out, control_in, os.getpid(), page)

        def run() -> int:
            for fd in (status_in, control_out, *close):
                os.close(fd)
            for other in others:
                other.close()
            pages.keep_only(page)
            return worker.main(job)

        pid = forked("worker", run)
    except OSError:
        for fd in pipes:
            os.close(fd)
        raise
    pages.give(page, pid, slot)
    os.close(status_out)
    os.close(control_in)
    logger.debug("worker %d starts on slot %d", pid, slot)
    return Child(pid, slot, generation, status_in, control_out, page)
