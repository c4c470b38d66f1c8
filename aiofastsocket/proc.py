"""Other processes, as proc(5) shows them: their families, names and descriptors.

A process may be gone at any moment, or not be ours to look at; and it can call itself what it
likes, so a name is input.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def all_pids() -> list[int]:
    """Every process that there is, in order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def program_name(pid: int) -> str:
    """/proc/PID/comm, with question marks in it for what cannot be printed; "?" if it is gone."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_bytes().strip().decode(errors="replace")
        return "".join(c if c.isprintable() else "?" for c in name)
    return "?"


def parent(pid: int) -> int:
    """/proc/PID/stat, field 4, after the last parenthesis; 0 if it has none, or is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """Processes that its threads started, /proc/PID/task/TID/children."""
    found: list[int] = []
    with suppress(OSError):  # it ended, or is not ours to look at
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # this thread did
                found += map(int, (task / "children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
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

    Raises OSError if the process is gone or may not be looked at.
    """
    folder = f"/proc/{pid}/fd"
    for number in sorted(os.listdir(folder), key=int):
        with suppress(FileNotFoundError):  # closed meanwhile
            yield f"{folder}/{number}", os.readlink(f"{folder}/{number}")


def sockets(pid: int) -> set[int]:
    """Inodes of the sockets that it holds. Raises OSError, as `descriptors`."""
    found = set()
    for _, meaning in descriptors(pid):
        kind, _, inode = meaning.partition(":[")
        if kind == "socket":
            found.add(int(inode[:-1]))
    return found


def holder_of(inode: int) -> int | None:
    """A relative of ours that holds this socket too; None if there is none that we may look at."""
    for pid in relatives():
        with suppress(OSError):
            if inode in sockets(pid):
                return pid
    return None


def resident_bytes(pid: int) -> int:
    """Memory of a process, proc(5) statm; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
