"""From a validated config to a running service and its exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ..address import address_text
from ..channel import Channel
from ..errors import SetupError, UsageError
from ..loop import SelectorLoop
from . import elsewhere, hooks, systemd, target
from .bind import Bind, Listener, listening_alone, open_listeners
from .config import Config
from .logs import Files, as_uvicorn, configure
from .options import BY_NAME
from .pages import Pages
from .pidfile import written_pid_file
from .program import load
from .reload import Watched, check_watcher, watching
from .signals import ACTED_ON, UNHEEDED, unheed
from .supervisor import Supervisor
from .worker import LoopFactory, Setup

logger = logging.getLogger("aiofastsocket")


def serve(config: Config, program: Any = None) -> int:
    """Serve until told to stop; returns the exit code. Raises UsageError or SetupError.

    program: the target itself, if config.target is only its name.
    """
    files = Files(
        config.log_file, config.access_log_file, config.log_format == "json", config.ids()
    )
    configure(config.log_level, config.log_config, files)
    if config.http.access_log_format is not None and config.log_config and as_uvicorn():
        raise UsageError(
            "--access-log-format cannot be used with a --log-config for uvicorn, which has a format"
        )
    if unread := elsewhere.unread():
        logger.warning("%s", unread)
    binds = config.binds + tuple(Bind(fd=fd) for fd in systemd.take_listen_fds())
    config = replace(config, binds=binds or (_default_bind(),), app_dir=_absolute(config.app_dir))
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        certificates = config.tls.certificates()
        channel = stack.enter_context(Channel(config.backend))
        listeners: list[Listener] = []
        plain = tuple(Bind.parse(text, "--redirect-http") for text in config.tls.redirect_http)
        for binds in filter(None, (config.binds, plain)):
            opened = open_listeners(
                binds,
                channel,
                slots=config.slot_count,
                steer=config.steer,
                backlog=config.backlog,
                may_defer=config.defer_accept is not False,
            )
            for listener in opened:
                listener.redirects = binds is plain
                stack.callback(listener.close)
            listeners += opened
        if config.pid_file is not None:
            stack.enter_context(written_pid_file(config.pid_file))
        preloaded = program
        if preloaded is None and config.preload and config.target is not None:
            sys.path.insert(0, config.app_dir)
            preloaded = target.load(config.target, factory=config.factory)
        if config.reload:
            check_watcher()
            watched = Watched(
                config.reload_dirs or (config.app_dir,),
                ("*.py", *config.reload_include),
                config.reload_exclude,
                config.reload_delay,
            )
            stack.enter_context(watching(watched))
        factory = _loop_factory(config.loop, channel.backend)
        if config.ids() is not None:
            load()
        metrics = _metrics(config, channel, listeners, stack)
        setup = Setup(config, channel, listeners, factory, certificates, preloaded)
        for line in certificates.ending() if certificates is not None else ():
            logger.warning("%s", line)

        def let_go() -> None:
            for listener in listeners:
                listener.let_go()

        hooks.starting(config, let_go)
        return Supervisor(setup, metrics).run()


def check(config: Config) -> int:
    """Check that the configuration can be served, without opening addresses: read the certificates
    and import the program. Returns 0. Raises UsageError, SetupError, or the program's errors."""
    config.tls.certificates()
    if config.log_config is not None:
        configure(config.log_level, config.log_config, Files())
    if config.hooks is not None and not hooks.is_there(config):
        raise UsageError(f"--hooks {config.hooks}: there is no such module")
    if config.reload:
        check_watcher()
    if config.metrics_bind is not None:
        _metrics_process()
    sys.path.insert(0, config.app_dir)
    if config.target is not None:
        target.kind_of(target.load(config.target, factory=config.factory), config.interface)
    print(f"the configuration is valid for {config.target or 'the built-in demo'}")
    return 0


def _metrics_process() -> Any:
    try:
        from .metrics.process import MetricsProcess
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        text = "--metrics needs prometheus-client: pip install prometheus-client"
        raise SetupError(text) from None
    return MetricsProcess


def _metrics(
    config: Config, channel: Channel, listeners: list[Listener], stack: ExitStack
) -> Callable[[Pages], Any] | None:
    """A function that makes the metrics process; None: metrics are off."""
    bind = config.metrics_bind
    if bind is None:
        return None
    process = _metrics_process()  # before forks: without root, the package may be unreadable
    sock = stack.enter_context(listening_alone(bind, channel))
    where = address_text(sock)
    logger.info("metrics are at %s/metrics", f"{where} under " if bind.path else f"http://{where}")
    return partial(process, config, sock.fileno(), channel.backend, listeners)


def _default_bind() -> Bind:
    """The address to serve if none is given. Raises UsageError."""
    port = os.environ.get("PORT")
    if port is None:
        return Bind(host="127.0.0.1", port=8000)
    number = BY_NAME["port"].kind.convert("$PORT", port)
    return Bind(host="0.0.0.0", port=number, origin="$PORT")


def _absolute(folder: str) -> str:
    """The absolute path of a folder, now: the working directory may be gone when the program is
    imported again."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        raise SetupError("the working directory is gone: start in one that exists") from None


def _loop_factory(name: str, backend: str) -> LoopFactory:
    """The factory of event loops, imported before any fork: a worker that has dropped root may lack
    permission to read the package."""
    options: dict[str, Any] = {"backend": backend}
    if name == "asyncio":
        return partial(SelectorLoop, **options)
    from ..loop.on_uvloop import UvloopLoop  # not needed for asyncio

    return partial(UvloopLoop, **options)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Until the supervisor has its own handlers, a signal that ends the process also cleans up."""

    def end(*_: object) -> None:
        for number in ACTED_ON:  # no further signal interrupts the cleanup
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(0)

    before = {int(n): signal.getsignal(n) for n in (*ACTED_ON, *UNHEEDED)}
    unheed()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, end)
    try:
        yield
    finally:
        for kept, handler in before.items():
            signal.signal(kept, handler)
