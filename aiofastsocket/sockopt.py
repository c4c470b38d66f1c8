"""Socket options that are wishes: where a kernel or a sandbox refuses one, we go on without it.

gVisor says ENOPROTOOPT to an option that it does not know, a seccomp filter whatever its author
chose; the socket itself, and whatever else is wrong with it, was looked at before.
"""

import logging
import socket

logger = logging.getLogger("aiofastsocket")

_told: set[str] = set()  # in this process, and so in its forks: each is told once


def wish(sock: socket.socket, level: int, name: str, value: int) -> bool:
    """Set an option by its name in the socket module. Where that is refused, say so once in a
    process and return False."""
    try:
        sock.setsockopt(level, getattr(socket, name), value)
    except OSError as error:
        if name not in _told:
            _told.add(name)
            logger.warning("%s is refused: %s; going on without", name, error.strerror)
        return False
    return True


def look(sock: socket.socket, level: int, name: str) -> int:
    """The value of an option; 0, which is a new socket's, where it is not told."""
    try:
        return sock.getsockopt(level, getattr(socket, name))
    except OSError:
        return 0


def listens(sock: socket.socket) -> bool:
    """Whether it listens already; False where SO_ACCEPTCONN is refused."""
    return bool(look(sock, socket.SOL_SOCKET, "SO_ACCEPTCONN"))
