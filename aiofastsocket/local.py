"""This process's part in a listen table: its slot, and what else it accepts from.

Rules: accepting goes own slot first, then slots that nobody serves, then a few siblings', then the
global listener. It knows claims and which descriptors are to be polled; it does not know who polls
them, nor what becomes of a connection.

Facts about waiting (fs/eventpoll.c), which the order of things here leans on. Exclusive waiters of
one socket are woken in the order they registered, and one whose process is not in epoll_wait is
passed over. So a slot becomes live only after its owner waits on it, and siblings register on it
only when it is live: an idle owner keeps its own, a busy one is helped. When a slot changes hands,
siblings register anew, or they would stand before the new owner.
"""

import errno
import os
import select
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .listeners import GLOBAL, Address, ListenTable, Peer, SlotInfo

# Each connection visits every waiter in line that is busy, so a few must do; and each slot has as
# many watchers as its owner watches siblings.
SIBLINGS = 4

EAR = GLOBAL - 1
"""In the place of a source: the descriptor that is readable when claims may have changed."""

# What a source was when it was registered: its number of claims, and whether it was live.
_Mark = tuple[int, bool]


class LocalListener:
    """Accepts from `table` for the calling thread, which is to be the only one to use it.

    slot: one that was claimed already, by whoever assigns them; else `claim` takes a free one.
    """

    def __init__(self, table: ListenTable, slot: int = GLOBAL) -> None:
        self.table = table
        self.slot = slot
        self._assigned = slot
        self.peer = Peer()
        self._add: Callable[[int, int], None] | None = None
        self._remove: Callable[[int], object] | None = None
        self._watched: dict[int, tuple[int, _Mark]] = {}  # source -> descriptor, mark; in order
        self._ear: select.epoll | None = None
        self._neighbour: tuple[int, int] | None = None  # pid, pidfd
        _locals.add(self)

    def __repr__(self) -> str:
        part = "global listener" if self.slot == GLOBAL else f"slot {self.slot}"
        return f"<LocalListener {self.table.address} {part}>"

    def fileno(self) -> int:
        """Descriptor of the global listener; what is to be polled is `watch`'s business."""
        return self.table.fileno(GLOBAL)

    # -- claims --

    def claim(self) -> None:
        """listen_spawn: take a free slot, or none if all have owners. Nothing arrives there yet."""
        self.table.reap()
        try:
            self.slot = self.table.claim()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise

    def activate(self) -> None:
        """From now on connections may arrive at the slot: to be called once it is watched."""
        if self.slot != GLOBAL:
            self.table.activate(self.slot)

    def stand_first(self) -> None:
        """Have the siblings register on the slot anew, behind us."""
        if self.slot != GLOBAL and self.table.slot(self.slot).live:
            self.table.activate(self.slot, False)
            self.table.activate(self.slot)

    def release(self) -> None:
        """Give the slot up: connections go elsewhere, siblings serve those that are there."""
        if self.slot != self._assigned:
            slot, self.slot = self.slot, self._assigned
            with suppress(PermissionError):  # somebody took it, thinking us dead
                self.table.release(slot)

    # -- what is to be polled --

    def watch(self, add: Callable[[int, int], None], remove: Callable[[int], object]) -> None:
        """Start: `add(fd, source)` what is to be polled, now and whenever claims change.

        When the source EAR is readable, call `heed`; from any other one may accept.
        """
        self._ear = select.epoll()
        self._ear.register(self.table.bell(), select.EPOLLIN | select.EPOLLET)
        self._add, self._remove = add, remove
        self.table.before_close.add(self._table_closes)
        add(self._ear.fileno(), EAR)
        self.sync()

    def unwatch(self) -> None:
        """Stop: `remove(fd)` everything."""
        if self._remove is None:
            return
        remove = self._remove
        self._add = self._remove = None
        self.table.before_close.discard(self._table_closes)
        for fd, _ in self._watched.values():
            remove(fd)
        assert self._ear is not None
        remove(self._ear.fileno())
        self._close_ear()
        self._watched.clear()

    def heed(self) -> None:
        """Claims may have changed: look, and watch what is to be watched now."""
        if self._ear is None:
            return
        for fd, _ in self._ear.poll(0):
            if self._neighbour is not None and fd == self._neighbour[1]:
                self.table.reap()  # steers away from the dead, and tells everybody
        self.sync()

    def _table_closes(self) -> None:
        self.unwatch()
        self.release()

    @property
    def watching(self) -> bool:
        """Between watch and unwatch."""
        return self._add is not None

    def sync(self) -> None:
        """Compare what is watched with what the claims ask for."""
        if self._add is None or self._remove is None:
            return
        slots = self._slots()
        wanted = self._wanted(slots)
        for source in [s for s, (_, mark) in self._watched.items() if wanted.get(s) != mark]:
            self._remove(self._watched.pop(source)[0])
        for source, mark in wanted.items():
            if source not in self._watched:
                fd = self.table.fileno(source)
                self._watched[source] = fd, mark
                self._add(fd, source)
        self._watch_neighbour(slots)

    def sources(self) -> list[int]:
        """Slots (and GLOBAL) to accept from, in order."""
        if self._add is not None:
            return list(self._watched)
        return list(self._wanted(self._slots()))

    def serves(self, source: int) -> bool:
        """`source` is not a sibling's: all that waits there is ours to take."""
        if source in (self.slot, GLOBAL):
            return True
        return source in self._watched and not self._watched[source][1][1]

    def _slots(self) -> list[SlotInfo]:
        return [] if self.table.info().shared else self.table.slots()

    def _wanted(self, slots: list[SlotInfo]) -> dict[int, _Mark]:
        if not slots:
            return {GLOBAL: (0, False)}
        wanted: dict[int, _Mark] = {}
        if self.slot != GLOBAL:
            wanted[self.slot] = 0, False
        others = [s for s in self._ring(slots) if s.slot != self.slot]
        orphans = [s for s in others if s.used and s.pid == 0]
        siblings = [s for s in others if s.pid and s.live][:SIBLINGS]
        wanted.update({s.slot: (s.claims, s.live) for s in orphans + siblings})
        if not self.table.first_is_slot:
            wanted[GLOBAL] = 0, False
        return wanted

    def _ring(self, slots: list[SlotInfo]) -> list[SlotInfo]:
        """All slots, from the one after ours on: so that each is watched by as many."""
        start = self.slot + 1 if self.slot != GLOBAL else os.getpid() % len(slots)
        return slots[start:] + slots[:start]

    def _watch_neighbour(self, slots: list[SlotInfo]) -> None:
        """Notice the death of the next owner in the ring; somebody notices ours."""
        pid = next((s.pid for s in self._ring(slots) if s.pid and s.pid != os.getpid()), 0)
        if self._neighbour is not None and self._neighbour[0] == pid:
            return
        self._forget_neighbour()
        if pid == 0 or self._ear is None:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.table.reap()
        except OSError:  # no descriptors, or a seccomp filter: a claim or the next reap tells us
            pass
        else:
            self._neighbour = pid, pidfd
            self._ear.register(pidfd, select.EPOLLIN)

    def _forget_neighbour(self) -> None:
        if self._neighbour is not None:
            if self._ear is not None:  # a fork keeps a closed descriptor's registration alive
                self._ear.unregister(self._neighbour[1])
            os.close(self._neighbour[1])
            self._neighbour = None

    def _close_ear(self) -> None:
        self._forget_neighbour()
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    # -- connections --

    def accept_from(self, source: int) -> int:
        """accept4(2) from one source: a non-blocking descriptor; `peer` tells the client's address.

        Raises BlockingIOError if none waits there, else OSError as accept4(2).
        """
        return self.table.accept(self.slot, source, self.peer)

    def accept(self) -> tuple[socket.socket, Address]:
        """As socket.accept(), from the first source where a connection waits; non-blocking.

        Raises BlockingIOError if none waits anywhere, else OSError as accept4(2).
        """
        nothing: BlockingIOError | None = None
        for source in self.sources():
            try:
                fd = self.accept_from(source)
            except BlockingIOError as error:
                nothing = error
            else:
                sock = self.table.sock
                connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
                connection.setblocking(False)  # as it is; the object has to know
                return connection, self.peer.address()
        assert nothing is not None
        raise nothing

    # -- forks --

    def forget(self) -> None:
        """In a forked child: claim, ear and neighbour are the parent's; watch nothing."""
        remove, ear = self._remove, self._ear
        self._add = self._remove = self._ear = None
        self.slot = self._assigned
        self.table.before_close.discard(self._table_closes)
        if ear is not None:
            if remove is not None:
                for fd, _ in self._watched.values():
                    remove(fd)
                remove(ear.fileno())
            ear.close()  # and nothing unregistered from it: the parent uses the same epoll set
        self._forget_neighbour()
        self._watched.clear()


class Poller(Protocol):
    """Something with an epoll set, which a forked child would share with its parent."""

    def renew(self) -> None:
        """In a forked child: have an epoll set of one's own, with the same registrations."""


pollers: "weakref.WeakSet[Poller]" = weakref.WeakSet()
_locals: "weakref.WeakSet[LocalListener]" = weakref.WeakSet()


def _after_fork() -> None:
    # In this order: what a child unregisters must not be the parent's registration.
    for poller in list(pollers):
        poller.renew()
    for local in list(_locals):
        local.forget()


os.register_at_fork(after_in_child=_after_fork)
