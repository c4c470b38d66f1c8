"""Is a socket ours alone? One that another process holds too is served as it is.

uvicorn, hypercorn and others bind a socket, start workers, and each of them calls listen(). Local
listeners made by one worker would take the connections away from all others.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def holder_of(sock: socket.socket) -> int | None:
    """A process that holds the same socket: an ancestor, a sibling or a child of ours.

    None if there is none, or none that we may look at: proc(5), /proc/pid/fd.
    """
    link = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    for pid in _relatives():
        folder = f"/proc/{pid}/fd"
        with suppress(OSError):  # gone, or not ours to look at
            for name in os.listdir(folder):
                with suppress(FileNotFoundError):
                    if os.readlink(f"{folder}/{name}") == link:
                        return pid
    return None


def _relatives() -> Iterator[int]:
    parent = os.getppid()
    for pid in (*_children(os.getpid()), *_children(parent)):
        if pid != os.getpid():
            yield pid
    while parent > 0:
        yield parent
        parent = _parent(parent)


def _parent(pid: int) -> int:
    """proc(5), /proc/pid/stat: field 4, after the last parenthesis."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found
