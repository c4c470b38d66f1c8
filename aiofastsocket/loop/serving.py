"""The work of a running loop with a listen table: it serves the table, or accepts on request.

A claim lives as long as the loop runs. A loop that does not run cannot serve, and connections that
are steered to it would wait.
"""

import asyncio
import logging
from collections import deque
from contextvars import copy_context
from typing import Protocol

from ..address import Address
from ..channel import Channel
from ..table.open import spawn
from ..table.part import LocalListener
from ..table.table import ListenTable
from .acceptor import Acceptor, Taker
from .watching import ListenLoop, Watching

logger = logging.getLogger("aiofastsocket")

LOOK_SECONDS = 10.0  # between two checks for a stranger at the address


class Serving(Protocol):
    """A table that a loop serves or accepts from."""

    table: ListenTable

    def begin(self) -> None:
        """The loop is about to run, or runs already."""

    def end(self) -> None:
        """The loop has stopped. Siblings take over the waiting connections."""


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
        self._loop = loop
        self._look: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """See Serving."""
        spawn(self._channel, self.table)
        self._context.run(self._acceptor.start)
        if self._look is None and not self.table.info().shared:
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_around)

    def end(self) -> None:
        """See Serving."""
        self._acceptor.stop()
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_around(self) -> None:
        if not self.table.closed:
            if self.table.joined():
                logger.warning("%s", self.table.of_strangers())
            self._look = self._loop.call_later(LOOK_SECONDS, self._look_around)

    def _refuse(self) -> None:
        raise RuntimeError(f"{self.table.address} is served by a server: close the server first")


class _Loop(ListenLoop, Protocol):
    def create_future(self) -> "asyncio.Future[None]":
        """asyncio's loop.create_future."""


class Waiters:
    """Coroutines that wait in loop.sock_accept for one of the table's connections.

    If a connection comes and no coroutine waits, the slot is given up: siblings serve it.
    """

    def __init__(self, loop: _Loop, table: ListenTable) -> None:
        self.table = table
        self.local = LocalListener(table, on_close=self._closed)
        self._loop = loop
        self._watching = Watching(
            loop, self.local, own=self._ready, other=self._ready, left=lambda _: self._wake()
        )
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken: set[asyncio.Future[None]] = set()  # told of a connection, but not run since

    async def accept(self) -> tuple[object, Address]:
        """Like loop.sock_accept. Raises ValueError if the table is closed meanwhile."""
        told = False
        while True:
            # The first coroutine is served first; one that was woken has its turn.
            if told or not self._waiting:
                try:
                    return self.local.accept()
                except BlockingIOError:
                    pass
            waiter, told = self._loop.create_future(), False
            self._waiting.append(waiter)
            try:
                self.begin()
                await waiter
                told = True
            finally:
                self._woken.discard(waiter)
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                elif not told:
                    self._wake()  # cancelled before its turn: it is the next one's turn

    @property
    def idle(self) -> bool:
        """Whether no coroutine waits."""
        return not self._waiting and not self._woken

    def begin(self) -> None:
        """See Serving."""
        if self._waiting and not self.local.watching:
            self._watching.start()

    def end(self) -> None:
        """See Serving."""
        self._watching.stop()

    def _ready(self, source: int) -> None:
        if self.local.may_take(source, 1):
            self._wake()
        self._watching.schedule()

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
