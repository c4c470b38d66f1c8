"""The listen table: one address, bound once, with a local listener (slot) for every worker.

The process that listens makes the table; its forked children inherit it and claim slots. What they
share (who serves what, counters) is in a page of shared memory, which any process that may read
this one's /proc entry can look at: see `tables_of`.

Source: native/include/fastsocket/fs.h.
"""

import errno
import os
import socket
import stat
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ._native import Handle, check, ffi, lib, text
from .channel import STEERINGS, Channel, address_text, host_port
from .errors import UsageError
from .peer import Peer, parse

GLOBAL: int = lib.FS_GLOBAL
"""In the place of a slot number: the global listener, or a process without a slot."""

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

PAGE_NAME = "/memfd:fastsocket-table"

_ADDRESS = ffi.offsetof("struct fs_table_info", "address")

SO_COOKIE = 57  # socket(7): which socket it is; descriptors' numbers are used again


def default_slots() -> int:
    """Two for each core this process may use: a reload runs two generations at once."""
    return min(2 * len(os.sched_getaffinity(0)), lib.FS_SLOTS_MAX)


@dataclass(frozen=True)
class TableInfo:
    """What holds for the whole table at one moment. others: connections accepted by processes
    without a slot. restored: times that the supervisor found that the page made no sense, and
    restored it. cookie: SO_COOKIE of the global listener."""

    address: str
    slots: int
    shared: bool
    stopping: bool
    wanted: str
    steer: str
    generation: int
    others: int
    restored: int
    cookie: int
    why: str


@dataclass(frozen=True)
class SlotInfo:
    """One slot at one moment. Counters are connections since the table was made.

    claims: times it changed hands. epoch: moves whenever its owner or `live` changes, and back.
    own, stolen, orphan, global_: accepted by this slot's owner, by where from. arrived: taken out
    of this slot's queue, by whomever. cookie: SO_COOKIE of its socket. What its owner shows of
    itself: open, connections that it holds (None: it does not count); busy, the share of its time
    that it worked (None: it does not tell); late, connections that it took because a sibling was.
    """

    slot: int
    pid: int
    tid: int
    cpu: int
    live: bool
    alive: bool
    used: bool
    claims: int
    epoch: int
    own: int
    stolen: int
    orphan: int
    global_: int
    cookie: int
    arrived: int
    open: int | None
    busy: float | None
    late: int

    @property
    def accepted(self) -> int:
        """All connections that this slot's owners accepted."""
        return self.own + self.stolen + self.orphan + self.global_


class _TableView(Handle):
    """Reading a table: what its maker, its heirs and onlookers have in common."""

    _table: Any

    def _open(self) -> Any:
        if self._table is None:
            raise ValueError("the listen table is closed")
        return self._table

    @property
    def closed(self) -> bool:
        """close() was called."""
        return self._table is None

    def info(self) -> TableInfo:
        """The table's state now."""
        i = ffi.new("struct fs_table_info *")
        lib.fs_table_read(self._open(), i)
        name = parse(bytes(ffi.buffer(i))[_ADDRESS : _ADDRESS + i.address_len])
        return TableInfo(
            host_port(name) if isinstance(name, tuple) else "unix",
            i.slots,
            i.shared,
            i.stopping,
            STEERINGS[i.wanted],
            STEERINGS[i.steer],
            i.generation,
            i.others,
            i.restored,
            i.cookie,
            text(i.why),
        )

    def slot(self, slot: int) -> SlotInfo:
        """One slot's state now. Raises OSError (EINVAL) if there is no such slot."""
        i = ffi.new("struct fs_slot_info *")
        check(lib.fs_table_read_slot(self._open(), slot, i), "read slot", slot)
        return SlotInfo(
            slot,
            i.pid,
            i.tid,
            i.cpu,
            i.live,
            i.alive,
            i.used,
            i.claims,
            i.epoch,
            i.own,
            i.stolen,
            i.orphan,
            getattr(i, "global"),
            i.cookie,
            i.arrived,
            i.open if i.open >= 0 else None,
            i.worked / i.lived if i.lived else None,
            i.late,
        )

    def slots(self) -> list[SlotInfo]:
        """All slots' states now, by number."""
        return [self.slot(i) for i in range(self.info().slots)]

    def close(self) -> None:
        """Give up this process's hold. May be called twice."""
        if self._table is not None:
            table, self._table = self._table, None
            lib.fs_table_free(table)


class _Watcher(Protocol):
    """Who has the table's descriptors registered somewhere."""

    before_close: Callable[[], None]


class ListenTable(_TableView):
    """Listen on a bound socket, with `slots` local listeners beside it.

    sock: a bound stream socket. One that listens already is converted if the kernel allows it and
        served shared otherwise, and so is one that is not TCP; `info()` says which and why.
    slots: None makes two a core; 0 none: everybody accepts from `sock`, and `records` limits the
        claims.
    first_is_slot: slot 0 is `sock` itself, for programs in which nobody accepts from it otherwise.
    supervised: this process alone decides on steering, and restores the shared page from what it
        knows, should one of those that serve the table have written nonsense there.

    A context manager. The socket stays the caller's, becomes non-blocking, and is really closed
    when the table is too. Raises OSError naming the call and address.
    Forked children have it; for a spawned one it is an argument of multiprocessing.Process, which
    pickles it with its descriptors.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        slots: int | None = None,
        records: int = 0,
        backlog: int = 2048,
        steer: str = "auto",
        first_is_slot: bool = False,
        supervised: bool = False,
    ) -> None:
        if steer not in STEERINGS:
            raise UsageError(f"steering {steer!r} is unknown: use {', '.join(STEERINGS)}")
        self._hold(sock, owned=False)
        if slots is not None and not 0 <= slots <= lib.FS_SLOTS_MAX:
            raise UsageError(f"{slots} slots: use 0 to {lib.FS_SLOTS_MAX}")
        options = ffi.new(
            "struct fs_table_options *",
            {
                "slots": default_slots() if slots is None else slots,
                "records": records,
                "backlog": backlog,
                "steer": STEERINGS.index(steer),
                "flags": (lib.FS_FIRST_IS_SLOT if first_is_slot else 0)
                | (lib.FS_SUPERVISED if supervised else 0),
            },
        )
        out = ffi.new("struct fs_table **")
        check(lib.fs_table_create(out, sock.fileno(), options), "listen", self.address)
        self._found(out[0])

    def _hold(self, sock: socket.socket, *, owned: bool) -> None:
        if not isinstance(sock, socket.socket):
            raise TypeError(f"a bound socket.socket is needed, not {sock!r}")
        self._table = None
        self.sock = sock
        self.address = address_text(sock)
        self.watchers: weakref.WeakSet[_Watcher] = weakref.WeakSet()
        self._owns_sock = owned

    def _found(self, table: Any) -> None:
        self._table = table
        self.address = address_text(self.sock)  # listen(2) binds what was not bound
        # As file objects made of a socket do: it stays open until both are closed.
        self.sock._io_refs += 1  # type: ignore[attr-defined]
        # accept(2) on a blocking one would wait there, with connections at other listeners.
        self.sock.setblocking(False)
        self.first_is_slot = lib.fs_table_fd(table, 0) == self.sock.fileno()
        _tables[_cookie(self.sock)] = self
        _open_tables.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd  # only who pickles pays for the import

        info = self.info()
        count = 0 if info.shared else info.slots
        slots = [self.fileno(i) for i in range(count)]
        fds = [lib.fs_table_page_fd(self._table), self.bell(), self.sock.fileno()]
        slots = slots[1:] if count and self.first_is_slot else slots
        return _adopt, (type(self), count, [DupFd(fd) for fd in fds + slots])

    def close(self) -> None:
        """Give up this process's hold. May be called twice.

        Raises RuntimeError while a server of a running loop serves it.
        """
        if self._table is None:
            return
        # An epoll registration outlives the descriptor while another process holds the socket.
        for watcher in list(self.watchers):
            watcher.before_close()
        super().close()
        _open_tables.discard(self)
        self.sock._decref_socketios()  # type: ignore[attr-defined]
        if self._owns_sock:
            self.sock.close()

    def bell(self) -> int:
        """A timerfd(2) that expires whenever claims change, and is never read: to be watched
        edge-triggered, by every process that wants to know."""
        return int(lib.fs_table_bell(self._open()))

    def __repr__(self) -> str:
        return f"<ListenTable {self.address}>"

    def fileno(self, slot: int = GLOBAL) -> int:
        """Descriptor of a slot's listener; of the global one for GLOBAL or a shared table."""
        return check(lib.fs_table_fd(self._open(), slot), "slot", slot)

    def core(self, slot: int) -> int:
        """The core that a slot of a supervised table is for, as its maker knows; -1: none."""
        return lib.fs_table_core(self._open(), slot)

    def handle(self) -> Any:
        """The C table, struct fs_table *; good until close()."""
        return self._open()

    def pointer(self) -> int:
        """Its address, for who is compiled."""
        return int(ffi.cast("uintptr_t", self._open()))

    def accept_through(self, channel: Channel) -> None:
        """Accept by the channel's call, not accept4(2); the channel stays the caller's to keep."""
        lib.fs_table_set_channel(self._open(), channel.handle())

    def claim(self, slot: int | None = None, cpu: int = -1) -> int:
        """Claim a slot (None: any free one) for this thread; returns its number.

        The claim of a dead owner is taken over. Raises OSError EBUSY while a
        living owner has it, or all have owners.
        """
        wanted = lib.FS_ANY_SLOT if slot is None else slot
        return check(lib.fs_table_claim(self._open(), wanted, cpu), "claim slot", self.address)

    def hand_over(self, slot: int, pid: int) -> None:
        """Make process `pid` the slot's owner, whoever is. OSError ESRCH if it does not run."""
        check(lib.fs_table_hand_over(self._open(), slot, pid), "hand over slot", self.address)

    def release(self, slot: int) -> None:
        """Give up this thread's claim and steer away. OSError EPERM if it is somebody else's."""
        check(lib.fs_table_release(self._open(), slot), "release slot", self.address)

    def reap(self) -> int:
        """Clear the claims of dead owners, steer away from them; how many there were."""
        return check(lib.fs_table_reap(self._open()), "reap", self.address)

    def activate(self, slot: int, live: bool = True) -> None:
        """Let new connections arrive at the slot, or no longer."""
        check(lib.fs_table_activate(self._open(), slot, live), "steer", self.address)

    def steer(self, wanted: str) -> None:
        """Choose "cpu", "spread" or "auto" (which decides, and says why in the info)."""
        check(lib.fs_table_steer(self._open(), STEERINGS.index(wanted)), "steer", self.address)

    def review(self) -> bool:
        """Under "auto", leave `cpu` if the cores' shares turn out uneven. True: it changed."""
        return check(lib.fs_table_review(self._open()), "steer", self.address) == 1

    def accept(self, slot: int, source: int, peer: Peer | None = None) -> int:
        """Accept from slot `source` (or GLOBAL) for the owner of `slot`, counted in the page.

        Returns the connection's descriptor, non-blocking and close-on-exec, and leaves the client's
        address in `peer`. Raises OSError as accept4(2); BlockingIOError if none waits.
        """
        rc = self.try_accept(slot, source, peer)
        return rc if rc >= 0 else check(rc, "accept", self.address)

    def try_accept(self, slot: int, source: int, peer: Peer | None = None) -> int:
        """As accept, but returns -errno: most calls in a loop end with -EAGAIN."""
        if peer is None:
            return lib.fs_table_accept(self._open(), slot, source, ffi.NULL, ffi.NULL, _FLAGS)
        peer.clear()
        return lib.fs_table_accept(self._open(), slot, source, peer.pointer, peer.length, _FLAGS)

    def copy_options(self) -> None:
        """Copy the global listener's socket options to every slot, again."""
        check(lib.fs_table_copy_options(self._open()), "setsockopt", self.address)

    def stop_arrivals(self) -> None:
        """Full stop, first half: no new handshake starts; those under way may finish."""
        check(lib.fs_table_stop_arrivals(self._open()), "stop", self.address)

    def shutdown(self) -> None:
        """Full stop, second half, with the queues empty: shutdown(2) of all, for all processes."""
        check(lib.fs_table_shutdown(self._open()), "shutdown", self.address)

    def queued(self, slot: int) -> int:
        """Connections that wait to be accepted at a slot (or GLOBAL)."""
        return check(lib.fs_table_queued(self._open(), slot), "queue", self.address)

    def half_open(self) -> int:
        """Handshakes under way at the table's port, whichever slot they belong to."""
        return check(lib.fs_table_half_open(self._open()), "half open", self.address)


# By the cookie of their sockets. Whoever has kept only the socket still has the table, until it is
# closed.
_tables: "weakref.WeakValueDictionary[int, ListenTable]" = weakref.WeakValueDictionary()
_open_tables: "set[ListenTable]" = set()


def _cookie(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
    return int.from_bytes(raw, sys.byteorder)


def table_of(sock: socket.socket) -> ListenTable | None:
    """The table whose global listener `sock` is, made or inherited by this process."""
    return _tables.get(_cookie(sock)) if _tables and sock.fileno() >= 0 else None


def _adopt(kind: type[ListenTable], count: int, dups: list[Any]) -> ListenTable:
    """Unpickle a table: its descriptors were passed along."""
    memfd, bell, sock_fd, *slots = (dup.detach() for dup in dups)
    table = kind.__new__(kind)
    sock = socket.socket(fileno=sock_fd)
    table._hold(sock, owned=True)
    if count > len(slots):
        slots.insert(0, sock_fd)
    out = ffi.new("struct fs_table **")
    try:
        rc = lib.fs_table_adopt(out, memfd, bell, sock_fd, ffi.new("int[]", slots), count)
        check(rc, "adopt", table.address)
    except OSError:
        sock.close()
        for fd in {memfd, bell, *slots} - {sock_fd}:
            os.close(fd)
        raise
    table._found(out[0])
    return table


class TableView(_TableView):
    """A read-only look at another process's table."""

    def __init__(self, page_fd: int) -> None:
        self._table = None
        out = ffi.new("struct fs_table **")
        check(lib.fs_table_attach(out, page_fd), "attach")
        self._table = out[0]


def tables_of(pid: int) -> Iterator[TableView]:
    """Views of the tables that process `pid` holds, in the order it made them.

    Raises OSError if the process is gone or may not be looked at (proc(5), /proc/pid/fd).
    """
    folder = f"/proc/{pid}/fd"
    for name in sorted(os.listdir(folder), key=int):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"{folder}/{name}").startswith(PAGE_NAME):
                yield _view(f"{folder}/{name}")


def _view(path: str) -> TableView:
    """What the name stands for now may be another file, whose opening has effects (a terminal, a
    fifo): it is looked at before it is opened."""
    seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(seen).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        # Somebody may hold a lease on it, fcntl(2): nobody is to wait for that.
        fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(seen)
    try:
        return TableView(fd)
    finally:
        os.close(fd)  # the mapping stays
