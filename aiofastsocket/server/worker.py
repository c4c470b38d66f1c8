"""One worker process: from the fork to its exit code.

The worker reports to its supervisor through a pipe, one line per message: "ready", "enough" when it
wants a successor, and "stopping". If it cannot start, it sends the kind of error ("usage", "setup"
or "trace") and the text. Another pipe brings REOPEN and UNHEALTHY from the supervisor, one byte
each, and ends when the supervisor is gone.
"""

import asyncio
import atexit
import errno
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from .._native.proxy import Proxied
from ..channel import Channel
from ..errors import SetupError, UsageError
from ..loop.acceptor import Acceptor
from ..loop.transport import Connections, connections_of, over_tls
from ..streams import flush_standard_streams
from ..table.open import spawn
from ..table.part import LocalListener
from ..table.view import GLOBAL
from . import stuck, target
from .bind import Listener
from .certificates import Certificates
from .config import Config
from .hooks import Hooks
from .hooks import Worker as Hooked
from .http.proxies import Proxies
from .logs import reopen, standard_error_fd
from .pages import WorkerPage
from .privileges import drop
from .program import Program, program
from .signals import UNHEEDED, name_of, nothing
from .systemd import VARIABLES

logger = logging.getLogger("aiofastsocket")

REOPEN = b"r"  # reopen the log files, which have been renamed
UNHEALTHY = b"u"  # the service stops soon

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

POLL_SECONDS = 0.02
PROXY_SECONDS = 5.0  # time for a proxy to send its header of the PROXY protocol
RETURN_SECONDS = 5.0  # the longest time over which clients that reconnect are disconnected
STARTING_SECONDS = 3.0  # time after TERM for an application that is still starting
QUICK_SECONDS = 3.0  # time for the worker after QUIT, with its application's shutdown
CUT_SHORT = 3
"""Exit code: the application did not end in time."""
# Used if the kernel does not report handshakes in progress: its first SYN|ACK retransmission comes
# after one second, and then a client that connected under deferred accept is handed over.
UNTOLD_HANDSHAKE_SECONDS = 1.2


@dataclass(frozen=True)
class Setup:
    """The state that is set up before the first worker, and that all workers have."""

    config: Config
    channel: Channel
    listeners: list[Listener]
    loop_factory: LoopFactory
    certificates: Certificates | None = None  # the supervisor rereads the files
    preloaded: Any = None  # the target, if the supervisor imported it or was given it


@dataclass(frozen=True)
class Assignment:
    """The data that the supervisor gives a new worker."""

    setup: Setup
    slot: int
    pin: bool
    status: int  # descriptor: messages to the supervisor
    control: int  # descriptor: messages from the supervisor
    supervisor: int  # pid
    page: WorkerPage  # where the supervisor sees whether our loop turns


def main(job: Assignment) -> int:
    """Run the worker in this forked process; returns its exit code."""
    try:
        _settle(job)
        if job.setup.config.timeout_worker is not None:
            stuck.show_stacks_when_asked(standard_error_fd())
        drop(job.setup.config, job.supervisor)
        hooks = Hooks(job.setup.config)
        hooks.call("post_fork", Hooked(job.slot, os.getpid()))
        for listener in job.setup.listeners:
            _claim(job, listener)
        served = _program(job)
        runner = _runner(job)
    except UsageError as error:
        return _failed(job, "usage", str(error))
    except (SetupError, OSError) as error:
        return _failed(job, "setup", str(error))
    except BaseException as error:
        return _failed(job, "trace", _trace(error))
    worker = _Worker(job, served, hooks)
    with runner:
        code = runner.run(worker.run())
        if worker.abandons:
            # asyncio would wait for the application's tasks and threads, maybe forever.
            flush_standard_streams()
            os._exit(code)
    hooks.call("worker_exit", Hooked(job.slot, os.getpid()))
    atexit._run_exitfuncs()  # the program's functions, as at the end of any process
    return code


def _runner(job: Assignment) -> asyncio.Runner:
    """A runner with its loop. The loop is created here, where a failure can be reported."""
    runner, name = asyncio.Runner(loop_factory=job.setup.loop_factory), job.setup.config.loop
    try:
        runner.get_loop()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        # libuv needs eventfd(2), asyncio does not.
        another = "" if name == "asyncio" else "; try --loop asyncio"
        raise SetupError(
            f"--loop {name}: the event loop cannot be created: {error.strerror}{another}"
        ) from None
    return runner


def _trace(error: BaseException) -> str:
    """The traceback as Python shows it, but without the frames before the program's own."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and _is_ours(frames.tb_frame):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    if not os.access(os.__file__, os.R_OK):  # another user may lack permission
        text += f"(this user has no permission to read {os.path.dirname(os.__file__)})"
    return text


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in ("aiofastsocket", "importlib")


def _failed(job: Assignment, kind: str, text: str) -> int:
    with suppress(BrokenPipeError):  # the supervisor is gone
        os.write(job.status, f"{kind}\n{text}".encode()[:32768])
    return 1


def _settle(job: Assignment) -> None:
    """Become a process of its own: signals and exit functions as at exec, without systemd's
    variables, and on the slot's core if workers are pinned."""
    atexit._clear()  # the supervisor's functions
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # A terminal sends INT to the whole group, and HUP when it closes: the supervisor decides.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in VARIABLES:
        os.environ.pop(name, None)
    if job.pin:
        os.sched_setaffinity(0, {job.setup.listeners[0].table.core(job.slot)})


def _claim(job: Assignment, listener: Listener) -> None:
    table = listener.table
    try:
        table.claim(job.slot)
    except OSError as error:
        # In a rolling restart the slot's owner still serves it; the supervisor hands it over.
        if error.errno != errno.EBUSY:
            raise
    if not listener.foreign:
        spawn(job.setup.channel, table, table.core(job.slot))


def _program(job: Assignment) -> Program:
    config, found = job.setup.config, job.setup.preloaded
    if found is None and config.target is not None:
        sys.path.insert(0, config.app_dir)
        found = target.load(config.target, factory=config.factory)
    return program(config, found, job.slot, job.page, job.setup.certificates)


def _but_cancellation(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle exceptions except cancellations. At the end all tasks are cancelled; the streams of
    CPython 3.11 and 3.12 report that as an error of their callback."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


class _Worker:
    def __init__(
        self,
        job: Assignment,
        served: Program,
        hooks: Hooks,
    ) -> None:
        self._job = job
        self._hooks = hooks
        self._program = served
        self._stop = asyncio.Event()
        self._quit = False
        self._told_of_proxies = False
        self._alone = False  # the supervisor is gone
        self.abandons = False  # the application has not started, or ended, in time
        self._heeded: dict[int, object] = {}  # by signal: the handler that we have installed
        self._acceptors: list[Acceptor] = []
        self._served: list[Connections] = []

    async def run(self) -> int:
        loop = cast(Any, asyncio.get_running_loop())
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGQUIT, self._quick)
        for number in UNHEEDED:
            own = signal.getsignal(number) is not nothing  # the application's, which has priority
            if not own and number != stuck.SHOW_STACKS:
                loop.add_signal_handler(number, self._unheeded, number)
                self._heeded[number] = signal.getsignal(number)
        loop.add_reader(self._job.control, self._told)
        loop.pulse.show(self._job.page.memory)
        loop.pump().count(self._job.page.counters)
        limit = self._job.setup.config.timeout_worker
        if limit is not None:
            stuck.watch(loop, self._job.page, limit, self._program.doing)
        try:
            if not await self._started():
                return 0
        except SetupError as error:
            return _failed(self._job, "setup", str(error))
        wanted = self._job.setup.config.defer_accept
        for listener in self._job.setup.listeners:
            listener.defer_accept(self._program.client_first if wanted is None else wanted)
            factory = self._program.protocol(listener)
            if self._job.setup.certificates is not None and not listener.redirects:
                factory = self._over_tls(loop, factory, self._job.setup.certificates)
            if self._job.setup.config.http.proxy_protocol:
                factory = self._behind_proxies(loop, factory)
            connections = connections_of(loop.pump(), listener.table, factory)
            local = LocalListener(listener.table, self._job.slot)
            acceptor = Acceptor(loop, local, connections)
            acceptor.start()
            self._served.append(connections)
            self._acceptors.append(acceptor)
        loop.when_listening(self._ready)
        await self._stop.wait()
        config = self._job.setup.config
        grace = config.timeout_graceful_shutdown
        deadline = time.monotonic() + grace
        self._program.drain(min(RETURN_SECONDS, grace / 2))
        await self._stop_accepting(deadline)
        self._tell("stopping")
        while (self._connections() or self._program.busy()) and not self._over(deadline):
            await asyncio.sleep(POLL_SECONDS)
        if self._connections() and not self._quit:
            logger.warning("connections closed after the grace time: %d", self._connections())
        if self._program.busy() and not self._quit:
            self._program.hang_up()
            deadline = time.monotonic() + config.http.timeout_disconnect + POLL_SECONDS
            while self._program.busy() and not self._over(deadline):
                await asyncio.sleep(POLL_SECONDS)
        loop.set_exception_handler(_but_cancellation)
        self.abandons = not await self._ended()
        loop.remove_reader(self._job.control)
        return CUT_SHORT if self.abandons else 0

    def _ready(self) -> None:
        self._tell("ready")
        self._hooks.call("worker_ready", Hooked(self._job.slot, os.getpid()))

    def _over_tls(self, loop: Any, factory: Any, certificates: Certificates) -> Any:
        return over_tls(
            loop.pump(),
            loop,
            factory,
            certificates.front,
            self._job.setup.config.tls.timeout_tls_handshake,
            answer=self._program.not_tls,
            unready=self._program.unready,
        )

    def _behind_proxies(self, loop: Any, factory: Any) -> Any:
        proxies = Proxies(self._job.setup.config.http.trusted)

        def trusts(peer: Any) -> bool:
            return proxies.trusts(peer[0] if isinstance(peer, tuple) else "")

        def refused(peer: Any) -> None:
            self._program.refused_proxy(peer[:2] if isinstance(peer, tuple) else None)
            if not self._told_of_proxies:
                self._told_of_proxies = True
                logger.warning(
                    "a connection from %s was closed: a trusted proxy must begin with a header of "
                    "the PROXY protocol (--proxy-protocol)",
                    peer[0] if isinstance(peer, tuple) and peer else "a unix socket",
                )

        return Proxied(loop, factory, trusts, refused, PROXY_SECONDS)

    async def _started(self) -> bool:
        """Wait until the program has started. False: the worker was told to stop before that.
        Raises SetupError."""
        limit = self._job.setup.config.timeout_lifespan_startup
        startup = asyncio.ensure_future(self._program.startup(lambda: self._tell("enough")))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({startup, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not startup.done():
                # Clients may wait in the queue: let the program start, so that it can serve them.
                await asyncio.wait({startup}, timeout=0 if self._quit else STARTING_SECONDS)
            if startup.done():
                startup.result()
                return True
            self.abandons = True
            if stop.done():
                return False
            raise SetupError(f"the application did not start within {limit:g} s")
        finally:
            stop.cancel()
            if not startup.done():
                startup.cancel()
                await asyncio.wait({startup}, timeout=1)

    async def _ended(self) -> bool:
        """Shut the program down; return whether it ended within its time."""
        limit = self._job.setup.config.timeout_lifespan_shutdown
        limit = min(limit, QUICK_SECONDS) if self._quit else limit
        ending = asyncio.ensure_future(self._program.shutdown())
        await asyncio.wait({ending}, timeout=limit)
        if ending.done():
            ending.result()
            return True
        logger.error("the application's shutdown was cut short: it took longer than %g s", limit)
        return False

    def _connections(self) -> int:
        return sum(len(connections.open) for connections in self._served)

    def _over(self, deadline: float) -> bool:
        return self._quit or time.monotonic() >= deadline

    def _quick(self) -> None:
        self._quit = True
        self._stop.set()

    def _unheeded(self, number: int) -> None:
        if signal.getsignal(number) == self._heeded[number]:  # else it is the application's
            logger.info("%s ignored: the worker continues", name_of(number))

    def _tell(self, what: str) -> None:
        with suppress(BrokenPipeError):  # the supervisor is gone: the control pipe ends, too
            os.write(self._job.status, f"{what}\n".encode())

    def _told(self) -> None:
        words = os.read(self._job.control, 4096)
        if REOPEN in words:
            reopen()
        if UNHEALTHY in words:
            self._program.tell_unhealthy()
        if not words:
            self._orphaned()

    def _orphaned(self) -> None:
        """The supervisor is gone, and the workers are the last processes that hold the slots: begin
        a full stop."""
        asyncio.get_running_loop().remove_reader(self._job.control)
        self._alone = True
        for listener in self._job.setup.listeners:
            if not listener.foreign:
                with suppress(OSError):  # if it is refused, the last clients may be reset
                    listener.table.stop_arrivals()
        self._stop.set()

    async def _stop_accepting(self, deadline: float) -> None:
        """Stop accepting without leaving clients behind. At a full stop the queues end with us;
        otherwise other workers serve them."""
        draining = [a for a in self._acceptors if a.local.table.info().stopping]
        for acceptor in self._acceptors:
            if acceptor not in draining:
                self._leave(acceptor)
        began = time.monotonic()
        while not self._over(deadline) and not self._drained(draining, began):
            await asyncio.sleep(POLL_SECONDS)
        for acceptor in draining:
            acceptor.stop()
        if self._alone:
            self._shut_down()

    def _shut_down(self) -> None:
        """Act in place of the supervisor: once all queues are empty, refuse new connections and
        free the port, even if we still have requests to answer."""
        for listener in self._job.setup.listeners:
            table = listener.table
            shared = table.info().shared
            sources = [GLOBAL] if shared else [GLOBAL, *range(len(table.slots()))]
            if not listener.foreign and not any(map(table.queued, sources)):
                with suppress(OSError):  # ENOTCONN: another worker did it
                    table.shutdown()

    def _drained(self, acceptors: list[Acceptor], began: float) -> bool:
        # Check handshakes first: one that ends after the check of the queues would be missed.
        for acceptor in acceptors:
            try:
                under_way = acceptor.local.table.half_open() > 0
            except OSError:
                under_way = time.monotonic() - began < UNTOLD_HANDSHAKE_SECONDS
            if under_way:
                return False
        return all(acceptor.idle() for acceptor in acceptors)

    def _leave(self, acceptor: Acceptor) -> None:
        """Give the slot up. Its next worker, or the siblings, take connections that come late."""
        with suppress(PermissionError):  # a successor has the slot
            acceptor.local.table.release(self._job.slot)
            acceptor.sweep()
        acceptor.stop()
