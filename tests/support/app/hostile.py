"""A worker that attacks its service: it overwrites the shared page as an exploit could.

root imports it (--preload) with all that a worker needs: the user nobody cannot read Python.
"""

import asyncio
import fcntl
import importlib
import mmap
import os
import socket
import struct
import threading
import time

from targets import Who  # type: ignore[import-not-found]

for name in ("uvloop", "aiofastsocket.loop.on_uvloop", "aiofastsocket.loop.on_asyncio"):
    importlib.import_module(name)

FLAG_SET = 0x1EE7F1A6  # native/core/page.h
F_ADD_SEALS, F_SEAL_SEAL = 1033, 1  # fcntl(2)
SO_LOCK_FILTER = 44
BELLS = ("anon_inode:[eventfd]", "anon_inode:[timerfd]")


def page() -> int:
    """The descriptor of the table's page."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:fastsocket-table"):
                return int(name)
        except FileNotFoundError:
            pass
    raise AssertionError("no page")


def refused(what: str) -> str:
    """The kernel's answer to a change of the page's size, or to a new seal."""
    fd = page()
    try:
        if what == "seal":
            fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL)
        else:
            os.ftruncate(fd, {"shrink": 0, "grow": 1 << 20}[what])
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "allowed"


def scribble(what: str, seconds: float) -> None:
    """Overwrite the whole page: with random bytes, zeros, a living thread's id (a process that
    reads it in the lock's place waits for the thread), or every flag set."""
    fd = page()
    size = os.fstat(fd).st_size
    words = {"zeros": 0, "held": threading.get_native_id(), "flags": FLAG_SET}
    end = time.monotonic() + seconds
    with mmap.mmap(fd, size) as shared:
        while time.monotonic() < end:
            data = os.urandom(size)
            if what != "random":
                data = struct.pack("=I", words[what]) * (size // 4)
            shared[:] = data


def lock_filters() -> None:
    """Have the kernel refuse every steering program from now on, to root too: socket(7)."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        sock.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)
        except OSError:
            pass


def block_the_bell() -> None:
    """Make a ring of the shared bell wait, for ever if possible."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") in BELLS:
                fd = int(name)
                os.set_blocking(fd, True)
                os.write(fd, struct.pack("=Q", (1 << 64) - 2))
        except OSError:
            pass


class Hostile(Who):  # type: ignore[misc]
    """Obeys "refused shrink", "scribble random 2", "filter" and "bell"; else it is like Who."""

    def data_received(self, data: bytes) -> None:
        verb, *arguments = data.decode().split()
        if verb == "refused":
            self.transport.write(refused(*arguments).encode())
            self.transport.close()
            return
        if verb == "filter":
            lock_filters()
        if verb == "bell":
            block_the_bell()
        if verb == "scribble":
            what, seconds = arguments
            run = asyncio.get_running_loop().run_in_executor
            run(None, scribble, what, float(seconds))
        super().data_received(data)
