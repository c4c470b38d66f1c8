"""A local listener in a loop: what it has polled there, and the timer by which it looks again at
what it has left to siblings. What becomes of a connection is its user's business.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..table.part import CLAIMS, LocalListener
from ..table.pulse import Pulse


class ListenLoop(Protocol):
    """What is asked of a loop."""

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


class Watching:
    """Calls back with the source: `own` when a connection waits at the listener's own slot, `other`
    when one is said to wait elsewhere, `left` when one that was left to a sibling is to be taken.

    Use from the loop's thread only.
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
        self._at = 0.0  # when it is due, by the loop's clock

    def start(self) -> None:
        """Take a slot if one is free and none was given, have polled what is to be polled, and let
        connections arrive. Claims that change meanwhile are followed."""
        loop = self._loop
        self._settle(self._local.watch(self._add, loop.remove_reader, loop.pulse, loop.epoll))

    def stop(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._local.unwatch()

    def resume(self) -> None:
        """After the listener's rest."""
        self._settle(self._local.resume())

    def schedule(self) -> None:
        """After the listener was asked what it may take: look when that is due, and no later."""
        due = self._local.look_due()
        at = self._loop.time() + due / 1000
        if self._timer is not None:
            if due < 0 or self._at <= at:
                return
            self._timer.cancel()
        # Not asked of the timer: uvloop's call_later(0) returns a plain Handle.
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
