"""A worker as its supervisor sees it: its fork, its messages, and its end."""

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
    """The state of a worker, as its supervisor knows it.

    STARTING -> SERVING -> LEAVING -> STOPPING -> DRAINED
    STARTING -> CANCELLED -> STOPPING
    """

    STARTING = 0
    CANCELLED = 1  # told to stop before it was ready
    SERVING = 2
    LEAVING = 3  # it serves until a successor does
    STOPPING = 4  # it was told to stop, or said that it stops
    DRAINED = 5  # it accepts no more connections


@dataclass
class Child:
    """A worker process and the supervisor's ends of its pipes."""

    pid: int
    slot: int
    generation: int
    status: int  # -1 once the pipe has ended
    control: int
    page: WorkerPage
    state: State = State.STARTING
    stuck: bool = False  # its loop has not turned for --timeout-worker
    began: float = FOREVER  # time.monotonic: when it became ready
    reaped: bool = False  # its process id may be another process's
    kill_at: float = FOREVER  # time.monotonic
    told: bytes = b""

    @property
    def ready(self) -> bool:
        """Whether the worker has been ready at some time."""
        return self.state >= State.SERVING

    @property
    def serves(self) -> bool:
        """Whether the worker is ready and was not told to stop."""
        return self.state in (State.SERVING, State.LEAVING)

    @property
    def stopping(self) -> bool:
        """Whether the worker must end, or is about to."""
        return self.state is State.CANCELLED or self.state >= State.STOPPING

    def begin_serving(self) -> None:
        """Note that the worker is ready."""
        self.began = time.monotonic()
        cancelled = self.state is State.CANCELLED
        self.state = State.STOPPING if cancelled else State.SERVING

    def begin_stopping(self) -> None:
        """Note that the worker was told to stop; another call changes nothing."""
        if not self.stopping:
            self.state = State.STOPPING if self.ready else State.CANCELLED

    def hear(self) -> None:
        """Add the worker's messages since the last time to `told`."""
        if self.status < 0:
            return
        with suppress(BlockingIOError):
            more = os.read(self.status, 65536)
            self.told += more
            if not more or len(self.told) > MOST_TOLD:  # no valid message is as long
                os.close(self.status)
                self.status = -1

    def said(self, line: bytes) -> bool:
        """Whether the worker has sent this line, in any order: "enough" may come before "ready".
        The text of a complaint does not count."""
        *lines, _ = self.told.split(b"\n")
        return line in lines and lines[0] not in COMPLAINTS

    def complains(self) -> bool:
        """Whether the worker has said why it cannot start."""
        return not self.ready and self.told.split(b"\n", 1)[0] in COMPLAINTS

    def tell(self, word: bytes) -> None:
        """Send a message through the worker's pipe. If the pipe is full, because the worker does
        not read, the message is dropped."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.control, word)

    def end(self, *, quick: bool) -> None:
        """Tell the worker to stop. Before it has signal handlers, it just ends."""
        if not self.reaped:
            os.kill(self.pid, signal.SIGQUIT if quick and self.ready else signal.SIGTERM)

    def complaint(self, code: int) -> tuple[str, str]:
        """The reason why the worker could not start, given its exit code: the kind ("usage",
        "setup", "trace") and the text."""
        kind, _, text = self.told.decode(errors="replace").partition("\n")
        if text:
            return kind, text
        return "setup", f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"

    def close(self) -> None:
        """Close the pipes of a worker that is gone, or, in a new worker, those of another worker: a
        pipe does not end while another process holds it."""
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
    """Start a worker on a slot. close: descriptors that a worker must not hold; others: the
    existing workers, whose pipes it must not hold.

    Raises OSError if there are no descriptors or no memory for it; then nothing is left open.
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
