"""`--pid-file`: a file that names a running supervisor, and nobody else.

It runs if it has the file locked, fcntl(2): the lock ends with the process, is not inherited, and
does not care whose number it is that stands there, by now.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SetupError

_held: list[int] = []  # descriptors, which nobody else is to have


def let_go() -> None:
    """In a fork: what it could write there would be another process's number."""
    while _held:
        os.close(_held.pop())


@contextmanager
def written_pid_file(path: str) -> Iterator[None]:
    """Have our process id in the file meanwhile. Raises SetupError if that cannot be."""
    fd = _opened(path)
    while not _is_at(fd, path):  # whoever had it has removed it before we had the lock
        os.close(fd)
        fd = _opened(path)
    _held.append(fd)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            if _is_at(fd, path):
                os.unlink(path)
    finally:
        _held.remove(fd)
        os.close(fd)


def _opened(path: str) -> int:
    """And locked."""
    try:
        # A name that anybody may have put there: no link is followed, nobody is waited for.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(path, flags, 0o644)
    except OSError as error:
        link = os.path.islink(path)
        reason = "it is a symbolic link" if link else error.strerror
        raise SetupError(f"pid file {path} cannot be written: {reason}") from None
    try:
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SetupError(f"pid file {path} cannot be written: it is no regular file")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        named = os.pread(fd, 20, 0).strip().decode(errors="replace")
        raise SetupError(f"pid file {path} names process {named}, which runs") from None


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False
