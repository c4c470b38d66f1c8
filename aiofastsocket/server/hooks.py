"""`--hooks`: functions in a module of the user, found by name, that are called at points in the
life of the service. They run in workers, or in a child that lives as long as the call, and never in
the supervisor. They have the rights of --user. An error in a hook is logged, and ends nothing.
"""

import importlib
import importlib.util
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

from ..errors import UsageError
from .config import Config
from .forked import forked, how_it_ended
from .privileges import drop

logger = logging.getLogger("aiofastsocket")

NO_MODULE = 2  # exit code of a child: the module does not exist


@dataclass(frozen=True)
class Worker:
    """The argument of the hooks of workers. slot: from 0 on; a worker's successors have the same
    slot."""

    slot: int
    pid: int


class Hooks:
    """The hooks in this process, which has dropped its privileges already."""

    def __init__(self, config: Config) -> None:
        """Raises UsageError if there is no such module; an error within it is logged."""
        self._module: ModuleType | None = None
        if config.hooks is None:
            return
        sys.path.insert(0, config.app_dir)
        try:
            self._module = importlib.import_module(config.hooks)
        except (Exception, SystemExit) as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and f"{config.hooks}.".startswith(f"{missing}."):
                raise UsageError(f"--hooks {config.hooks}: there is no such module") from None
            logger.exception("--hooks %s cannot be imported", config.hooks)
        finally:
            sys.path.remove(config.app_dir)

    def call(self, name: str, *arguments: object) -> None:
        """Call the function of that name, if there is one."""
        hook = getattr(self._module, name, None)
        if hook is None:
            return
        if inspect.iscoroutinefunction(hook):
            logger.error("the hook %s is a coroutine function: write def, not async def", name)
            return
        try:
            hook(*arguments)
        except (Exception, SystemExit):
            logger.exception("the hook %s failed", name)


def call_apart(config: Config, name: str, let_go: Callable[[], object]) -> int:
    """Call a hook in a child of its own; return the child's process id. let_go: closes, in the
    child, everything that a worker would not have. Raises OSError, as fork(2) does."""
    supervisor = os.getpid()

    def run() -> int:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # Signals from a terminal are for the supervisor.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        let_go()
        drop(config, supervisor)
        try:
            Hooks(config).call(name)
        except UsageError:
            return NO_MODULE
        return 0

    return forked(f"the hook {name}", run)


def is_there(config: Config) -> bool:
    """Whether the module, or the package that it belongs to, exists. Nothing is imported."""
    name = (config.hooks or "").partition(".")[0]
    sys.path.insert(0, config.app_dir)
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.remove(config.app_dir)


def ended(name: str, status: int) -> None:
    """Log it if a child that called a hook has not ended with exit code 0."""
    code = os.waitstatus_to_exitcode(status)
    if code:
        logger.error("the process of the hook %s: %s", name, how_it_ended(code))


def starting(config: Config, let_go: Callable[[], object]) -> None:
    """Call `on_starting`, and wait for its end. Raises UsageError if there is no such module."""
    if config.hooks is None:
        return
    pid = call_apart(config, "on_starting", let_go)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # a signal that ends the start
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # SIGCHLD is ignored by now
            os.waitpid(pid, 0)
        raise
    if os.waitstatus_to_exitcode(status) == NO_MODULE:
        raise UsageError(f"--hooks {config.hooks}: there is no such module")
    ended("on_starting", status)
