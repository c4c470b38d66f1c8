"""`--reload`: a process that watches the program's files and makes the supervisor replace workers.

The reload is the same as after HUP: if the program does not start, the old one continues to serve.
"""

import importlib.util
import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from .._native import check, lib
from ..errors import SetupError
from .signals import ACTED_ON

logger = logging.getLogger("aiofastsocket")

LONGEST_DELAY = 3600.0


def check_watcher() -> None:
    """Raise SetupError unless the package that watches files is installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise SetupError("--reload needs watchfiles: pip install watchfiles")


@dataclass(frozen=True)
class Watched:
    """The files to watch. include, exclude: patterns of file names, folder names, or paths. delay:
    seconds without a change after which all previous changes count as one."""

    folders: Sequence[str]
    include: Sequence[str] = ("*.py",)
    exclude: Sequence[str] = ()
    delay: float = 0.05

    def has(self, path: str) -> bool:
        """Whether a change of this file counts."""
        return _matches(path, self.include) and not _matches(path, self.exclude)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    parts = Path(path).parts
    return any(
        fnmatch(path, one) or fnmatch(path, f"*/{one}") or any(fnmatch(part, one) for part in parts)
        for one in patterns
    )


@contextmanager
def watching(watched: Watched) -> Iterator[None]:
    """Send ourselves SIGHUP whenever one of these files changes."""
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            for number in ACTED_ON:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal: the supervisor decides
            check(lib.fs_parent_death_signal(signal.SIGTERM, supervisor), "supervisor is gone")
            _watch(watched, supervisor)
        except BaseException:
            logger.exception("files are not watched any more")
        finally:
            os._exit(0)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # at the end the supervisor ignores SIGCHLD
            os.waitpid(pid, 0)


def _watch(watched: Watched, supervisor: int) -> None:
    from watchfiles import Change, DefaultFilter, watch

    class Files(DefaultFilter):  # not those of version control, virtual environments, editors
        def __call__(self, change: Change, path: str) -> bool:
            return bool(super().__call__(change, path)) and watched.has(path)

    step = max(1, int(min(watched.delay, LONGEST_DELAY) * 1000))
    changed = watch(
        *watched.folders,
        watch_filter=Files(),
        step=step,
        debounce=max(1600, 10 * step),
        raise_interrupt=False,
    )
    for changes in changed:
        names = sorted({Path(name).name for _, name in changes})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        logger.info("%s%s changed", ", ".join(names[:3]), more)
        os.kill(supervisor, signal.SIGHUP)
