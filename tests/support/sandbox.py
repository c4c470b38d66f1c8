"""A sandbox that refuses system calls: seccomp(2), by deny.c."""

import atexit
import errno
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# asm/unistd.h: x86-64, aarch64
_NUMBERS = {
    "getsockopt": (55, 209),
    "setsockopt": (54, 208),
    "socket": (41, 198),
    "fcntl": (72, 25),
    "ftruncate": (77, 46),
    "memfd_create": (319, 279),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "prctl": (157, 167),
    "eventfd2": (290, 19),
    "sched_getaffinity": (204, 123),
    "sched_setaffinity": (203, 122),
    "io_uring_setup": (425, 425),
}


@cache
def _program() -> Path:
    """deny.c, compiled once per run of the tests, in a folder where every user may run it."""
    folder = Path(tempfile.mkdtemp(prefix="deny-"))
    atexit.register(shutil.rmtree, folder)
    folder.chmod(0o755)
    source = Path(__file__).with_name("deny.c")
    flags = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["cc", *flags, "-o", folder / "deny", source], check=True)
    return folder / "deny"


def refusing(*calls: str, error: int = errno.EPERM) -> tuple[str, ...]:
    """The prefix of a command in which these calls fail with `error`: "memfd_create", or
    "setsockopt:51" for calls whose third argument has that value."""
    column = ("x86_64", "aarch64").index(os.uname().machine)
    words = []
    for call in calls:
        name, colon, argument = call.partition(":")
        words.append(f"{_NUMBERS[name][column]}{colon}{argument}")
    return (str(_program()), str(error), *words, "--")
