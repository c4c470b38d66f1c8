"""One thread's part in a listen table, for Python: a loop or a selector polls the part's sources.

C chooses the sources, and decides when a sibling's connection may be taken (native/core/part.c and
compare.c). It calls us back when claims change, never for a connection.
"""

import errno
import os
import select
import signal
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from .._native import check, ffi, lib, on_poller
from ..address import Address, Peer
from .pulse import Pulse
from .table import ListenTable
from .view import GLOBAL

CLAIMS = GLOBAL - 1
"""In the place of a source: the descriptor that is readable when claims may have changed."""

Add = Callable[[int, int, bool], None]
Remove = Callable[[int], object]


class _Poller:
    """The object that C calls to have descriptors polled.

    Bell and neighbour would always be readable for a level-triggered poller. So they are in an
    epoll set of their own, the source CLAIMS.
    """

    def __init__(self, add: Add, remove: Remove) -> None:
        self.claims = select.epoll()
        self.shared = False  # in a forked child: the parent shares `claims`
        self.failure: BaseException | None = None
        self._add, self._remove = add, remove

    def add(self, fd: int, source: int, edge: bool) -> int:
        try:
            if source <= CLAIMS:
                self.claims.register(fd, select.EPOLLIN | select.EPOLLET)
            else:
                self._add(fd, source, edge)
        except BaseException as error:  # the caller of C raises it again
            self.failure = error
            return -(getattr(error, "errno", None) or errno.EINVAL)
        return 0

    def remove(self, fd: int, source: int) -> None:
        if source > CLAIMS:
            self._remove(fd)
        elif not self.shared:
            with suppress(OSError):
                self.claims.unregister(fd)


on_poller(_Poller.add, _Poller.remove)
_POLLER = ffi.addressof(lib, "part_poller")


def _none(*_: object) -> int:
    """may_take of a part that does not watch: no connections."""
    return 0


def _never() -> int:
    """look_due of a part that does not watch: no look is due."""
    return -1


class LocalListener:
    """Accepts from a table, for the calling thread only.

    Used alone, it accepts from the global listener and from slots without an owner. A selector or a
    loop calls `watch`: then it claims a slot, and accepts from that slot too.

    Args:
        table: the table.
        slot: a slot that the caller claims, activates and releases itself. GLOBAL: a free one is
            claimed while this watches.
        on_close: called when the table is about to be closed while this is watched; it may raise.
            Without it, watching ends and the slot is given up.

    Attributes:
        table: the table.
        peer: address of the client that was accepted last.
        may_take: returns the number of connections that may be taken from a source now; called
            with the source and the largest number wanted. 0 leaves them to the sibling.
        look_due: returns the milliseconds until the next `look` at connections that were left to
            siblings; -1 if none were left.
        show: called with the address of the C structure, and with 0 before the structure is freed;
            for the object that counts open connections (fs_part_count).
    """

    def __init__(
        self,
        table: ListenTable,
        slot: int = GLOBAL,
        *,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.table = table
        self.before_close = on_close or self.unwatch_here
        self.show: Callable[[int], None] = lambda part: None
        self.peer = Peer()
        self._assigned = slot
        self._part: Any = None  # struct fs_part *, while watching
        self._poller: _Poller
        self._handle: Any
        self._context: Any
        self._remove: Remove
        self._pulse: Pulse
        self._thread = 0
        self._room = ffi.new("int[]", table.info().slots + 1)
        self.may_take: Callable[[int, int], int] = _none
        self.look_due: Callable[[], int] = _never
        _locals.add(self)

    def __del__(self) -> None:
        # Dropped with its poller while it watched: no thread serves the slot any more.
        if getattr(self, "_part", None) is not None:
            self._poller._remove = self._remove = lambda _: None
            if self.table.closed:
                self.forget()
            else:
                self.unwatch()

    def __repr__(self) -> str:
        part = "global listener" if self.slot == GLOBAL else f"slot {self.slot}"
        return f"<LocalListener {self.table.address} {part}>"

    @property
    def slot(self) -> int:
        """Number of the slot; GLOBAL: none is claimed."""
        return self._assigned if self._part is None else int(lib.fs_part_slot(self._part))

    def fileno(self) -> int:
        """Descriptor of the global listener. `watch` adds the descriptors that must be polled."""
        return self.table.fileno(GLOBAL)

    # -- descriptors to poll --

    @property
    def watching(self) -> bool:
        """Whether the listener is between watch and unwatch."""
        return self._part is not None

    def watch(self, add: Add, remove: Remove, pulse: Pulse, epoll: int) -> bool:
        """Start: claim a slot if one is free, and call `add(fd, source, edge)` for each descriptor
        to poll, now and whenever claims change. pulse: the pulse of the thread that polls. epoll:
        the epoll set that it polls, or -1.

        When the source CLAIMS is readable, call `heed`. From any other source, accept the number
        that `may_take` allows. Returns True if we have a slot: activate it once it is polled.
        """
        self._poller, self._remove, self._pulse = _Poller(add, remove), remove, pulse
        self._handle = ffi.new_handle(self._poller)
        self._context = ffi.new("struct part_poll *", (self._handle, epoll))
        self._thread = threading.get_ident()
        out = ffi.new("struct fs_part **")
        try:
            rc = lib.fs_part_open(
                out, self.table.handle(), self._assigned, True, _POLLER, self._context
            )
            self._checked(rc)
            pulse.join(out[0])
            self._part = out[0]
            self.may_take = partial(lib.fs_part_may_take, self._part)
            self.look_due = partial(lib.fs_part_look_due, self._part)
            self.show(self.part())
            self.table.watchers.add(self)
            add(self._poller.claims.fileno(), CLAIMS, False)
            return self.sync()
        except BaseException:
            self.unwatch()
            raise
        finally:
            if self._part is None:
                self._poller.claims.close()

    def unwatch(self) -> None:
        """Stop: call `remove(fd)` for each descriptor, and give up the slot. New connections go
        elsewhere, and siblings serve the waiting ones."""
        if self._part is None:
            return
        part, self._part = self._part, None
        self.table.watchers.discard(self)
        lib.fs_part_close(part)
        self._end(part)

    def unwatch_here(self) -> None:
        """Like unwatch, but raises RuntimeError in any thread except the one that watches."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{self.table.address} is used in another thread: stop that use first"
            )
        self.unwatch()

    def _end(self, part: Any) -> None:
        self._remove(self._poller.claims.fileno())
        self._poller.claims.close()
        self._pulse.leave(part)
        self.may_take, self.look_due = _none, _never
        self.show(0)
        lib.fs_part_free(part)

    def sync(self) -> bool:
        """Update the polled descriptors. Returns True if we have a slot now: activate it."""
        if self._part is None:
            return False
        self._poller.failure = None
        return self._checked(lib.fs_part_sync(self._part)) == 1

    def heed(self) -> bool:
        """Like sync. Call this when the source CLAIMS is readable."""
        if self._part is None:
            return False
        bell = self.table.bell()
        if any(fd != bell for fd, _ in self._poller.claims.poll(0)):
            lib.fs_part_heed(self._part, lib.FS_NEIGHBOUR)
        return self.sync()

    def activate(self) -> None:
        """From now on connections may arrive at the slot."""
        if self._part is not None:
            self._checked(lib.fs_part_activate(self._part))

    def rest(self) -> None:
        """Watch only the claims, and let no connection arrive, until `resume`."""
        lib.fs_part_rest(self._part)

    def resume(self) -> bool:
        """Continue after `rest`. Returns the same as sync."""
        lib.fs_part_resume(self._part)
        return self.sync()

    def sources(self) -> list[int]:
        """Slots (and GLOBAL) to accept from, in order."""
        if self._part is not None:
            return list(self._room[0 : lib.fs_part_sources(self._part, self._room)])
        table, siblings = self.table.handle(), lib.FS_SIBLINGS
        return list(self._room[0 : lib.fs_table_sources(table, self.slot, siblings, self._room)])

    def _checked(self, rc: int) -> int:
        if rc < 0 and self._poller.failure is not None:
            failure, self._poller.failure = self._poller.failure, None
            raise failure
        return check(rc, "accept from", self.table.address)

    # -- connections --

    def look(self) -> list[int]:
        """Look again at connections left to siblings. Returns sources to take one from now."""
        if self._part is None:
            return []
        count = lib.fs_part_look(self._part, self._room)
        return list(self._room[0:count]) if count else []

    def part(self) -> int:
        """Address of the C structure, for compiled callers; 0 while not watching."""
        return 0 if self._part is None else int(ffi.cast("uintptr_t", self._part))

    def accept(self) -> tuple[socket.socket, Address]:
        """Like socket.accept(), from the first source where one may be taken; non-blocking.

        Raises BlockingIOError if none waits at any source, else OSError as accept4(2) does.
        """
        self.peer.clear()
        address, length, flags = self.peer.pointer, self.peer.length, _FLAGS
        if self._part is not None:
            rc = lib.fs_part_accept(self._part, address, length, flags)
        else:
            table = self.table.handle()
            rc = lib.fs_table_accept_any(table, self.slot, address, length, flags)
        fd = check(rc, "accept", self.table.address)
        sock = self.table.sock
        connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        connection.setblocking(False)  # the descriptor is; this tells the object
        return connection, self.peer.address()

    # -- forks --

    def forget(self) -> None:
        """In a forked child: stop watching, because claim, bell and neighbour are the parent's."""
        if self._part is None:
            return
        part, self._part = self._part, None
        self.table.watchers.discard(self)
        self._poller.shared = True
        lib.fs_part_forget(part)
        self._end(part)


_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class Poller(Protocol):
    """An object with an epoll set that a forked child would share with its parent."""

    def renew(self) -> None:
        """In a forked child: make a new epoll set with the same registrations."""


pollers: "weakref.WeakSet[Poller]" = weakref.WeakSet()
_locals: "weakref.WeakSet[LocalListener]" = weakref.WeakSet()


def _after_fork() -> None:
    if pollers:
        # Until Python 3.12 a signal to the child would wake the parent's loop, which would handle
        # the signal as its own.
        with suppress(ValueError):  # not the main thread
            signal.set_wakeup_fd(-1)
    # In this order: a child must not unregister a registration of its parent.
    for poller in list(pollers):
        poller.renew()
    for local in list(_locals):
        local.forget()


os.register_at_fork(after_in_child=_after_fork)
