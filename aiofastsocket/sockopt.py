"""Optional socket options: if a kernel or a sandbox refuses one, we continue without it.

gVisor returns ENOPROTOOPT for an option that it does not know. A seccomp filter returns any error
that its author chose. The socket itself, and any other fault of it, was checked before.
"""

import logging
import socket

logger = logging.getLogger("aiofastsocket")

_told: set[str] = set()  # names that this process has logged; its forks inherit them


def first_time(what: str) -> bool:
    """Whether to log `what`: a refused option stays refused, so it is logged only once."""
    if what in _told:
        return False
    _told.add(what)
    return True


def wish(sock: socket.socket, level: int, name: str, value: int) -> bool:
    """Set an option by its name in the socket module. If it is refused, log that once and
    return False."""
    try:
        sock.setsockopt(level, getattr(socket, name), value)
    except OSError as error:
        if first_time(name):
            logger.warning("%s is refused: %s; continuing without it", name, error.strerror)
        return False
    return True


def look(sock: socket.socket, level: int, name: str) -> int:
    """The value of an option; 0, the value of a new socket, if getsockopt(2) is refused."""
    try:
        return sock.getsockopt(level, getattr(socket, name))
    except OSError:
        return 0


def listens(sock: socket.socket) -> bool:
    """Whether a socket that was made elsewhere listens already.

    If SO_ACCEPTCONN is refused, the socket counts as listening and so stays as it is. That is
    logged once.
    """
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        if first_time("SO_ACCEPTCONN"):
            text = "SO_ACCEPTCONN is refused: %s; sockets made elsewhere stay as they are, shared"
            logger.warning(text, error.strerror)
        return True
