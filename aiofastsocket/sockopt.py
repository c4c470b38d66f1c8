"""Socket options that are wishes: where a kernel or a sandbox refuses one, we go on without it.

gVisor says ENOPROTOOPT to an option that it does not know, a seccomp filter whatever its author
chose; the socket itself, and whatever else is wrong with it, was looked at before.
"""

import logging
import socket

logger = logging.getLogger("aiofastsocket")

_told: set[str] = set()  # in this process, and so in its forks


def first_time(what: str) -> bool:
    """Whether that is to be told: what is refused once is refused always, and told once."""
    if what in _told:
        return False
    _told.add(what)
    return True


def wish(sock: socket.socket, level: int, name: str, value: int) -> bool:
    """Set an option by its name in the socket module. Where that is refused, say so once and
    return False."""
    try:
        sock.setsockopt(level, getattr(socket, name), value)
    except OSError as error:
        if first_time(name):
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
    """Whether a socket that somebody else made listens already. Where SO_ACCEPTCONN is refused it
    is taken for one that does, and so left as it is; that is said once."""
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        if first_time("SO_ACCEPTCONN"):
            text = "SO_ACCEPTCONN is refused: %s; given sockets are served as they are, shared"
            logger.warning(text, error.strerror)
        return True
