"""What `serve` was asked for: frozen, and validated once, here."""

import grp
import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._native import lib
from ..channel import STEERINGS, choose_backend
from ..errors import SetupError, UsageError
from .asgi.options import HttpOptions
from .bind import Bind
from .machine import worker_count
from .target import check_name
from .tls import TlsOptions

LOOPS = ("uvloop", "asyncio")
PINS = ("auto", "on", "off")
INTERFACES = ("auto", "asgi3", "wsgi", "protocol", "stream")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def _user(name: str) -> tuple[int, int]:
    """uid and primary gid of a user, by name or number."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise UsageError(f"--user {name}: there is no such user") from None
    return entry.pw_uid, entry.pw_gid


def _group(name: str) -> int:
    try:
        entry = grp.getgrgid(int(name)) if name.isdecimal() else grp.getgrnam(name)
    except (KeyError, OverflowError):
        raise UsageError(f"--group {name}: there is no such group") from None
    return entry.gr_gid


@dataclass(frozen=True)
class Config:
    """Options of `serve`, named as on the command line; seconds are seconds."""

    target: str | None = None
    interface: str = "auto"
    factory: bool = False
    app_dir: str = "."
    preload: bool = False
    binds: tuple[Bind, ...] = ()
    workers: int | None = None
    slots: int | None = None
    backend: str | None = None
    steer: str = "auto"
    pin: str = "auto"
    loop: str = "uvloop"
    backlog: int = 2048
    defer_accept: bool | None = None
    timeout_graceful_shutdown: float = 30.0
    pid_file: str | None = None
    log_level: str = "info"
    user: str | None = None
    group: str | None = None
    reload: bool = False
    reload_dirs: tuple[str, ...] = ()
    log_config: str | dict[str, Any] | None = None
    http: HttpOptions = field(default_factory=HttpOptions)
    tls: TlsOptions = field(default_factory=TlsOptions)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("--steer", self.steer, STEERINGS),
            ("--pin", self.pin, PINS),
            ("--loop", self.loop, LOOPS),
            ("--interface", self.interface, INTERFACES),
            ("--log-level", self.log_level, LOG_LEVELS),
        ):
            if value not in allowed:
                raise UsageError(f"{name} {value!r} is unknown: use {', '.join(allowed)}")
        if self.target is not None:
            check_name(self.target)
        choose_backend(self.backend)
        most = lib.FS_SLOTS_MAX
        if self.workers is not None and not 1 <= self.workers <= most:
            raise UsageError(f"--workers {self.workers}: use auto or 1 to {most}")
        if self.slots is not None and not self.worker_count <= self.slots <= most:
            raise UsageError(f"--slots {self.slots}: use {self.worker_count} (workers) to {most}")
        if not 1 <= self.backlog < 2**31:
            raise UsageError(f"--backlog {self.backlog}: use 1 or more")
        if not self.timeout_graceful_shutdown >= 0:
            raise UsageError("--timeout-graceful-shutdown: use 0 or more seconds")
        if not Path(self.app_dir).is_dir():
            raise UsageError(f"--app-dir {self.app_dir} is not a directory")
        if self.reload and self.preload:
            raise UsageError("--reload does not go with --preload: that imports the program once")
        for folder in self.reload_dirs:
            if not Path(folder).is_dir():
                raise UsageError(f"--reload-dir {folder} is not a directory")
        self.ids()

    @property
    def worker_count(self) -> int:
        """Workers to start with."""
        most: int = lib.FS_SLOTS_MAX
        return self.workers if self.workers is not None else min(worker_count(), most)

    @property
    def slot_count(self) -> int:
        """Slots of each table, the most workers that TTIN reaches (default: twice the workers)."""
        most: int = lib.FS_SLOTS_MAX
        return self.slots if self.slots is not None else min(2 * self.worker_count, most)

    def ids(self) -> tuple[int, int] | None:
        """uid and gid that the workers are to have; None: they stay what they are."""
        if self.user is None and self.group is None:
            return None
        uid, gid = os.getuid(), os.getgid()
        if self.user is not None:
            uid, gid = _user(self.user)
        if self.group is not None:
            gid = _group(self.group)
        if os.geteuid() != 0 and (uid, gid) != (os.getuid(), os.getgid()):
            raise SetupError("--user and --group need root: start as root, or leave them out")
        return uid, gid
