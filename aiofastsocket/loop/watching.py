"""A local listener in a loop: the descriptors that the loop polls for it, and a timer.

By the timer it looks again at connections that it has left to siblings. Its user accepts and serves
the connections.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..table.part import CLAIMS, LocalListener
from ..table.pulse import Pulse


class ListenLoop(Protocol):
    """The methods that a loop must have."""

    @property
    def pulse(self) -> Pulse:
        """The pulse of the thread that runs the loop."""

    @property
    def epoll(self) -> int:
        """Descriptor of the epoll set that the loop polls; -1 if it is unknown."""

    def add_listener(
        self, fd: int, callback: Callable[..., object], *args: Any, edge: bool = False
    ) -> None:
        """Like add_reader, but a connection wakes one of the waiting processes (EPOLLEXCLUSIVE).

        edge: call back once for each arrival, not as long as a connection waits (EPOLLET).
        """

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> Any:
        """asyncio's loop.add_reader."""

    def remove_reader(self, fd: int) -> bool:
        """asyncio's loop.remove_reader."""

    def time(self) -> float:
        """asyncio's loop.time."""

    def when_listening(self, callback: Callable[[], object]) -> None:
        """Call back once all earlier calls of add_listener are in force in the kernel."""

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """asyncio's loop.call_later."""


class Watching:
    """Watches the sources of a local listener, and calls back with the source.

    own: called when a connection waits at the listener's own slot. other: called when one may wait
    at another source. left: called when one that was left to a sibling must be taken. Use this from
    the loop's thread only.
    """

    def __init__(
        self,
        loop: ListenLoop,
        local: LocalListener,
        *,
        own: Callable[[int], object],
        other: Callable[[int], object],
        left: Callable[[int], object],
    ) -> None:
        self._loop, self._local = loop, local
        self._own, self._other, self._left = own, other, left
        self._timer: asyncio.Handle | None = None
        self._at = 0.0  # when the timer is due, by the loop's clock

    def start(self) -> None:
        """Take a slot if none was given and one is free, have the loop poll all sources, and let
        connections arrive. Later changes of claims are followed."""
        loop = self._loop
        self._settle(self._local.watch(self._add, loop.remove_reader, loop.pulse, loop.epoll))

    def stop(self) -> None:
        """Stop watching, and give up the slot."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._local.unwatch()

    def resume(self) -> None:
        """Continue after the listener's rest."""
        self._settle(self._local.resume())

    def schedule(self) -> None:
        """Set the timer to the listener's next look. Call this after each `may_take`."""
        due = self._local.look_due()
        at = self._loop.time() + due / 1000
        if self._timer is not None:
            if due < 0 or self._at <= at:
                return
            self._timer.cancel()
        # The timer is not asked for its time: uvloop's call_later(0) returns a plain Handle.
        self._timer, self._at = None, at
        if due >= 0:
            self._timer = self._loop.call_later(due / 1000, self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            for source in self._local.look():
                self._left(source)
        finally:
            self.schedule()

    def _add(self, fd: int, source: int, edge: bool) -> None:
        if source == CLAIMS:
            self._loop.add_reader(fd, self._heed)
        elif source == self._local.slot:
            self._loop.add_listener(fd, self._own, source)
        else:
            self._loop.add_listener(fd, self._other, source, edge=edge)

    def _heed(self) -> None:
        self._settle(self._local.heed())

    def _settle(self, claimed: bool) -> None:
        if claimed:
            self._loop.when_listening(self._local.activate)
