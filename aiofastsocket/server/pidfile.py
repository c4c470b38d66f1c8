"""`--pid-file`: a file that names a running supervisor, and no other process.

The supervisor is running if it has the file locked, fcntl(2). The lock ends with the process and is
not inherited. It does not depend on the number in the file, which another process may have by now.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SetupError

_held: list[int] = []  # descriptors, which no other process may have


def let_go() -> None:
    """In a fork: close the file. The number in it is the supervisor's, not the fork's."""
    while _held:
        os.close(_held.pop())


@contextmanager
def written_pid_file(path: str) -> Iterator[None]:
    """Keep our process id in the file during the block. Raises SetupError if that is impossible."""
    fd = _opened(path)
    while not _is_at(fd, path):  # its owner removed it before we had the lock
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
    """Open and lock the file."""
    try:
        # Any user may have created this name: do not follow a link, and do not block.
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
        raise SetupError(f"pid file {path} cannot be written: it is not a regular file")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        named = os.pread(fd, 20, 0).strip().decode(errors="replace")
        raise SetupError(f"pid file {path} names process {named}, which is running") from None


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False
