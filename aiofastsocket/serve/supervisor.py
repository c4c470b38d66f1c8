"""The parent of the workers: synchronous, one thread, no event loop, never the target's code.

It holds every slot open for the life of the service, so a slot's queue survives its worker. What
it wants is state (how many workers, of which generation); after each event `_reconcile` starts and
retires workers until that is so.
"""

import logging
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..channel import Channel
from ..listeners import ListenTable
from . import systemd, worker
from .bind import Listener
from .config import Config

logger = logging.getLogger("aiofastsocket")

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)
FAILED_STARTS = 5
QUICK_SECONDS = 3.0  # what a worker gets after INT or QUIT
MARGIN_SECONDS = 2.0  # what it gets over its grace time, before SIGKILL
REVIEW_SECONDS = 1.0
RETRY_SECONDS = 5.0  # the longest pause between starts that fail
FOREVER = float("inf")
LONGEST_WAIT = 3600.0  # poll(2) takes milliseconds in an int


def _flush() -> None:
    """Have nothing in buffers that parent and child would both write."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or on a full disk
            stream.flush()


@dataclass
class Worker:
    """A child process. `stopping`: it was told to, or said so."""

    pid: int
    slot: int
    generation: int
    status: int
    control: int
    ready: bool = False
    stopping: bool = False
    kill_at: float = FOREVER
    told: bytes = b""


@dataclass
class Slot:
    """What the supervisor remembers of a slot beyond its workers."""

    failures: int = 0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Runs until it is told to stop; `run` returns the exit code."""

    config: Config
    channel: Channel
    listeners: list[Listener]
    loop_factory: worker.LoopFactory
    preloaded: Any = None

    _workers: dict[int, Worker] = field(default_factory=dict)
    _slots: list[Slot] = field(default_factory=list)
    _generation: int = 1  # what new workers are
    _serving: int = 0  # the last generation that was complete
    _newest: int = 1
    _exit_code: int | None = None  # not None: stopping
    _quick: bool = False
    _last_complaint: str = ""

    def run(self) -> int:
        self._pid = os.getpid()
        self._wanted = self.config.worker_count
        self._slots = [Slot() for _ in range(self.config.slot_count)]
        self._next_review = time.monotonic() + REVIEW_SECONDS
        wake_in, wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._own_fds = (wake_in, wake_out)
        signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        try:
            while self._exit_code is None or self._workers:
                self._reconcile()
                self._wait(wake_in)
        finally:
            for child in self._workers.values():  # only if something above went wrong
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:  # what is left is cleaning up, and that is not interrupted
                signal.signal(number, signal.SIG_IGN)
            os.close(wake_in)
            os.close(wake_out)
        return self._exit_code if self._exit_code is not None else 1

    @property
    def _tables(self) -> list[ListenTable]:
        return [listener.table for listener in self.listeners]

    # -- what is to be --

    def _reconcile(self) -> None:
        now = time.monotonic()
        for child in self._workers.values():
            if now >= child.kill_at:
                logger.error("worker %d does not stop: killed", child.pid)
                child.kill_at = FOREVER
                os.kill(child.pid, signal.SIGKILL)
        if self._exit_code is not None:
            return
        for number in range(self._wanted):
            if not self._serves(number, self._generation) and self._slots[number].not_before <= now:
                self._start(number)
        for child in list(self._workers.values()):
            if child.slot >= self._wanted:
                self._retire(child)
        if self._generation != self._serving and all(
            any(c.ready for c in self._serves(number, self._generation))
            for number in range(self._wanted)
        ):
            self._complete()
        if now >= self._next_review:
            self._next_review = now + REVIEW_SECONDS
            self._review()

    def _serves(self, slot: int, generation: int) -> list[Worker]:
        return [
            c
            for c in self._workers.values()
            if c.slot == slot and c.generation == generation and not c.stopping
        ]

    def _complete(self) -> None:
        """A whole generation is ready: the one before may go."""
        first = self._serving == 0
        self._serving = self._generation
        for child in list(self._workers.values()):
            if child.generation != self._generation:
                self._retire(child)
        if first:
            logger.info("%s", self._start_line())
            systemd.notify("READY=1")
        else:
            logger.info("reloaded: %d new workers serve", self._wanted)

    def _start_line(self) -> str:
        scheme = "TLS " if self.config.ssl_certfile else ""
        addresses = ", ".join(listener.address for listener in self.listeners)
        table = self._tables[0]
        cores = sorted({table.slot(number).cpu for number in range(self._wanted)})
        pinned = "pinned to" if self._pinned() else "for"
        what = self.config.target or "the built-in demo"
        many = "worker" if self._wanted == 1 else "workers"
        line = (
            f"serving {what} on {scheme}{addresses}: {self._wanted} {many} {pinned} "
            f"cores {', '.join(map(str, cores))}; "
            f"backend {self.channel.backend} ({self.channel.why}); "
        )
        ways = dict.fromkeys(self._steering(listener) for listener in self.listeners)
        return line + f"steering {'; '.join(ways)}; loop {self.config.loop}"

    def _steering(self, listener: Listener) -> str:
        info = listener.table.info()
        if not info.shared:
            return f"{info.steer} ({info.why})"
        if listener.foreign:
            return f"shared at {listener.address} (somebody else listens on this socket)"
        if self.channel.backend == "reuseport":
            return f"shared at {listener.address} ({info.why})"
        return f"by the {self.channel.backend} backend"

    def _pinned(self) -> bool:
        if self.config.pin != "auto":
            return self.config.pin == "on"
        return any(not t.info().shared and t.info().steer == "cpu" for t in self._tables)

    def _review(self) -> None:
        for listener in self.listeners:
            if listener.table.review():
                logger.warning("%s: steering is now %s", listener.address, self._steering(listener))
                if not self._pinned():
                    for child in self._workers.values():
                        with suppress(ProcessLookupError):
                            os.sched_setaffinity(child.pid, os.sched_getaffinity(0))

    # -- workers --

    def _start(self, slot: int) -> None:
        """Fork a worker. Without descriptors or memory for it, the others serve on meanwhile."""
        pipes: list[int] = []
        try:
            pipes += os.pipe2(os.O_CLOEXEC)
            pipes += os.pipe2(os.O_CLOEXEC)
            self._fork(slot, *pipes)
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            self._failed_start(slot, self._generation, "setup", f"fork: {error}")

    def _fork(
        self, slot: int, status_in: int, status_out: int, control_in: int, control_out: int
    ) -> None:
        os.set_blocking(status_in, False)
        os.set_blocking(control_out, False)
        job = worker.Assignment(
            self.config,
            self.channel,
            self.listeners,
            self.loop_factory,
            slot,
            self._pinned(),
            self.preloaded,
            status_out,
            control_in,
            self._pid,
        )
        _flush()
        # A signal that comes before the child has its own handlers must not reach ours.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        if pid == 0:
            code = 1
            try:
                signal.set_wakeup_fd(-1)
                # What others' ends of pipes a worker holds, it keeps from ending.
                others = [fd for c in self._workers.values() for fd in (c.status, c.control)]
                for fd in (status_in, control_out, *self._own_fds, *others):
                    if fd >= 0:
                        os.close(fd)
                code = worker.main(job)
            except BaseException:
                logger.exception("worker failed")
            finally:
                _flush()
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(status_out)
        os.close(control_in)
        self._workers[pid] = Worker(pid, slot, self._generation, status_in, control_out)
        logger.debug("worker %d starts on slot %d", pid, slot)

    def _retire(self, child: Worker) -> None:
        """Let it finish: away from new connections, unless its slot has a successor."""
        if child.stopping:
            return
        child.stopping = True
        child.kill_at = self._deadline()
        if not self._successor(child):
            for table in self._tables:
                table.activate(child.slot, False)
        os.kill(child.pid, signal.SIGTERM)

    def _deadline(self) -> float:
        """When a worker that is told to stop now has had its grace time."""
        grace = QUICK_SECONDS if self._quick else self.config.timeout_graceful_shutdown
        return time.monotonic() + grace + MARGIN_SECONDS

    def _successor(self, child: Worker) -> bool:
        return any(
            c.slot == child.slot and c.ready and not c.stopping and c is not child
            for c in self._workers.values()
        )

    def _put_in_charge(self, child: Worker) -> None:
        for table in self._tables:
            with suppress(ProcessLookupError):  # it died already; its exit will be noticed
                table.hand_over(child.slot, child.pid)
                table.activate(child.slot, True)
        self._nudge()

    def _nudge(self) -> None:
        """Have the workers look at the claims again."""
        for child in self._workers.values():
            with suppress(BlockingIOError, BrokenPipeError):  # full: it has been told already
                os.write(child.control, b"!")

    # -- events --

    def _wait(self, wake_in: int) -> None:
        poller = select.poll()
        poller.register(wake_in, select.POLLIN)
        by_fd = {child.status: child for child in self._workers.values()}
        for fd, child in by_fd.items():
            if child.status >= 0:
                poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(self._timeout()):
            if fd == wake_in:
                with suppress(BlockingIOError):
                    for number in os.read(wake_in, 65536):
                        self._signalled(signal.Signals(number))
            else:
                self._heard(by_fd[fd])
        # A killed worker's pipe ends before SIGCHLD comes, or after: look at both.
        self._reap()

    def _timeout(self) -> float | None:
        """Milliseconds until there is something to do unasked."""
        now = time.monotonic()
        due = [child.kill_at for child in self._workers.values()]
        if self._exit_code is None:
            due += [s.not_before for s in self._slots[: self._wanted] if s.not_before > now]
            if any(t.info().wanted == "auto" and t.info().steer == "cpu" for t in self._tables):
                due.append(self._next_review)
        first = min(due, default=FOREVER)
        return None if first == FOREVER else min(max(0.0, first - now), LONGEST_WAIT) * 1000 + 1

    def _signalled(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._stop(0, quick=number != signal.SIGTERM)
        elif self._exit_code is not None:
            return
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGTTIN:
            if self._wanted == len(self._slots):
                logger.warning("TTIN: all %d slots have a worker (--slots)", len(self._slots))
            else:
                self._wanted += 1
                self._slots[self._wanted - 1] = Slot()
        elif number == signal.SIGTTOU:
            if self._wanted == 1:
                logger.warning("TTOU: one worker is left, it stays")
            else:
                self._wanted -= 1
        else:
            return
        # One signal, one step: two of them must not cancel out unseen.
        self._reconcile()

    def _reload(self) -> None:
        if self.preloaded is not None:
            logger.warning("HUP: new workers, but the code is not reloaded (--preload)")
        else:
            logger.info("HUP: starting new workers")
        for table in self._tables:
            table.steer(self.config.steer)
        self._fall_back()
        self._newest += 1
        self._generation = self._newest
        for slot in self._slots:
            slot.failures, slot.not_before = 0, 0.0

    def _heard(self, child: Worker) -> None:
        if child.status < 0:
            return
        try:
            more = os.read(child.status, 65536)
        except BlockingIOError:
            return
        if not more:
            os.close(child.status)
            child.status = -1
            return
        child.told += more
        if not child.ready and child.told.startswith(b"ready\n"):
            child.ready = True
            self._slots[child.slot] = Slot()
            if self._exit_code is not None:
                self._end(child)  # it started into a stop: it answers what waits, and ends
            elif not child.stopping:
                self._put_in_charge(child)
        if child.ready and child.told.endswith(b"stopping\n"):
            child.stopping = True
            child.kill_at = min(child.kill_at, self._deadline())
            self._nudge()  # its slot may be nobody's now

    def _reap(self) -> None:
        for child in list(self._workers.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._workers[pid]
                self._heard(child)  # all it wrote is there, and fits one read
                self._gone(child, os.waitstatus_to_exitcode(status))

    def _gone(self, child: Worker, code: int) -> None:
        if child.status >= 0:
            os.close(child.status)
        os.close(child.control)
        for table in self._tables:
            table.reap()
        self._nudge()
        if self._exit_code is not None or child.stopping:
            logger.debug("worker %d stopped", child.pid)
        elif child.ready:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            logger.warning("worker %d (slot %d) %s: replaced", child.pid, child.slot, how)
        else:
            kind, _, text = child.told.decode(errors="replace").partition("\n")
            if not text:
                kind = "setup"
                text = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            self._failed_start(child.slot, child.generation, kind, text)

    def _failed_start(self, number: int, generation: int, kind: str, text: str) -> None:
        if text != self._last_complaint:
            self._last_complaint = text
            logger.error("worker cannot start: %s", text.rstrip())
        slot = self._slots[number]
        slot.failures += 1
        pause = min(0.1 * 2 ** min(slot.failures, 10), RETRY_SECONDS)
        if self._serving == 0:
            if kind == "usage":
                self._stop(2, quick=True)
            elif slot.failures >= FAILED_STARTS:
                logger.error("%d starts failed and none succeeded: giving up", slot.failures)
                self._stop(1, quick=True)
        elif generation == self._generation != self._serving:
            self._abort_reload()
        else:
            slot.not_before = time.monotonic() + pause

    def _abort_reload(self) -> None:
        logger.error("reload given up: the old workers go on serving")
        self._generation = self._serving
        self._fall_back()

    def _fall_back(self) -> None:
        """Put the generation that serves in charge of every slot, and retire any newer one."""
        for child in self._workers.values():
            if child.generation == self._serving and child.ready and not child.stopping:
                self._put_in_charge(child)
        for child in self._workers.values():
            if child.generation != self._serving:
                self._retire(child)

    def _stop(self, code: int, *, quick: bool) -> None:
        if self._exit_code is None:
            systemd.notify("STOPPING=1")
            if code == 0:
                logger.info("stopping%s", " at once" if quick else "")
        elif not quick:
            return  # TERM again changes nothing, INT or QUIT make haste
        self._exit_code = code if self._exit_code is None else self._exit_code
        self._quick = quick
        for listener in self.listeners:
            # Somebody else's socket is not ours to end; its queue is the next server's.
            if not listener.foreign:
                try:
                    listener.unlink()
                    listener.table.stop_arrivals()
                except OSError as error:
                    logger.warning("%s: %s", listener.address, error)
        served = {child.slot for child in self._workers.values() if child.ready}
        for child in self._workers.values():
            child.stopping = True
            child.kill_at = self._deadline()
            # One that still starts, alone on its slot, has its queue to answer first.
            if child.ready or quick or child.slot in served or self._serving == 0:
                self._end(child)

    def _end(self, child: Worker) -> None:
        os.kill(child.pid, signal.SIGQUIT if self._quick and child.ready else signal.SIGTERM)
