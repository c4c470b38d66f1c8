"""The listen table: one address, bound once, with a local listener (slot) for every worker.

The process that listens makes the table. Its forked children inherit the table and claim slots.
Claims and counters are in a page of shared memory. Any process that may read this one's /proc entry
can read the page: see `tables_of`.

Source: native/include/fastsocket/fs.h.
"""

import logging
import socket
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .._native import check, ffi, lib
from ..address import Peer, address_text
from ..channel import Channel
from ..choices import STEERINGS, check_slots, check_steering, default_slots
from ..private import keep_open, let_close
from ..sockopt import first_time
from .passing import pack, unpack
from .registry import Registry
from .view import GLOBAL, Readable

# Texts for the log. Slots need SO_REUSEPORT, so any other socket of the same user that sets it may
# listen at the same address.
_JOINED = "another socket listens there too, as SO_REUSEPORT allows any process of this user; "
_PASSED_BY = "new connections are steered past it for as long as this service runs"
_HASHED = "it takes its share of the new connections, since nothing steers them here"

logger = logging.getLogger("aiofastsocket")

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class _Watcher(Protocol):
    """An object that has registered the table's descriptors somewhere."""

    before_close: Callable[[], None]


class ListenTable(Readable):
    """Listen on a bound socket, with local listeners (slots) next to it.

    A context manager. The socket stays the caller's and becomes non-blocking; it is closed when
    both the socket and the table are. Forked children inherit the table. A spawned child gets it as
    an argument of multiprocessing.Process, which pickles it with its descriptors.

    If the kernel or a sandbox refuses a call that slots need, all processes share `sock`, and a
    warning is logged, once per process.

    Args:
        sock: a bound stream socket. If it listens already, or is not TCP, it is served shared where
            the kernel allows nothing else; `info()` says which and why.
        slots: number of slots. None: two for each core, at least eight. 0: none, all processes
            accept from `sock`.
        records: with `slots=0`, the number of processes that can be counted.
        backlog: connections that may wait at each listener.
        steer: "auto", "cpu" or "spread".
        first_is_slot: slot 0 is `sock` itself, for programs in which nothing else accepts from it.
        supervised: this process alone decides on steering, and restores the shared page if another
            process has written something invalid there.
        all_served: the processes that serve the table look after every slot, as LocalListener and
            the loops do. If the kernel refuses a steering program, its own hash may then choose
            among the slots. Without this, `sock` is shared in that case.
        timed: connections carry the time of their first bytes (SO_TIMESTAMPNS, socket(7)), so that
            the wait of each is measured. Otherwise that of one in 32 is.

    Raises:
        OSError: a system call is refused; the error names the call and the address.
        UsageError: an invalid number of slots, or an unknown word for steering.
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
        all_served: bool = False,
        timed: bool = False,
    ) -> None:
        check_steering(steer)
        self._hold(sock, owned=False)
        options = ffi.new(
            "struct fs_table_options *",
            {
                "slots": default_slots() if slots is None else check_slots(slots, 0),
                "records": records,
                "backlog": backlog,
                "steer": STEERINGS.index(steer),
                "flags": (lib.FS_FIRST_IS_SLOT if first_is_slot else 0)
                | (lib.FS_SUPERVISED if supervised else 0)
                | (lib.FS_HASH_WILL_DO if all_served else 0)
                | (lib.FS_TIMED if timed else 0),
            },
        )
        out = ffi.new("struct fs_table **")
        check(lib.fs_table_create(out, sock.fileno(), options), "listen", self.address)
        self._found(out[0])
        if not supervised:  # a supervisor logs a line of its own
            self._tell_what_is_refused()

    def _tell_what_is_refused(self) -> None:
        info = self.info()
        if lib.fs_table_refused(self._table) and first_time(info.why):
            hashed = "no steering, the kernel's own hash chooses a local listener"
            what = "no local listeners" if info.shared else hashed
            logger.warning("%s: %s: %s", self.address, what, info.why)

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
        self.address = address_text(self.sock)  # listen(2) binds an unbound socket
        # The socket stays open until both are closed, as with its file objects.
        keep_open(self.sock)
        # accept(2) on a blocking socket would wait there while connections wait at other listeners.
        self.sock.setblocking(False)
        self.first_is_slot = lib.fs_table_fd(table, 0) == self.sock.fileno()
        _tables.add(self.sock, self)

    def __reduce__(self) -> tuple[Any, ...]:
        info = self.info()
        if min(self.bell(), lib.fs_table_page_fd(self._table)) < 0:
            raise ValueError(f"the listen table of {self.address} cannot be pickled: {info.why}")
        count = 0 if info.shared else info.slots
        slots = [self.fileno(i) for i in range(count)]
        return _unpickled, (type(self), count, pack(self._table, self.sock, slots))

    def close(self) -> None:
        """Close the table in this process. May be called twice.

        Raises RuntimeError while a server of a running loop serves it.
        """
        if self._table is None:
            return
        # An epoll registration outlives the descriptor while another process holds the socket.
        for watcher in list(self.watchers):
            watcher.before_close()
        super().close()
        _tables.discard(self)
        let_close(self.sock)
        if self._owns_sock:
            self.sock.close()

    def bell(self) -> int:
        """Descriptor of a timerfd(2) that expires whenever claims change. It is never read: watch
        it edge-triggered."""
        return int(lib.fs_table_bell(self._open()))

    def page_fd(self) -> int:
        """Descriptor of the table's page; -1 if a sandbox refuses the calls that it needs."""
        return int(lib.fs_table_page_fd(self._open()))

    def __repr__(self) -> str:
        return f"<ListenTable {self.address}>"

    def fileno(self, slot: int = GLOBAL) -> int:
        """Descriptor of a slot's listener; of the global listener for GLOBAL or a shared table."""
        return check(lib.fs_table_fd(self._open(), slot), "slot", slot)

    def core(self, slot: int) -> int:
        """The core of a slot of a supervised table; -1: none."""
        return lib.fs_table_core(self._open(), slot)

    def handle(self) -> Any:
        """The C table (`struct fs_table` pointer), valid until close()."""
        return self._open()

    def pointer(self) -> int:
        """Address of the C table, for compiled callers."""
        return int(ffi.cast("uintptr_t", self._open()))

    def accept_through(self, channel: Channel) -> None:
        """Accept by the channel's call instead of accept4(2). The caller keeps the channel."""
        lib.fs_table_set_channel(self._open(), channel.handle())

    def claim(self, slot: int | None = None, cpu: int = -1) -> int:
        """Claim a slot (None: any free one) for this thread; returns its number.

        The claim of a dead owner is taken over. Raises OSError (EBUSY) while a living owner has the
        slot, or while all slots have living owners.
        """
        wanted = lib.FS_ANY_SLOT if slot is None else slot
        return check(lib.fs_table_claim(self._open(), wanted, cpu), "claim slot", self.address)

    def hand_over(self, slot: int, pid: int) -> None:
        """Make process `pid` the owner of the slot, in place of any other. Raises OSError (ESRCH)
        if the process does not run."""
        check(lib.fs_table_hand_over(self._open(), slot, pid), "hand over slot", self.address)

    def release(self, slot: int) -> None:
        """Give up this thread's claim and steer new connections elsewhere. Raises OSError (EPERM)
        if the claim is another thread's."""
        check(lib.fs_table_release(self._open(), slot), "release slot", self.address)

    def reap(self) -> int:
        """Clear the claims of dead owners and steer away from them; returns their number."""
        return check(lib.fs_table_reap(self._open()), "reap", self.address)

    def activate(self, slot: int, live: bool = True) -> None:
        """Steer new connections to the slot, or no longer."""
        check(lib.fs_table_activate(self._open(), slot, live), "steer", self.address)

    def steer(self, wanted: str) -> None:
        """Choose the steering: "cpu", "spread", or "auto", which decides; info() has the reason."""
        check(lib.fs_table_steer(self._open(), STEERINGS.index(wanted)), "steer", self.address)

    def review(self) -> bool:
        """Under "auto", leave `cpu` if the cores' shares are uneven. Returns whether it did."""
        return check(lib.fs_table_review(self._open()), "steer", self.address) == 1

    def joined(self) -> bool:
        """Whether another program's socket has begun to listen at the address. True once, in one of
        the table's processes; always False if the kernel does not list sockets."""
        return lib.fs_table_joined(self._open()) == 1

    def of_strangers(self) -> str:
        """The line for the log after `joined` has returned True."""
        share = _HASHED if self.info().steer == "hash" else _PASSED_BY
        return f"{self.address}: {_JOINED}{share}"

    def accept(self, slot: int, source: int, peer: Peer | None = None) -> int:
        """Accept from slot `source` (or GLOBAL) for the owner of `slot`, counted in the page.

        Returns the connection's descriptor, non-blocking and close-on-exec, and leaves the client's
        address in `peer`. Raises OSError as accept4(2) does; BlockingIOError if none waits.
        """
        rc = self.try_accept(slot, source, peer)
        return rc if rc >= 0 else check(rc, "accept", self.address)

    def try_accept(self, slot: int, source: int, peer: Peer | None = None) -> int:
        """Like accept, but returns -errno: most calls in a loop end with -EAGAIN."""
        if peer is None:
            return lib.fs_table_accept(self._open(), slot, source, ffi.NULL, ffi.NULL, _FLAGS)
        peer.clear()
        return lib.fs_table_accept(self._open(), slot, source, peer.pointer, peer.length, _FLAGS)

    def copy_options(self) -> None:
        """Copy the global listener's socket options to every slot, again."""
        check(lib.fs_table_copy_options(self._open()), "setsockopt", self.address)

    def stop_arrivals(self) -> None:
        """Full stop, first half: no new handshake starts; handshakes in progress may finish."""
        check(
            lib.fs_table_stop_arrivals(self._open()), "cannot stop new connections at", self.address
        )

    def shutdown(self) -> None:
        """Full stop, second half, after the queues are empty: shutdown(2) of all listeners, for all
        processes."""
        check(lib.fs_table_shutdown(self._open()), "shutdown", self.address)

    def queued(self, slot: int) -> int:
        """Connections that wait to be accepted at a slot (or GLOBAL)."""
        return check(lib.fs_table_queued(self._open(), slot), "queue", self.address)

    def half_open(self) -> int:
        """Handshakes in progress at the table's port, for all slots."""
        return check(lib.fs_table_half_open(self._open()), "half open", self.address)


# A program that has kept only the socket still has the table, until the table is closed.
_tables: Registry[ListenTable] = Registry()


def table_of(sock: socket.socket) -> ListenTable | None:
    """The table whose global listener `sock` is, made or inherited by this process."""
    return _tables.find(sock)


def _unpickled(kind: type[ListenTable], count: int, packed: list[Any]) -> ListenTable:
    handle, sock = unpack(count, packed)
    table = kind.__new__(kind)
    table._hold(sock, owned=True)
    table._found(handle)
    return table
