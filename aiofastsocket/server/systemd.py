"""systemd's two protocols: sockets passed in (sd_listen_fds(3)) and state told (sd_notify(3))."""

import logging
import os
import socket
import time

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


def notify(*states: str) -> None:
    """Tell the service manager, if there is one: "READY=1", "STATUS=2 workers" ..., at once."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as sock:
        try:
            sock.sendto("\n".join(states).encode(), address)
        except OSError as error:  # a manager that does not listen must not end the service
            logger.warning("NOTIFY_SOCKET %s: %s", path, error.strerror)


def reloading() -> str:
    """For `notify`: what is followed by READY=1 when it is over. The time tells the manager which
    of several it is (Type=notify-reload)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_seconds() -> float | None:
    """Within so many seconds the manager wants to hear WATCHDOG=1, sd_watchdog_enabled(3)."""
    text = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 1e6 if meant and text.isdecimal() and int(text) > 0 else None


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Of the environment: the supervisor's own, not its workers'."""
