"""`--pid-file`: a file that names a running supervisor, and nobody else.

It runs if it has the file locked, fcntl(2): the lock ends with the process, is not inherited, and
does not care whose number it is that stands there, by now.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import SetupError


@contextmanager
def written_pid_file(path: str) -> Iterator[None]:
    """Have our process id in the file meanwhile. Raises SetupError if that cannot be."""
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
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        try:
            yield
        finally:
            _unlink(fd, path)
    finally:
        os.close(fd)


def _lock(fd: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SetupError(f"pid file {path} cannot be written: it is no regular file")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        named = os.pread(fd, 20, 0).strip().decode(errors="replace")
        raise SetupError(f"pid file {path} names process {named}, which runs") from None


def _unlink(fd: int, path: str) -> None:
    """If it still is the same file."""
    with suppress(OSError):
        if os.path.samestat(os.lstat(path), os.fstat(fd)):
            os.unlink(path)
