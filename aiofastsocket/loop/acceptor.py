"""Accepts from a listen table in a loop: a limited number at a time, with a pause if descriptors
run out. The taker serves the connections.
"""

import asyncio
import errno
import logging
import os
from typing import Protocol

from ..table.part import LocalListener
from ..table.view import GLOBAL
from .watching import ListenLoop, Watching

logger = logging.getLogger("aiofastsocket")

# Most connections that are taken in one turn of the loop. Taken connections are lost if the process
# dies, and connections that are served already wait meanwhile.
BURST = 32

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RETRY_SECONDS = 1.0  # as asyncio's own ACCEPT_RETRY_DELAY


class Taker(Protocol):
    """An object that accepts and serves connections: transport.Connections."""

    def take(self, slot: int, source: int, most: int) -> int:
        """Take up to `most` from a source for the owner of `slot`. Returns how many, or -errno."""

    def show(self, part: int) -> None:
        """From now on, tell the struct fs_part at this address how many are open; 0: tell none."""


class Acceptor:
    """Has `taker` take the connections of `local`. Use this from the loop's thread only."""

    def __init__(self, loop: ListenLoop, local: LocalListener, taker: Taker) -> None:
        self.local = local
        self._loop = loop
        self._take_from = taker.take
        self._retry: asyncio.TimerHandle | None = None
        self._watching = Watching(
            loop, local, own=self._take, other=self._ready, left=self._take_left
        )
        local.show = taker.show
        self._told_exhausted = False

    def start(self) -> None:
        """Take a slot if none was given and one is free, and start to accept."""
        self._watching.start()

    def stop(self) -> None:
        """Stop accepting, and give up the slot. Open connections continue."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._watching.stop()

    def sweep(self) -> None:
        """Accept once more the connections that wait at the own slot. Call this before stop()."""
        self._take(GLOBAL if self.local.table.info().shared else self.local.slot)

    def idle(self) -> bool:
        """Whether no connection waits at any source; False while accepting pauses."""
        waiting = any(map(self.local.table.queued, self.local.sources()))
        return self._retry is None and not waiting

    def _ready(self, source: int) -> None:
        # One connection of a sibling at a time: the sibling may be back by the next.
        try:
            for _ in range(BURST):
                most = self.local.may_take(source, BURST)
                if not most or not self._take(source, most) or most > 1:
                    break
        finally:
            self._watching.schedule()

    def _take_left(self, source: int) -> None:
        if self._take(source, 1):
            self._ready(source)

    def _take(self, source: int, most: int = BURST) -> bool:
        """Accept up to `most` connections. Returns False if none waited."""
        rc = self._take_from(self.local.slot, source, most)
        if rc == -errno.EAGAIN:
            return False
        if rc < 0 and self.local.watching:  # otherwise a protocol has closed the server
            self._failed(-rc)
        return True

    def _failed(self, number: int) -> None:
        error = OSError(number, os.strerror(number))
        if number in _EXHAUSTED:
            self._pause(error)
        elif number == errno.EINVAL:  # accept(2): it does not listen any more
            logger.warning("the listening socket at %s was shut down", self.local.table.address)
            self.stop()
        else:
            raise error

    def _pause(self, error: OSError) -> None:
        """Descriptors or memory ran out: try again later. Connections in the queue are not lost."""
        if not self._told_exhausted:
            self._told_exhausted = True
            logger.error("accepting pauses for %g s at a time: %s", RETRY_SECONDS, error)
        self.local.rest()
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._retry = None
        if self.local.watching:  # its table may have been closed
            self._watching.resume()
