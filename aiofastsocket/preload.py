"""`aiofastsocket exec` and `preload-path`: run an unmodified program with libfsocket.so preloaded.

Cases in which preloading would fail silently are checked first and reported. ld.so(8) ignores
LD_PRELOAD for statically linked programs and for programs that gain privileges. The linker of one
libc cannot load a library for another. Go programs make their system calls themselves.
"""

import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from . import elf
from ._native import PRELOAD_LIBRARY
from .choices import check_slots
from .errors import SetupError, UsageError
from .streams import flush_standard_streams

LOG_LEVELS = ("off", "error", "info", "debug")
"""Log levels of the library, native/shim/settings.c."""

_SANITIZER = re.compile(r"lib(clang_rt\.)?asan[.-]")


def preload_path() -> str:
    """The path of libfsocket.so. Raises SetupError if the file is missing."""
    if not PRELOAD_LIBRARY.exists():
        raise SetupError(f"{PRELOAD_LIBRARY} is missing: this installation is incomplete")
    return str(PRELOAD_LIBRARY)


def _interpreter(path: Path) -> Path:
    """The program that runs a script, by the script's first line, execve(2)."""
    with path.open("rb") as file:
        line = file.readline(4096)
    if not line.startswith(b"#!"):
        return path
    words = line[2:].split()
    if not words:
        return path
    found = Path(os.fsdecode(words[0]))
    if found.name == "env" and len(words) > 1:
        named = [w for w in words[1:] if not w.startswith(b"-") and b"=" not in w]
        target = shutil.which(os.fsdecode(named[0])) if named else None
        found = Path(target) if target else found
    return found


def _gains_privileges(path: Path) -> str | None:
    """The reason why the program's process is in secure mode (AT_SECURE, getauxval(3)), or None. In
    this mode ld.so takes nothing from the environment."""
    status = path.stat()
    if (status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid()) or (
        status.st_mode & stat.S_ISGID and status.st_gid != os.getegid()
    ):
        return "is set-user-ID or set-group-ID"
    with suppress(OSError):  # no capabilities, or the file system does not support them
        os.getxattr(path, "security.capability")
        if os.getuid() != 0:  # capabilities(7): root has them anyway
            return "has file capabilities"
    return None


def check_program(name: str) -> tuple[Path, list[str]]:
    """The path of the program, and the libraries that must be loaded before ours. Raises
    SetupError, with the reason, if ours cannot be preloaded."""
    where = shutil.which(name)
    if where is None:
        known = name and Path(name).exists()
        raise SetupError(f"{name}: {'not an executable file' if known else 'no such program'}")
    path = Path(where)
    try:
        binary = _interpreter(path)
        found = elf.read(binary)
        own = elf.read(PRELOAD_LIBRARY)
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}") from None
    runs = f"{where} runs {binary}, which" if binary != path else where
    if gains := _gains_privileges(binary):
        raise SetupError(f"{runs} {gains}: ld.so ignores LD_PRELOAD for it")
    if found is None:
        raise SetupError(f"{runs} is neither an ELF program nor a script with an interpreter")
    if own is not None and found.machine != own.machine:
        raise SetupError(f"{runs} is for another kind of processor than {PRELOAD_LIBRARY.name}")
    if found.go:
        raise SetupError(f"{runs} is a Go program: it calls the kernel itself, not through libc")
    if found.linker is None:
        raise SetupError(
            f"{runs} is statically linked: ld.so does not run, so nothing is preloaded"
        )
    if own is not None and found.libc != own.libc:
        raise SetupError(
            f"{runs} is linked to {found.libc}, but {PRELOAD_LIBRARY.name} to {own.libc}: "
            "a process can have only one libc"
        )
    # AddressSanitizer ends a program if it is not the program's first library.
    return path, [name for name in found.needed if _SANITIZER.match(name)]


def environment(
    settings: dict[str, str], base: dict[str, str], before: Sequence[str] = ()
) -> dict[str, str]:
    """`base` with the FSOCKET_* settings, and with the library first in LD_PRELOAD. Only libraries
    that must be `before` it come earlier. Others that `base` has there are kept."""
    library = preload_path()
    kept = [p for p in base.get("LD_PRELOAD", "").replace(":", " ").split() if p != library]
    first = [p for p in before if p not in {Path(other).name for other in kept}]
    first += [p for p in kept if _SANITIZER.match(Path(p).name)]
    if any(c in library for c in " :"):
        raise SetupError(f"{library}: LD_PRELOAD cannot name a path with a space or colon in it")
    names = [*first, library, *(p for p in kept if p not in first)]
    return base | {"LD_PRELOAD": ":".join(names)} | settings


def _check(
    slots: int | None, ports: str | None, log_level: str | None, log_file: str | None
) -> None:
    """Raise UsageError, before the program starts, for settings that the library would refuse."""
    if slots is not None:
        check_slots(slots, what="--slots")
    ranges = [part.split("-") for part in (ports or "1").split(",")]
    good = all(
        len(ends) <= 2
        and all(end.isdecimal() for end in ends)
        and int(ends[0]) <= int(ends[-1]) <= 65535
        for ends in ranges
    )
    if not good:
        raise UsageError(f"--ports {ports}: use ports and ranges, for example 80,443,8000-8100")
    if log_level is not None and log_level not in LOG_LEVELS:
        raise UsageError(f"--log-level {log_level}: use off, error, info or debug")
    if log_file is not None and not log_file.startswith("/"):
        raise UsageError(f"--log-file {log_file}: use the full path of a file")


def execute(
    program: Sequence[str],
    *,
    backend: str | None,
    steer: str | None,
    pin: str | None,
    slots: int | None,
    defer_accept: bool,
    ports: str | None,
    log_level: str | None,
    log_file: str | None,
) -> NoReturn:
    """Replace this process by the program, with the library's settings. Raises UsageError or
    SetupError, and OSError if execve(2) fails."""
    if not program:
        raise UsageError(
            "missing program: use for example aiofastsocket exec -- nginx -g 'daemon off;'"
        )
    given = {
        "FSOCKET_BACKEND": backend,
        "FSOCKET_STEER": steer,
        "FSOCKET_PIN": pin,
        "FSOCKET_SLOTS": None if slots is None else str(slots),
        "FSOCKET_DEFER_ACCEPT": "1" if defer_accept else None,
        "FSOCKET_PORTS": ports,
        "FSOCKET_LOG": log_level if log_file is None else f"{log_level or 'error'}:{log_file}",
    }
    settings = {name: value for name, value in given.items() if value is not None}
    _check(slots, ports, log_level, log_file)
    path, before = check_program(program[0])
    env = environment(settings, dict(os.environ), before)
    flush_standard_streams()
    os.execve(path, list(program), env)
