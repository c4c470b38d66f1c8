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
import signal
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from ._native import check
from .listeners import GLOBAL, ListenTable, SlotInfo
from .peer import Address, Peer

# Each connection visits every waiter in line that is busy, so a few must do; and each slot has as
# many watchers as its owner watches siblings.
SIBLINGS = 4

EAR = GLOBAL - 1
"""In the place of a source: the descriptor that is readable when claims may have changed."""


class _Source(NamedTuple):
    """What is watched: when its slot's epoch has moved since, it is registered anew."""

    fd: int
    epoch: int
    siblings: bool


class LocalListener:
    """Accepts from `table` for the calling thread, which is to be the only one to use it.

    slot: one that was claimed already, by whoever assigns them; else `claim` takes a free one.
    on_close: called when the table is about to be closed while this is watched; may raise. Without
        it, watching ends and the slot is given up.
    """

    def __init__(
        self,
        table: ListenTable,
        slot: int = GLOBAL,
        *,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.table = table
        self.before_close = on_close or self._leave
        self.slot = slot
        self._assigned = slot
        self.peer = Peer()
        self._add: Callable[[int, int], None]  # while watching
        self._remove: Callable[[int], object]
        self._thread = 0
        self._resting = False
        self._watched: dict[int, _Source] = {}  # in the order of accepting
        self._ear: select.epoll | None = None
        self._neighbour: tuple[int, int] | None = None  # pid, pidfd
        self._undead = 0  # pid of a neighbour whose end its slot does not show
        _locals.add(self)

    def __del__(self) -> None:
        # Dropped with its poller while it watched: nobody serves the slot any more.
        if getattr(self, "_ear", None) is not None:
            if self._neighbour is not None:
                os.close(self._neighbour[1])
            if not self.table.closed:
                self.release()

    def __repr__(self) -> str:
        part = "global listener" if self.slot == GLOBAL else f"slot {self.slot}"
        return f"<LocalListener {self.table.address} {part}>"

    def fileno(self) -> int:
        """Descriptor of the global listener; what is to be polled is `watch`'s business."""
        return self.table.fileno(GLOBAL)

    # -- claims --

    def claim(self) -> bool:
        """listen_spawn: take a free slot, if there is one. Nothing arrives there yet.

        Who may run on one core only gets that core's, for `cpu` steering.
        """
        if self.slot != GLOBAL:
            return True
        self.table.reap()
        cores = os.sched_getaffinity(0)
        try:
            self.slot = self.table.claim(cpu=cores.pop() if len(cores) == 1 else -1)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

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
            try:
                self.table.release(slot)
            except PermissionError:
                # Somebody took it, thinking us dead; or another thread of ours has claimed it, and
                # keeps it until it ends.
                if self.table.slot(slot).pid == os.getpid():
                    self.table.activate(slot, False)

    # -- what is to be polled --

    @property
    def watching(self) -> bool:
        """Between watch and unwatch."""
        return self._ear is not None

    def watch(self, add: Callable[[int, int], None], remove: Callable[[int], object]) -> None:
        """Start: `add(fd, source)` what is to be polled, now and whenever claims change.

        When the source EAR is readable, call `heed`; from any other one may accept.
        """
        ear = select.epoll()
        ear.register(self.table.bell(), select.EPOLLIN | select.EPOLLET)
        self._ear, self._add, self._remove = ear, add, remove
        self._thread = threading.get_ident()
        self._resting = False
        self.table.watchers.add(self)
        add(ear.fileno(), EAR)
        self.sync()

    def unwatch(self) -> None:
        """Stop: `remove(fd)` everything."""
        if self._ear is None:
            return
        self.table.watchers.discard(self)
        self.rest()
        self._remove(self._ear.fileno())
        self._forget_neighbour()
        self._ear.close()
        self._ear = None

    def rest(self) -> None:
        """Watch nothing but the claims, until `resume`."""
        self._resting = True
        for source in self._watched.values():
            self._remove(source.fd)
        self._watched.clear()

    def resume(self) -> None:
        """After `rest`: last in every line, so the siblings have to stand back."""
        self._resting = False
        self.sync()

    def heed(self) -> bool:
        """Claims may have changed: watch what is to be watched now. True: we have a slot now, to be
        activated once it is watched."""
        if self._ear is None:
            return False
        for fd, _ in self._ear.poll(0):
            if self._neighbour is not None and fd == self._neighbour[1]:
                self._undead = self._neighbour[0]
                self._forget_neighbour()
                self.table.reap()  # steers away from the dead, and tells everybody
        claimed = self.slot == GLOBAL and not self._resting and self.claim()
        self.sync()
        return claimed

    def sync(self) -> None:
        """Compare what is watched with what the claims ask for."""
        if self._ear is None:
            return
        slots = self._slots()
        wanted = {} if self._resting else self._wanted(slots)
        for number in [n for n, source in self._watched.items() if wanted.get(n) != source]:
            self._remove(self._watched.pop(number).fd)
        for number, source in wanted.items():
            if number not in self._watched:
                self._watched[number] = source
                self._add(source.fd, number)
        self._watch_neighbour(slots)

    def sources(self) -> list[int]:
        """Slots (and GLOBAL) to accept from, in order."""
        if self._ear is not None:
            return list(self._watched)
        return list(self._wanted(self._slots()))

    def serves(self, source: int) -> bool:
        """`source` is not a sibling's: all that waits there is ours to take."""
        return source in self._watched and not self._watched[source].siblings

    def _slots(self) -> list[SlotInfo]:
        return [] if self.table.info().shared else self.table.slots()

    def _wanted(self, slots: list[SlotInfo]) -> dict[int, _Source]:
        fileno = self.table.fileno
        wanted: dict[int, _Source] = {}
        if slots and self.slot != GLOBAL:
            wanted[self.slot] = _Source(fileno(self.slot), 0, False)
        others = [s for s in self._ring(slots) if s.slot != self.slot]
        for s in others:
            if s.used and s.pid == 0:
                wanted[s.slot] = _Source(fileno(s.slot), s.epoch, False)
        for s in [s for s in others if s.pid and s.live][:SIBLINGS]:
            wanted[s.slot] = _Source(fileno(s.slot), s.epoch, True)
        if not slots or not self.table.first_is_slot:
            wanted[GLOBAL] = _Source(fileno(GLOBAL), 0, False)
        return wanted

    def _ring(self, slots: list[SlotInfo]) -> list[SlotInfo]:
        """All slots, from the one after ours on: so that each is watched by as many."""
        start = self.slot + 1 if self.slot != GLOBAL else os.getpid() % max(len(slots), 1)
        return slots[start:] + slots[:start]

    def _watch_neighbour(self, slots: list[SlotInfo]) -> None:
        """Notice the death of the next owner in the ring; somebody notices ours."""
        not_to_watch = (0, os.getpid(), self._undead)
        pid = next((s.pid for s in self._ring(slots) if s.pid not in not_to_watch), 0)
        if self._neighbour is not None and self._neighbour[0] == pid:
            return
        self._forget_neighbour()
        if pid == 0 or self._ear is None:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._undead = pid
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

    def _leave(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"{self.table.address} is used in another thread: end that first")
        self.unwatch()
        self.release()

    # -- connections --

    def accept_from(self, source: int) -> int:
        """accept4(2) from one source: a non-blocking descriptor, or -errno; -EAGAIN if none waits.

        `peer` has the client's address.
        """
        return self.table.try_accept(self.slot, source, self.peer)

    def accept(self) -> tuple[socket.socket, Address]:
        """As socket.accept(), from the first source where a connection waits; non-blocking.

        Raises BlockingIOError if none waits anywhere, else OSError as accept4(2).
        """
        rc = -errno.EAGAIN
        for source in self.sources():
            rc = self.accept_from(source)
            if rc != -errno.EAGAIN:
                break
        fd = check(rc, "accept", self.table.address)
        sock = self.table.sock
        connection = socket.socket(sock.family, sock.type, sock.proto, fileno=fd)
        connection.setblocking(False)  # as it is; the object has to know
        return connection, self.peer.address()

    # -- forks --

    def forget(self) -> None:
        """In a forked child: claim, ear and neighbour are the parent's; watch nothing."""
        ear, self._ear = self._ear, None
        self.slot = self._assigned
        self.table.watchers.discard(self)
        if ear is not None:
            self.rest()
            self._remove(ear.fileno())
            ear.close()  # and nothing unregistered from it: the parent uses the same epoll set
        self._forget_neighbour()


class Poller(Protocol):
    """Something with an epoll set, which a forked child would share with its parent."""

    def renew(self) -> None:
        """In a forked child: have an epoll set of one's own, with the same registrations."""


pollers: "weakref.WeakSet[Poller]" = weakref.WeakSet()
_locals: "weakref.WeakSet[LocalListener]" = weakref.WeakSet()


def _after_fork() -> None:
    if pollers:
        # Until Python 3.12 a signal to the child would wake the parent's loop, which would take it
        # for its own.
        with suppress(ValueError):  # not the main thread
            signal.set_wakeup_fd(-1)
    # In this order: what a child unregisters must not be the parent's registration.
    for poller in list(pollers):
        poller.renew()
    for local in list(_locals):
        local.forget()


os.register_at_fork(after_in_child=_after_fork)
