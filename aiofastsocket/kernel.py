"""The kernel's data on listening sockets, which every process may read.

Accept queues come from sock_diag(7), counters of all sockets from /proc/net/netstat, and the kernel
module's counters from /proc/net/fastsocket (native/module/proc.c). They are those of this process's
network namespace. This module does not know tables.
"""

from dataclasses import dataclass
from pathlib import Path

from ._native import check, ffi, lib


@dataclass(frozen=True)
class Queue:
    """The queue of a listener: connections that wait to be accepted, and their limit."""

    length: int
    limit: int


def listen_queues() -> dict[int, Queue]:
    """The queue of each TCP listener, by its SO_COOKIE.

    Raises OSError if the kernel has no inet_diag, or a filter refuses netlink.
    """
    room = 1024
    while True:
        queues = ffi.new("struct fs_queue[]", room)
        count = check(lib.fs_queues(queues, room), "sock_diag")
        if count <= room:
            found = (queues[i] for i in range(count))
            return {one.cookie: Queue(one.length, one.limit) for one in found}
        room = 2 * count


def netstat(path: Path = Path("/proc/net/netstat")) -> dict[str, int]:
    """The counters of TcpExt, proc(5). Raises OSError if the file is not available."""
    names: list[str] = []
    for line in path.read_text().splitlines():
        kind, *words = line.split()
        if kind == "TcpExt:" and not names:
            names = words
        elif kind == "TcpExt:":
            return dict(zip(names, map(int, words), strict=False))
    return {}


@dataclass(frozen=True)
class DeviceCore:
    """The module's counters of a listener for one core.

    core: None for processes without a local listener. inode: of the program's socket. own, global_,
    adopted: connections that the core's owners accepted from their own local listener, from the
    global listener, and from local listeners of others. queue: connections that wait.
    """

    address: str
    inode: int
    core: int | None
    live: bool
    own: int
    global_: int
    adopted: int
    queue: int
    owners: tuple[int, ...]


def device_cores(path: Path = Path("/proc/net/fastsocket")) -> list[DeviceCore]:
    """All lines of the file, those of a listener together. Raises OSError without the module."""
    found = []
    for line in path.read_text().splitlines()[1:]:
        address, inode, core, live, own, taken, adopted, queue, owners = line.split()
        found.append(
            DeviceCore(
                address,
                int(inode),
                None if core == "-" else int(core),
                live == "1",
                int(own),
                int(taken),
                int(adopted),
                int(queue),
                () if owners == "-" else tuple(map(int, owners.split(","))),
            )
        )
    return found
