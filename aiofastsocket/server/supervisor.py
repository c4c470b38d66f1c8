"""The parent of the workers: synchronous, one thread, no event loop. It runs none of the target's
code.

It holds every slot open for the life of the service, so a slot's queue survives its worker. The
wanted state is a number of workers of one generation. After each event `_reconcile` starts and
retires workers until this state is reached.
"""

import logging
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ..proc import children
from ..table.table import ListenTable
from . import hooks, systemd, worn
from .child import Child, State, fork
from .forked import how_it_ended
from .late import Late
from .logs import reopen
from .looks import FOREVER, Look
from .pages import Pages, Told
from .signals import ACTED_ON, UNHEEDED, name_of
from .summary import start_line
from .tables import Tables
from .worker import CUT_SHORT, QUICK_SECONDS, REOPEN, UNHEALTHY, Setup

if TYPE_CHECKING:
    from .metrics.process import MetricsProcess

logger = logging.getLogger("aiofastsocket")

FAILED_STARTS = 5
PAGES_BESIDE = 64
MARGIN_SECONDS = 2.0  # time for a worker beyond its grace time, before SIGKILL
REVIEW_SECONDS = 1.0
LATE_SECONDS = 2.0  # between two looks for workers that could not keep up
JOINED_SECONDS = 10.0  # between two looks for other processes that listen at our addresses
NOTICE_SECONDS = 10.0  # between two messages to a service manager that has no watchdog
MOMENT_SECONDS = 0.3  # between the TERM of a worker and that of the supervisor, if both get one
RETRY_SECONDS = 5.0  # the longest pause between failed starts
LONGEST_WAIT = 3600.0  # poll(2) takes milliseconds in an int


@dataclass
class Slot:
    """The supervisor's record of a slot, in addition to its workers."""

    failures: int = 0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Runs until it is told to stop; `run` returns the exit code. metrics: makes the metrics
    process, given the pages of all workers."""

    setup: Setup
    metrics: "Callable[[Pages], MetricsProcess] | None" = None

    _metrics: "MetricsProcess | None" = None
    _workers: dict[int, Child] = field(default_factory=dict)
    _slots: list[Slot] = field(default_factory=list)
    _generation: int = 1  # of new workers
    _serving: int = 0  # the last complete generation
    _base: int = 0  # to fall back on: the last complete one, else the first with a ready worker
    _newest: int = 1
    _hooked: set[int] = field(default_factory=set)  # children that call a hook
    _stop_at: float = FOREVER  # time.monotonic
    _exit_code: int | None = None  # not None: stopping
    _quick: bool = False
    _last_complaint: str = ""
    _before: frozenset[int] = frozenset()  # children from before `run`, which are not ours

    def __post_init__(self) -> None:
        self._tables = Tables(self.setup)
        # Generations may overlap, and workers take their time to end.
        self._pages = Pages(PAGES_BESIDE + 4 * self.setup.config.slot_count)

    def run(self) -> int:
        self._wanted = self.setup.config.worker_count
        self._slots = [Slot() for _ in range(self.setup.config.slot_count)]
        self._watchdog = systemd.watchdog_seconds()
        self._late = Late(self._tables, self._workers)
        self._begin_looks()
        self._before = frozenset(children(os.getpid()))
        wake_in, wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._own_fds = [wake_in, wake_out]
        if self.metrics is not None:
            self._metrics = self.metrics(self._pages)
            self._own_fds.append(self._metrics.fd)
        signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        for number in ACTED_ON:
            signal.signal(number, lambda *_: None)
        try:
            while self._exit_code is None or self._workers:
                self._reconcile()
                self._wait(wake_in)
                self._tables.tell_restored()
        finally:
            for child in self._workers.values():  # only if something above went wrong
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
            if self._metrics is not None:
                self._metrics.end()
            for pid in self._hooked:
                with suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            self._pages.close()
            signal.set_wakeup_fd(-1)
            for number in ACTED_ON:  # only the cleanup is left, without interruption
                signal.signal(number, signal.SIG_IGN)
            os.close(wake_in)
            os.close(wake_out)
        return self._exit_code if self._exit_code is not None else 1

    # -- the wanted state --

    def _reconcile(self) -> None:
        now = time.monotonic()
        for child in self._workers.values():
            if now >= child.kill_at:
                busy = child.page.busy_seconds()
                why = f" (it has been held up for {busy:.0f} s)" if busy >= 1 else ""
                logger.error("worker %d does not stop%s: killed", child.pid, why)
                child.kill_at = FOREVER
                os.kill(child.pid, signal.SIGKILL)
        if now >= self._stop_at:
            self._stop_at = FOREVER
            self._stop(0, quick=False)
        if self._exit_code is not None:
            return
        for number in range(self._wanted):
            if not self._serves(number, self._generation) and self._slots[number].not_before <= now:
                self._start(number)
        for child in list(self._workers.values()):
            if child.slot >= self._wanted:
                self._retire(child)
        if self._generation != self._serving and all(
            self._is_served(number) for number in range(self._wanted)
        ):
            self._complete()
        for look in self._looks:
            look.look(now)
        self._tell()

    def _tell(self) -> None:
        """Publish the current values for metrics."""
        if self._metrics is None:
            return
        self._pages.tell(Told.WANTED, self._wanted)
        certificates = self.setup.certificates
        self._pages.tell(Told.CERTIFICATE_ENDS, 0 if certificates is None else certificates.ends())
        others = [fd for fd in self._own_fds if fd != self._metrics.fd]
        self._metrics.start(others, self._workers.values())

    def _begin_looks(self) -> None:
        config = self.setup.config
        told = NOTICE_SECONDS if self._watchdog is None else self._watchdog / 2
        replaced = self._workers.values(), config, self._pages
        limit, tls = config.timeout_worker, config.tls.ssl_reload
        self._reviews = Look(REVIEW_SECONDS, lambda: self._tables.review(self._workers))
        self._looks = [
            self._reviews,
            Look(JOINED_SECONDS, self._tables.tell_joined),
            Look(LATE_SECONDS, self._late.tell),
            Look(told if "NOTIFY_SOCKET" in os.environ else FOREVER, self._notice),
            Look(FOREVER if limit is None else limit / 4, partial(worn.replace_stuck, *replaced)),
            Look(worn.seconds_between_looks(config), partial(worn.replace_worn, *replaced)),
            Look(FOREVER if tls is None else tls, self._look_at_certificates),
        ]
        for look in self._looks:
            look.begin(time.monotonic())

    def _look_at_certificates(self) -> None:
        """Replace the workers if the certificate files are different, or have different content."""
        certificates = self.setup.certificates
        if certificates is not None and certificates.changed() and certificates.renew():
            logger.info("certificates have changed")
            self._renew()

    def _notice(self) -> None:
        """Send the state to the service manager, with WATCHDOG=1 unless every worker hangs."""
        serving = [child for child in self._workers.values() if child.serves]
        held = sum(s.open or 0 for table in self._tables for s in table.slots())
        states = [f"STATUS={len(serving)} workers serve, {held} connections"]
        if self._watchdog is not None:
            hangs = [child.page.busy_seconds() > self._watchdog for child in serving]
            if hangs and all(hangs):
                logger.error("every worker has been held up for %g s", self._watchdog)
            else:
                states.append("WATCHDOG=1")
        systemd.notify(*states)

    def _serves(self, slot: int, generation: int) -> list[Child]:
        return [
            c
            for c in self._workers.values()
            if (c.slot, c.generation) == (slot, generation)
            and c.state in (State.STARTING, State.SERVING)
        ]

    def _is_served(self, slot: int) -> bool:
        """Whether a worker of the present generation serves the slot, even one that leaves."""
        return any(
            (c.slot, c.generation) == (slot, self._generation) and c.serves
            for c in self._workers.values()
        )

    def _complete(self) -> None:
        """A whole generation is ready: retire the previous one."""
        first = self._serving == 0
        self._serving = self._base = self._generation
        for child in list(self._workers.values()):
            if child.generation != self._generation:
                self._retire(child)
        if first:
            logger.info("%s", start_line(self.setup, self._wanted, pinned=self._tables.pinned()))
            systemd.notify("READY=1")
        else:
            systemd.notify("READY=1")
            serve = "worker serves" if self._wanted == 1 else "workers serve"
            self._pages.count(Told.RELOADS)
            logger.info("reloaded: %d new %s", self._wanted, serve)

    # -- workers --

    def _start(self, slot: int) -> None:
        if self._exit_code is not None:  # the start on the previous slot ended the service
            return
        try:
            child = fork(
                self.setup,
                slot,
                self._generation,
                pages=self._pages,
                pin=self._tables.pinned(),
                close=self._own_fds,
                others=self._workers.values(),
            )
        except OSError as error:  # the other workers continue to serve
            self._failed_start(slot, self._generation, "setup", f"fork: {error}")
        else:
            self._workers[child.pid] = child
            if self._stop_at != FOREVER:
                child.tell(UNHEALTHY)

    def _retire(self, child: Child) -> None:
        """Let a worker finish, without new connections for its slot unless that has a successor."""
        if child.stopping:
            return
        child.begin_stopping()
        child.kill_at = self._deadline()
        if not self._successor(child):
            self._tables.each(lambda table: table.activate(child.slot, False))
        child.end(quick=False)

    def _deadline(self) -> float:
        """The time when a worker that is told to stop now has used all its time."""
        config = self.setup.config
        grace = config.timeout_graceful_shutdown + config.http.timeout_disconnect
        grace += config.timeout_lifespan_shutdown
        return time.monotonic() + (QUICK_SECONDS if self._quick else grace) + MARGIN_SECONDS

    def _successor(self, child: Child) -> bool:
        return any(
            c.slot == child.slot and c.serves and c is not child for c in self._workers.values()
        )

    def _overtaken(self, child: Child) -> bool:
        """Whether a newer generation serves the slot of this worker already, because the worker
        replaced a dead one and a reload came."""
        return any(
            c.slot == child.slot and c.serves and c.generation > child.generation
            for c in self._workers.values()
        )

    def _relieve(self, child: Child) -> None:
        """Retire the worker that waits to leave this worker's slot. A worker of another generation
        may still be needed."""
        for other in self._workers.values():
            same = (other.slot, other.generation) == (child.slot, child.generation)
            if same and other.state is State.LEAVING:
                limit = self.setup.config.timeout_worker
                still = limit is not None and other.page.busy_seconds() >= limit
                self._retire(other)
                if other.stuck and still:  # it would not react to the signal
                    other.kill_at = time.monotonic()

    def _put_in_charge(self, child: Child) -> None:
        def put(table: ListenTable) -> None:
            with suppress(ProcessLookupError):  # it is dead; its exit will be noticed
                table.hand_over(child.slot, child.pid)
                table.activate(child.slot, True)

        self._tables.each(put)

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
                        self._signalled(number)
            else:
                self._heard(by_fd[fd])
        # A killed worker's pipe ends before SIGCHLD comes, or after: check both.
        self._reap()

    def _timeout(self) -> float | None:
        """Milliseconds until there is something to do without an event."""
        now = time.monotonic()
        due = [child.kill_at for child in self._workers.values()]
        if self._exit_code is None:
            due += [look.due for look in self._looks if look is not self._reviews]
            if self._metrics is not None:
                due.append(self._metrics.due)
            due.append(self._stop_at)
            due += [s.not_before for s in self._slots[: self._wanted] if s.not_before > now]
            if self._tables.are_reviewed():
                due.append(self._reviews.due)
        first = min(due, default=FOREVER)
        return None if first == FOREVER else min(max(0.0, first - now), LONGEST_WAIT) * 1000 + 1

    def _signalled(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            delay = self.setup.config.drain_delay
            if number == signal.SIGTERM and delay and self._serving and self._exit_code is None:
                self._stop_later(delay)
            else:
                self._stop(0, quick=number != signal.SIGTERM)
        elif (number == signal.SIGUSR1 and self._reopen()) or self._exit_code is not None:
            return
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGTTIN:
            if self._wanted == len(self._slots):
                logger.warning("TTIN: all %d slots have a worker (--slots)", len(self._slots))
            else:
                self._wanted += 1
                self._slots[self._wanted - 1] = Slot()
                logger.info("TTIN: %d workers", self._wanted)
        elif number == signal.SIGTTOU:
            if self._wanted == 1:
                logger.warning("TTOU: only one worker is left, it stays")
            else:
                self._wanted -= 1
                logger.info("TTOU: %d workers", self._wanted)
        else:
            if number in UNHEEDED:
                logger.info("%s ignored: the service continues", name_of(number))
            return
        # One signal, one step: two signals must not cancel each other out unseen.
        self._reconcile()

    def _reopen(self) -> bool:
        """Reopen the log files in all processes; return whether there are any."""
        if not reopen(tells=True):
            return False
        for child in self._workers.values():
            child.tell(REOPEN)
        if self._metrics is not None:
            self._metrics.reopen()
        return True

    def _stop_later(self, delay: float) -> None:
        """Stop after a delay, so that load balancers notice it first."""
        if self._stop_at != FOREVER:
            return
        systemd.notify("STOPPING=1")
        logger.info("TERM: serving for another %g s (--drain-delay); health checks get 503", delay)
        self._stop_at = time.monotonic() + delay
        for child in self._workers.values():
            child.tell(UNHEALTHY)

    def _reload(self) -> None:
        if self.setup.preloaded is not None:
            why = "--preload" if self.setup.config.preload else "given as an object, not by name"
            logger.warning("HUP: starting new workers, but the code is not reloaded (%s)", why)
        else:
            logger.info("HUP: starting new workers")
        if self.setup.config.hooks is not None:
            self._call_hook("on_reload")
        if self.setup.certificates is not None:
            self.setup.certificates.renew()
        self._renew()

    def _let_go(self) -> None:
        """In a child that is not a worker: close the supervisor's descriptors and pages."""
        for fd in self._own_fds:
            os.close(fd)
        for child in self._workers.values():
            child.close()
        for listener in self.setup.listeners:
            listener.let_go()
        self._pages.close()

    def _call_hook(self, name: str) -> None:
        """Call a hook in a child of its own, without waiting for it."""
        try:
            self._hooked.add(hooks.call_apart(self.setup.config, name, self._let_go))
        except OSError as error:
            logger.error("the hook %s is not called: %s", name, error)

    def _renew(self) -> None:
        """Start a new generation."""
        if self._serving:
            systemd.notify(systemd.reloading())
        self._tables.each(lambda table: table.steer(self.setup.config.steer))
        self._fall_back()
        self._last_complaint = ""
        self._newest += 1
        self._generation = self._newest
        for slot in self._slots:
            slot.failures, slot.not_before = 0, 0.0

    def _heard(self, child: Child) -> None:
        child.hear()
        if child.complains():  # it can only end now
            child.kill_at = min(child.kill_at, time.monotonic() + MARGIN_SECONDS)
        if not child.ready and child.said(b"ready"):
            child.begin_serving()
            if child.serves:
                self._base = self._base or child.generation
            self._slots[child.slot] = Slot()
            if self._exit_code is not None:
                # It started during a stop: it answers waiting clients, and ends.
                child.end(quick=self._quick)
            elif not child.stopping:
                if not self._overtaken(child):
                    self._put_in_charge(child)
                self._relieve(child)
        if child.state is State.SERVING and child.said(b"enough"):
            child.state = State.LEAVING
            self._pages.count(Told.REQUESTS)
            logger.info(
                "worker %d (slot %d) reached --limit-max-requests; starting its successor",
                child.pid,
                child.slot,
            )
        if State.SERVING <= child.state < State.DRAINED and child.said(b"stopping"):
            if child.serves:
                logger.info("worker %d (slot %d) stops: replaced", child.pid, child.slot)
                # Perhaps the whole process group was told to stop, and our signal comes next.
                self._slots[child.slot].not_before = time.monotonic() + MOMENT_SECONDS
            child.state = State.DRAINED
            child.kill_at = min(child.kill_at, self._deadline())
            self._shut_down()

    def _reap(self) -> None:
        for child in list(self._workers.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._workers[pid]
                child.reaped = True
                self._heard(child)  # all its messages are in the pipe, and fit one read
                self._gone(child, os.waitstatus_to_exitcode(status))
        if self._metrics is not None:
            self._metrics.reap()
        for hook in list(self._hooked):
            pid, status = os.waitpid(hook, os.WNOHANG)
            if pid:
                self._hooked.discard(pid)
                hooks.ended("on_reload", status)
        if os.getpid() == 1:
            self._reap_orphans()

    @property
    def _metrics_pid(self) -> int:
        return 0 if self._metrics is None else self._metrics.pid

    def _reap_orphans(self) -> None:
        """As PID 1, for example of a container, wait for processes whose parents have ended. The
        exceptions are processes from before `run`: the code that started them waits for them."""
        if os.readlink("/proc/self") != "1":  # /proc is that of another namespace
            return
        for pid in (
            set(children(1))
            - self._workers.keys()
            - self._hooked
            - {self._metrics_pid}
            - self._before
        ):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _gone(self, child: Child, code: int) -> None:
        child.close()
        self._pages.take_back(child.page)
        self._tables.each(ListenTable.reap)
        if self._exit_code is not None or child.stopping:
            logger.debug("worker %d stopped", child.pid)
            if self._exit_code == 0 and code == CUT_SHORT:
                self._exit_code = 1
            self._shut_down()
        elif child.ready:
            self._pages.count(Told.CRASHES)
            how = how_it_ended(code)
            logger.warning("worker %d (slot %d) %s: replaced", child.pid, child.slot, how)
        else:
            self._failed_start(child.slot, child.generation, *child.complaint(code))

    def _failed_start(self, number: int, generation: int, kind: str, text: str) -> None:
        if text != self._last_complaint:
            self._last_complaint = text
            logger.error("worker cannot start: %s", text.rstrip())
        self._pages.count(Told.FAILED_STARTS)
        slot = self._slots[number]
        slot.failures += 1
        pause = min(0.1 * 2 ** min(slot.failures, 10), RETRY_SECONDS)
        nobody_yet = self._serving == 0 and not any(c.serves for c in self._workers.values())
        if nobody_yet and self.setup.config.reload:
            wait = kind in ("usage", "trace")  # until a file changes
            slot.not_before = FOREVER if wait else time.monotonic() + pause
        elif nobody_yet:
            if kind == "usage":
                self._stop(2, quick=True)
            elif slot.failures >= FAILED_STARTS:
                logger.error("%d starts failed and none succeeded: giving up", slot.failures)
                self._stop(1, quick=True)
        elif generation == self._generation != self._base and any(
            c.generation == self._base and c.serves for c in self._workers.values()
        ):
            self._abort_reload()
        else:
            slot.not_before = time.monotonic() + pause

    def _abort_reload(self) -> None:
        logger.error("reload failed: the old workers continue to serve")
        if self._serving:
            systemd.notify("READY=1")
        self._generation = self._base
        self._fall_back()

    def _fall_back(self) -> None:
        """Put the generation that serves in charge of every slot, and retire any newer one."""
        for child in self._workers.values():
            if child.generation == self._base and child.serves:
                self._put_in_charge(child)
        for child in self._workers.values():
            if child.generation != self._base:
                self._retire(child)

    def _shut_down(self) -> None:
        """At a full stop, when all queues are empty: refuse new connections, and free the port."""
        if self._exit_code is None or not all(
            c.state is State.DRAINED for c in self._workers.values()
        ):
            return
        self._tables.shut_down()

    def _stop(self, code: int, *, quick: bool) -> None:
        if self._exit_code is None:
            systemd.notify("STOPPING=1")
            if code == 0:
                logger.info("stopping%s", " at once" if quick else "")
        elif not quick:
            return  # another TERM changes nothing; INT or QUIT hurry
        self._exit_code = code if self._exit_code is None else self._exit_code
        self._quick = quick
        self._tables.stop_arrivals()
        served = {child.slot for child in self._workers.values() if child.ready}
        for child in self._workers.values():
            child.begin_stopping()
            child.kill_at = self._deadline()
            # A worker that is still starting, alone on its slot, must answer its queue first.
            if child.ready or quick or child.slot in served or self._serving == 0:
                child.end(quick=self._quick)
