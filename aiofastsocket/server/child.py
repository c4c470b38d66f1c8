"""A worker as its supervisor has it: forked, listened to, and let go."""

import logging
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from ..streams import flush_standard_streams
from ..table.pulse import PulsePage
from . import worker
from .looks import FOREVER
from .signals import ACTED_ON

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
    page: PulsePage
    state: State = State.STARTING
    stuck: bool = False  # its loop has not turned for --timeout-worker
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
        that others hold do not end, and nobody is to write another's pulse."""
        if self.status >= 0:
            os.close(self.status)
        os.close(self.control)
        self.page.close()


def fork(
    setup: worker.Setup,
    slot: int,
    generation: int,
    *,
    pin: bool,
    close: Iterable[int],
    others: Iterable[Child],
) -> Child:
    """Start a worker on a slot. close: descriptors that a worker must not hold; others: the workers
    that there are, of which it is to have nothing.

    Raises OSError if there are no descriptors or no memory for it; then nothing is left.
    """
    pipes: list[int] = []
    page = PulsePage()
    try:
        pipes += os.pipe2(os.O_CLOEXEC)
        pipes += os.pipe2(os.O_CLOEXEC)
        status_in, status_out, control_in, control_out = pipes
        os.set_blocking(status_in, False)
        job = worker.Assignment(setup, slot, pin, status_out, control_in, os.getpid(), page)
        pid = _fork(job, (status_in, control_out, *close), others)
    except OSError:
        page.close()
        for fd in pipes:
            os.close(fd)
        raise
    os.close(status_out)
    os.close(control_in)
    logger.debug("worker %d starts on slot %d", pid, slot)
    return Child(pid, slot, generation, status_in, control_out, page)


def _fork(job: worker.Assignment, close: Iterable[int], others: Iterable[Child]) -> int:
    flush_standard_streams()
    # A signal that comes before the child has its own handlers must not reach ours.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ACTED_ON)
    try:
        pid = os.fork()
        if pid == 0:
            _run(job, close, others)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _run(job: worker.Assignment, close: Iterable[int], others: Iterable[Child]) -> None:
    """In the child: never returns, or it would go on as a second supervisor."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for fd in close:
            os.close(fd)
        for other in others:
            other.close()
        code = worker.main(job)
    except BaseException:
        logger.exception("worker failed")
    finally:
        flush_standard_streams()
        os._exit(code)
