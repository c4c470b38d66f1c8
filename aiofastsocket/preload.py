"""`aiofastsocket exec` and `preload-path`: an unmodified program with libfsocket.so before it.

What the dynamic linker would quietly not do is looked for first and said: ld.so(8) ignores
LD_PRELOAD for statically linked and for set-user-ID programs, and Go programs make their system
calls themselves.
"""

import os
import shutil
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ._native import PRELOAD_LIBRARY
from .choices import check_slots
from .errors import SetupError, UsageError
from .streams import flush_standard_streams

LOG_LEVELS = ("off", "error", "info", "debug")
"""Of the library, native/shim/settings.c."""

_ELF = b"\x7fELF"
_PT_INTERP = 3


def preload_path() -> str:
    """Where libfsocket.so is."""
    if not PRELOAD_LIBRARY.exists():
        raise SetupError(f"{PRELOAD_LIBRARY} is missing: this installation is not complete")
    return str(PRELOAD_LIBRARY)


@dataclass(frozen=True)
class _Elf:
    machine: tuple[int, int]  # class (32 or 64 bits) and e_machine: elf(5)
    dynamic: bool
    go: bool


def _read_elf(path: Path) -> _Elf | None:
    """What elf(5) headers say; None if it is no 64-bit little-endian ELF file, or not at all."""
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:4] != _ELF:
            return None
        if head[4] != 2:
            return _Elf((head[4], struct.unpack_from("=H", head, 18)[0]), True, False)
        machine, offset, sections = (
            struct.unpack_from("=H", head, 18)[0],
            *struct.unpack_from("=QQ", head, 32),
        )
        size, count, section_size, section_count, names = struct.unpack_from("=HHHHH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
        kinds = {struct.unpack_from("=I", table, i * size)[0] for i in range(count)}
        go = False
        if section_count and names < section_count:
            file.seek(sections + names * section_size)
            start, length = struct.unpack_from("=QQ", file.read(section_size), 24)
            file.seek(start)
            go = b".go.buildinfo\0" in file.read(length)
    return _Elf((2, machine), _PT_INTERP in kinds, go)


def _interpreter(path: Path) -> Path:
    """The program that runs a script: its first line, execve(2)."""
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


def check_program(name: str) -> Path:
    """Where the program is. Raises SetupError saying why it cannot be helped."""
    where = shutil.which(name)
    if where is None:
        known = name and Path(name).exists()
        raise SetupError(f"{name}: {'not an executable file' if known else 'no such program'}")
    path = Path(where)
    mode = path.stat().st_mode
    try:
        binary = _interpreter(path)
        elf = _read_elf(binary)
        own = _read_elf(PRELOAD_LIBRARY)
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}") from None
    runs = f"{where} runs {binary}, which" if binary != path else where
    if (mode & stat.S_ISUID and path.stat().st_uid != os.geteuid()) or (
        mode & stat.S_ISGID and path.stat().st_gid != os.getegid()
    ):
        raise SetupError(f"{where} is set-user-ID or set-group-ID: ld.so ignores LD_PRELOAD for it")
    if elf is None:
        raise SetupError(f"{runs} is neither an ELF program nor a script with an interpreter")
    if own is not None and elf.machine != own.machine:
        raise SetupError(f"{runs} is for another kind of processor than {PRELOAD_LIBRARY.name}")
    if elf.go:
        raise SetupError(f"{runs} is a Go program: it calls the kernel itself, not through libc")
    if not elf.dynamic:
        raise SetupError(f"{runs} is statically linked: ld.so does not run, nothing is preloaded")
    return path


def environment(settings: dict[str, str], base: dict[str, str]) -> dict[str, str]:
    """`base` with the library first in LD_PRELOAD, what was there kept, and FSOCKET_* settings."""
    library = preload_path()
    before = [p for p in base.get("LD_PRELOAD", "").replace(":", " ").split() if p != library]
    if any(c in library for c in " :"):
        raise SetupError(f"{library}: LD_PRELOAD cannot name a path with a space or colon in it")
    return base | {"LD_PRELOAD": ":".join([library, *before])} | settings


def _check(
    slots: int | None, ports: str | None, log_level: str | None, log_file: str | None
) -> None:
    """Say before the program starts what the library would complain of in it."""
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
        raise UsageError(f"--ports {ports}: use ports and ranges, as 80,443,8000-8100")
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
    """Become the program, with the library's settings. Raises UsageError or SetupError, and OSError
    if execve(2) fails."""
    if not program:
        raise UsageError("which program? aiofastsocket exec -- nginx -g 'daemon off;'")
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
    path = check_program(program[0])
    env = environment(settings, dict(os.environ))
    flush_standard_streams()
    os.execve(path, list(program), env)
