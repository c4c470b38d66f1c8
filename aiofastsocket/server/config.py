"""The configuration of `serve`: frozen, and validated once, here."""

import grp
import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..choices import LOOPS, SLOTS_MAX, check_slots
from ..errors import SetupError, UsageError
from .bind import Bind
from .http.config import HttpConfig
from .machine import worker_count
from .options import BY_NAME, check, default
from .target import check_name
from .tls import TlsConfig


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
    """The options of `serve`, named as on the command line. Times are in seconds."""

    target: str | None = None
    interface: str = default("interface")
    factory: bool = default("factory")
    app_dir: str = default("app_dir")
    preload: bool = default("preload")
    hooks: str | None = default("hooks")
    reload: bool = default("reload")
    reload_dirs: tuple[str, ...] = default("reload_dirs")
    reload_include: tuple[str, ...] = default("reload_include")
    reload_exclude: tuple[str, ...] = default("reload_exclude")
    reload_delay: float = default("reload_delay")
    binds: tuple[Bind, ...] = ()
    backlog: int = default("backlog")
    defer_accept: bool | None = default("defer_accept")
    workers: int | None = default("workers")
    slots: int | None = default("slots")
    backend: str | None = default("backend")
    steer: str = default("steer")
    pin: str = default("pin")
    loop: str = LOOPS[0]
    timeout_graceful_shutdown: float = default("timeout_graceful_shutdown")
    timeout_lifespan_startup: float | None = default("timeout_lifespan_startup")
    timeout_lifespan_shutdown: float = default("timeout_lifespan_shutdown")
    drain_delay: float = default("drain_delay")
    limit_worker_rss: int | None = default("limit_worker_rss")
    limit_worker_lifetime: float | None = default("limit_worker_lifetime")
    timeout_worker: float | None = default("timeout_worker")
    user: str | None = default("user")
    group: str | None = default("group")
    pid_file: str | None = default("pid_file")
    metrics: str | None = default("metrics")
    log_level: str = default("log_level")
    log_config: str | dict[str, Any] | None = default("log_config")
    log_file: str | None = default("log_file")
    log_format: str = default("log_format")
    access_log_file: str | None = default("access_log_file")
    http: HttpConfig = field(default_factory=HttpConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)

    def __post_init__(self) -> None:
        check(self)
        if self.target is not None:
            check_name(self.target)
        if self.slots is not None:
            check_slots(self.slots, self.worker_count, what="--slots", least_is="workers")
        if not Path(self.app_dir).is_dir():
            raise UsageError(f"--app-dir {self.app_dir} is not a directory")
        if self.reload and self.preload:
            raise UsageError(
                "--reload cannot be used with --preload, which imports the program once"
            )
        for folder in self.reload_dirs:
            if not Path(folder).is_dir():
                raise UsageError(f"--reload-dir {folder} is not a directory")
        if (bind := self.metrics_bind) is not None and bind in self.binds:
            raise UsageError(f"--metrics {self.metrics}: the application has the same address")
        for option in ("log_file", "access_log_file"):
            if getattr(self, option) is not None and self.log_config is not None:
                flag = BY_NAME[option].flag
                raise UsageError(
                    f"{flag} cannot be used with --log-config, which says where lines go"
                )
        if self.log_format != "text" and self.log_config is not None:
            raise UsageError("--log-format cannot be used with --log-config, which has formatters")
        self.ids()

    @property
    def worker_count(self) -> int:
        """The number of workers at the start."""
        return self.workers if self.workers is not None else min(worker_count(), SLOTS_MAX)

    @property
    def slot_count(self) -> int:
        """The number of slots per table. TTIN adds workers up to this number (default: twice the
        workers)."""
        return self.slots if self.slots is not None else min(2 * self.worker_count, SLOTS_MAX)

    @property
    def metrics_bind(self) -> Bind | None:
        """The address of the metrics; None: metrics are off."""
        text = self.metrics
        if text is None:
            return None
        if text.startswith("fd://"):
            raise UsageError(f"--metrics {text}: use PORT, HOST:PORT, [IPV6]:PORT or unix:PATH")
        if text.removeprefix(":").isdecimal():
            text = f"127.0.0.1:{text.removeprefix(':')}"
        return Bind.parse(text, "--metrics")

    def ids(self) -> tuple[int, int] | None:
        """uid and gid for the workers; None: the workers keep those of the supervisor."""
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
