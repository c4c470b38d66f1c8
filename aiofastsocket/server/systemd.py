"""systemd's two protocols: sockets passed in (sd_listen_fds(3)) and state sent (sd_notify(3))."""

import logging
import os
import socket
import time

logger = logging.getLogger("aiofastsocket")

FIRST_FD = 3  # SD_LISTEN_FDS_START


def take_listen_fds() -> list[int]:
    """The descriptors that systemd passed to this very process; the variables are then cleared."""
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
    """Send states, such as "READY=1" and "STATUS=2 workers", to the service manager, if there is
    one; all in one message."""
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
    """The state for `notify` at the start of a reload; READY=1 follows at the end. The time lets
    the manager tell several reloads apart (Type=notify-reload)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_seconds() -> float | None:
    """The time within which the manager expects WATCHDOG=1, sd_watchdog_enabled(3); None: it does
    not expect it."""
    text = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 1e6 if meant and text.isdecimal() and int(text) > 0 else None


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables of the environment that are for the supervisor only, not for its workers."""
