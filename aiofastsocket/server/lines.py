"""Lines for a standard stream whose reader may have stopped: nobody waits for it.

A write(2) to a pipe that is full blocks. O_NONBLOCK would help, but it belongs to the open file
description, which other processes have too: so a pipe or a terminal is opened anew, through
/proc/self/fd, and is ours alone. Facts: up to PIPE_BUF bytes go into a pipe as a whole or not at
all, pipe(7); poll(2) calls a pipe writable if there is room for so many.
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
    """Writes to a copy of a descriptor, which forks inherit; what finds no room is dropped, line by
    line, and counted."""

    def __init__(self, fd: int) -> None:
        self.dropped = 0  # lines, since that was told
        self._rest = b""  # of a line that was begun
        mode = os.fstat(fd).st_mode
        self._most = LARGEST if stat.S_ISREG(mode) else PIPE_BUF
        self._polled = stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
        self._socket: socket.socket | None = None
        self._fd = -1
        if self._polled:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            with suppress(OSError):  # no /proc, or a terminal of another user's
                self._fd = os.open(f"/proc/self/fd/{fd}", flags)
                self._polled = False
        if self._fd < 0:
            self._fd = os.dup(fd)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=self._fd)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a forked child: what was begun is the parent's to end, and to tell."""
        self.dropped, self._rest = 0, b""

    def fileno(self) -> int:
        """The copy."""
        return self._fd

    def write(self, text: bytes) -> bool:
        """Lines, each with its newline. Whether all of them were written."""
        if self._rest:
            self._rest = self._rest[self._try(self._rest[: self._most]) :]
            if self._rest:
                self.dropped += text.count(b"\n")
                return False
        at = 0
        while at < len(text):
            # Whole lines, as many as go at once; of one that is longer, a piece.
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
        """How many bytes there was room for."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if not self._polled or self._has_room():
                return os.write(self._fd, data)
        except OSError:  # it would block; or the disk is full, or nobody has the pipe
            pass
        return 0

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))


class FileLines(Lines):
    """The same to a file of that name, which is made if it is not there. owner: user and group that
    it is opened as: others may rename files in its folder, or put links there. Raises OSError."""

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
        """Another file may have the name now. Raises OSError; then lines go on to the old one."""
        fd = self._open()
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._rest = b""


@contextmanager
def _as(owner: tuple[int, int] | None) -> Iterator[None]:
    """With the rights of that user and group, and no other group's; if we may change them."""
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
    """Of Python's logging, on such a stream."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        lines, dropped = self._lines, self._lines.dropped
        try:
            text = (self.format(record) + "\n").encode(errors="backslashreplace")
        except Exception:  # as logging's own handlers: the caller's mistake is no error of his
            self.handleError(record)
            return
        remark = b"(%d lines were dropped: nobody read them)\n" % dropped if dropped else b""
        lines.dropped = 0
        lines.write(remark + text)
        if remark and lines.dropped > text.count(b"\n"):  # not even the remark was written
            lines.dropped += dropped - 1
