"""Lines for a standard stream whose reader may have stopped. The server never waits for the reader.

A write(2) to a full pipe blocks. O_NONBLOCK would help, but it belongs to the open file
description, which other processes have too. So a pipe or a terminal is opened again, through
/proc/self/fd, and this description is ours alone. Up to PIPE_BUF bytes go into a pipe as a whole or
not at all, pipe(7). poll(2) reports a pipe as writable if it has room for PIPE_BUF bytes.
"""

import logging
import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIPE_BUF = 4096
LARGEST = 1 << 20


class Lines:
    """Writes to a copy of a descriptor, which forks inherit. Lines that find no room are dropped
    and counted."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0  # lines, since the last report of dropped lines
        self._rest = b""  # of a line that was partly written
        mode = os.fstat(fd).st_mode
        self._most = LARGEST if stat.S_ISREG(mode) else PIPE_BUF
        self._polled = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
        self._socket: socket.socket | None = None
        self._fd = -1
        if self._polled:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with suppress(OSError):  # no /proc, or a terminal of another user
                self._fd = os.open(f"/proc/self/fd/{fd}", flags)
                self._polled = False
        if self._fd < 0:
            self._fd = os.dup(fd)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=self._fd)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a forked child: the parent completes a partly written line, and reports dropped
        lines."""
        self.dropped, self._rest = 0, b""

    def fileno(self) -> int:
        """The descriptor of the copy."""
        return self._fd

    def write(self, text: bytes) -> bool:
        """Write lines, each with its newline; return whether all of them were written."""
        if self._rest:
            self._rest = self._rest[self._try(self._rest[: self._most]) :]
            if self._rest:
                self.dropped += text.count(b"\n")
                return False
        at = 0
        while at < len(text):
            # As many whole lines as fit one write; of a longer line, a piece.
            end = text.rfind(b"\n", at, at + self._most) + 1 or min(at + self._most, len(text))
            done = self._try(text[at:end])
            at += done
            if at < end:
                if at > 0 and text[at - 1] != 10:
                    cut = text.index(b"\n", at) + 1
                    self._rest, at = text[at:cut], cut
                self.dropped += text.count(b"\n", at)
                return False
        return True

    def _try(self, data: bytes) -> int:
        """Write as many bytes as there is room for; return their number."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if not self._polled or self._has_room():
                return os.write(self._fd, data)
        except OSError:  # it would block, the disk is full, or the pipe has no reader
            pass
        return 0

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))


class FileLines(Lines):
    """Lines for a file, which is created if it is missing. owner: the user and group that open the
    file, because other users may rename files in its folder, or put links there. Raises OSError."""

    def __init__(self, path: str, owner: tuple[int, int] | None) -> None:
        self.path = os.path.abspath(path)
        self._owner = owner
        fd = self._open()
        super().__init__(fd)
        os.close(fd)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        with _as(self._owner):
            return os.open(self.path, flags, 0o640)

    def reopen(self) -> None:
        """Open the file of this name again, which may be another one now. Raises OSError; then
        lines still go to the old file."""
        fd = self._open()
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._rest = b""


@contextmanager
def _as(owner: tuple[int, int] | None) -> Iterator[None]:
    """Have the rights of this user and group, and of no other group, if we may change rights."""
    if owner is None or os.geteuid() != 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(owner[1])
    os.seteuid(owner[0])
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


class LineHandler(logging.Handler):
    """A handler of Python's logging that writes to a stream of lines."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        lines, dropped = self._lines, self._lines.dropped
        try:
            text = (self.format(record) + "\n").encode(errors="backslashreplace")
        except Exception:  # as in logging's own handlers: the caller gets no error
            self.handleError(record)
            return
        remark = (
            b"(%d lines were dropped: they could not be written)\n" % dropped if dropped else b""
        )
        lines.dropped = 0
        lines.write(remark + text)
        if remark and lines.dropped > text.count(b"\n"):  # not even the remark was written
            lines.dropped += dropped - 1
