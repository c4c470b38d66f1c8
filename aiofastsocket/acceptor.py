"""Accepting from a listen table in a loop: what is watched, whose connections are taken first, and
what happens when descriptors run out. What becomes of a connection is its taker's business.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from typing import Any, Protocol

from .listeners import GLOBAL
from .table.part import EAR, LocalListener
from .table.pulse import Pulse

logger = logging.getLogger("aiofastsocket")

# Connections taken in one turn of the loop: what is taken is lost if the process dies, and the
# connections that are served already wait meanwhile.
BURST = 32

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RETRY_SECONDS = 1.0  # as asyncio's own ACCEPT_RETRY_DELAY


class ListenLoop(Protocol):
    """What an acceptor asks of its loop."""

    @property
    def pulse(self) -> Pulse:
        """Of the thread that runs it."""

    @property
    def epoll(self) -> int:
        """Descriptor of the epoll set that it polls; -1: nobody knows."""

    def add_listener(
        self, fd: int, callback: Callable[..., object], *args: Any, edge: bool = False
    ) -> None:
        """As add_reader, but a connection wakes one of the processes that wait (EPOLLEXCLUSIVE).

        edge: once for each arrival, not as long as something waits (EPOLLET).
        """

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> Any:
        """asyncio's."""

    def remove_reader(self, fd: int) -> bool:
        """asyncio's."""

    def time(self) -> float:
        """asyncio's."""

    def when_listening(self, callback: Callable[[], object]) -> None:
        """Call back once every add_listener so far is in force in the kernel."""

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """asyncio's."""


class Taker(Protocol):
    """Who accepts and serves: transport.Connections."""

    def take(self, slot: int, source: int, most: int) -> int:
        """Take up to `most` from a source, for the owner of `slot`: how many, or -errno."""

    def show(self, part: int) -> None:
        """Tell the struct fs_part at this address how many are open, from now on; 0: none."""


class Looks:
    """The timer by which a part looks again at what it has left to siblings."""

    def __init__(
        self, loop: ListenLoop, local: LocalListener, take: Callable[[int], object]
    ) -> None:
        self._loop, self._local, self._take = loop, local, take
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self) -> None:
        """After the part was asked what it may take: look when that is due, and no later."""
        due = self._local.look_due()
        if self._timer is not None:
            if due < 0 or self._timer.when() <= self._loop.time() + due / 1000:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(due / 1000, self._look) if due >= 0 else None

    def cancel(self) -> None:
        """The part watches no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        try:
            for source in self._local.look():
                self._take(source)
        finally:
            self.schedule()


class Acceptor:
    """Has `taker` take what `local` is to accept. Use from the loop's thread only."""

    def __init__(self, loop: ListenLoop, local: LocalListener, taker: Taker) -> None:
        self.local = local
        self._loop = loop
        self._take_from = taker.take
        self._retry: asyncio.TimerHandle | None = None
        self._looks = Looks(loop, local, self._take_left)
        local.show = taker.show
        self._told_exhausted = False

    def start(self) -> None:
        """listen_spawn: take a slot if one is free and none was given, watch what is to be watched,
        and have connections arrive there. Claims that change meanwhile are followed."""
        loop = self._loop
        if self.local.watch(self._add, loop.remove_reader, loop.pulse, loop.epoll):
            self._loop.when_listening(self.local.activate)

    def stop(self) -> None:
        """Accept no more, and give the slot up; connections go on."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._looks.cancel()
        self.local.unwatch()

    def sweep(self) -> None:
        """Accept once more what waits at the own slot; before stop()."""
        self._take(GLOBAL if self.local.table.info().shared else self.local.slot, BURST)

    def idle(self) -> bool:
        """Nothing waits at what is to be watched; False while accepting pauses."""
        waiting = any(map(self.local.table.queued, self.local.sources()))
        return self._retry is None and not waiting

    def _add(self, fd: int, source: int, edge: bool) -> None:
        if source == EAR:
            self._loop.add_reader(fd, self._heed)
        elif source == self.local.slot:
            self._loop.add_listener(fd, self._take, source, BURST)
        else:
            self._loop.add_listener(fd, self._ready, source, edge=edge)

    def _heed(self) -> None:
        if self.local.heed():
            self._loop.when_listening(self.local.activate)

    def _ready(self, source: int) -> None:
        # One of a sibling's at a time: it may be back by the next.
        try:
            for _ in range(BURST):
                most = self.local.may_take(source, BURST)
                if not most or not self._take(source, most) or most > 1:
                    break
        finally:
            self._looks.schedule()

    def _take_left(self, source: int) -> None:
        if self._take(source, 1):
            self._ready(source)

    def _take(self, source: int, most: int) -> bool:
        """Accept up to `most` connections; was there one?"""
        rc = self._take_from(self.local.slot, source, most)
        if rc == -errno.EAGAIN:
            return False
        if rc < 0 and self.local.watching:  # else a protocol has closed the server
            self._failed(-rc)
        return True

    def _failed(self, number: int) -> None:
        error = OSError(number, os.strerror(number))
        if number in _EXHAUSTED:
            self._pause(error)
        elif number == errno.EINVAL:  # accept(2): it does not listen any more
            logger.warning("%s was shut down", self.local.table.address)
            self.stop()
        else:
            raise error

    def _pause(self, error: OSError) -> None:
        """Out of descriptors or memory: what waits in the queue is not lost, try again later."""
        if not self._told_exhausted:
            self._told_exhausted = True
            logger.error("accepting pauses for %g s at a time: %s", RETRY_SECONDS, error)
        self.local.rest()
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._retry = None
        if self.local.watching and self.local.resume():  # its table may have been closed
            self._loop.when_listening(self.local.activate)
