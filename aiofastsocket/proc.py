"""Other processes, as proc(5) shows them: their families, names and descriptors.

A process may end at any moment, or we may not be allowed to inspect it. It can choose any name, so
a name is input.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def all_pids() -> list[int]:
    """The ids of all processes, in ascending order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def program_name(pid: int) -> str:
    """/proc/PID/comm, with "?" for each unprintable character; "?" if the process has ended."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_bytes().strip().decode(errors="replace")
        return "".join(c if c.isprintable() else "?" for c in name)
    return "?"


def parent(pid: int) -> int:
    """The id of the parent; 0 if the process has no parent or has ended.

    It is field 4 of /proc/PID/stat, counted after the last parenthesis.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """The processes that threads of `pid` started, /proc/PID/task/TID/children."""
    found: list[int] = []
    with suppress(OSError):  # it ended, or we may not inspect it
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # this thread ended
                found += map(int, (task / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


def relatives() -> Iterator[int]:
    """Our children, our siblings, and our ancestors."""
    above = os.getppid()
    for pid in (*children(os.getpid()), *children(above)):
        if pid != os.getpid():
            yield pid
    while above > 0:
        yield above
        above = parent(above)


def descriptors(pid: int) -> Iterator[tuple[str, str]]:
    """Path and meaning of each descriptor, in their order: ("/proc/7/fd/3", "socket:[1234]").

    Raises OSError if the process has ended or we may not inspect it.
    """
    folder = f"/proc/{pid}/fd"
    for number in sorted(os.listdir(folder), key=int):
        with suppress(FileNotFoundError):  # closed meanwhile
            yield f"{folder}/{number}", os.readlink(f"{folder}/{number}")


def sockets(pid: int) -> set[int]:
    """Inodes of the sockets that the process holds. Raises OSError, as `descriptors` does."""
    found = set()
    for _, meaning in descriptors(pid):
        kind, _, inode = meaning.partition(":[")
        if kind == "socket":
            found.add(int(inode[:-1]))
    return found


def holder_of(inode: int) -> int | None:
    """A relative of this process that also holds the socket; None if we find none."""
    for pid in relatives():
        with suppress(OSError):
            if inode in sockets(pid):
                return pid
    return None


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes, proc(5) statm; 0 if the process has ended."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
