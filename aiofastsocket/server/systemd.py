"""systemd's two protocols: sockets passed in (sd_listen_fds(3)) and state told (sd_notify(3))."""

import logging
import os
import socket

logger = logging.getLogger("aiofastsocket")

FIRST_FD = 3  # SD_LISTEN_FDS_START


def take_listen_fds() -> list[int]:
    """Descriptors that systemd passed to this very process; the variables are then cleared."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    fds = list(range(FIRST_FD, FIRST_FD + int(count)))
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds


def notify(state: str) -> None:
    """Tell the service manager, if there is one: "READY=1" or "STOPPING=1"."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:  # a manager that does not listen must not end the service
            logger.warning("NOTIFY_SOCKET %s: %s", path, error.strerror)
