"""What a loop does with a listen table while it runs: serve it, or accept for who asks.

A claim lives as long as the loop runs: a loop that does not run cannot serve, and connections that
are steered to it would wait.
"""

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Protocol

from ..acceptor import Acceptor, ListenLoop, Looks, Taker
from ..channel import Channel
from ..listeners import ListenTable
from ..peer import Address
from ..table.part import EAR, LocalListener


class Serving(Protocol):
    """A table in the hands of a loop."""

    table: ListenTable

    def begin(self) -> None:
        """The loop is about to run, or runs already."""

    def end(self) -> None:
        """The loop runs no more; siblings take over what waits."""


class ServerSide:
    """Serves every connection of the table."""

    def __init__(
        self,
        loop: ListenLoop,
        channel: Channel,
        table: ListenTable,
        taker: Taker,
    ) -> None:
        self.table = table
        self.local = LocalListener(table, on_close=self._refuse)
        self._channel = channel
        self._acceptor = Acceptor(loop, self.local, taker)
        # asyncio's servers accept in the context that started them.
        self._context = copy_context()

    def begin(self) -> None:
        """See Serving."""
        if self._channel.backend == "device":
            self._channel.spawn_listen(self.table.sock)
        self._context.run(self._acceptor.start)

    def end(self) -> None:
        """See Serving."""
        self._acceptor.stop()

    def _refuse(self) -> None:
        raise RuntimeError(f"{self.table.address} is served by a server: close that first")


class _Loop(ListenLoop, Protocol):
    def create_future(self) -> "asyncio.Future[None]":
        """asyncio's."""


class Takers:
    """Coroutines that wait in loop.sock_accept for one of the table's connections.

    While nobody waits when a connection comes, the slot is given up: others serve it.
    """

    def __init__(self, loop: _Loop, table: ListenTable) -> None:
        self.table = table
        self.local = LocalListener(table, on_close=self._closed)
        self._loop = loop
        self._looks = Looks(loop, self.local, lambda _: self._wake())
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken: set[asyncio.Future[None]] = set()  # told of a connection, not run since

    async def accept(self) -> tuple[object, Address]:
        """As loop.sock_accept. Raises ValueError if the table is closed meanwhile."""
        told = False
        while True:
            # Who came first is served first; whoever was woken has its turn.
            if told or not self._waiting:
                try:
                    return self.local.accept()
                except BlockingIOError:
                    pass
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            try:
                self.begin()
                await waiter
                told = True
            finally:
                self._woken.discard(waiter)
                if waiter in self._waiting:
                    self._waiting.remove(waiter)

    @property
    def idle(self) -> bool:
        """Nobody waits."""
        return not self._waiting and not self._woken

    def begin(self) -> None:
        """See Serving."""
        if not self._waiting or self.local.watching:
            return
        loop = self._loop
        if self.local.watch(self._add, loop.remove_reader, loop.pulse, loop.epoll):
            self._loop.when_listening(self.local.activate)

    def end(self) -> None:
        """See Serving."""
        self._looks.cancel()
        self.local.unwatch()

    def _add(self, fd: int, source: int, edge: bool) -> None:
        if source == EAR:
            self._loop.add_reader(fd, self._heed)
        else:
            self._loop.add_listener(fd, self._ready, source, edge=edge)

    def _heed(self) -> None:
        if self.local.heed():
            self._loop.when_listening(self.local.activate)

    def _ready(self, source: int) -> None:
        if self.local.may_take(source, 1):
            self._wake()
        self._looks.schedule()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._woken.add(waiter)
                waiter.set_result(None)
                return
        if not self._woken:
            self.end()

    def _closed(self) -> None:
        self.end()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ValueError("the listen table is closed"))
