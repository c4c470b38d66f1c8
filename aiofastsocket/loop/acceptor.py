"""Accepting from a listen table in a loop: how many at a time, and what happens when descriptors
run out. What becomes of a connection is its taker's business.
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

# Connections taken in one turn of the loop: what is taken is lost if the process dies, and the
# connections that are served already wait meanwhile.
BURST = 32

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RETRY_SECONDS = 1.0  # as asyncio's own ACCEPT_RETRY_DELAY


class Taker(Protocol):
    """Who accepts and serves: transport.Connections."""

    def take(self, slot: int, source: int, most: int) -> int:
        """Take up to `most` from a source, for the owner of `slot`: how many, or -errno."""

    def show(self, part: int) -> None:
        """Tell the struct fs_part at this address how many are open, from now on; 0: none."""


class Acceptor:
    """Has `taker` take what `local` is to accept. Use from the loop's thread only."""

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
        """listen_spawn: take a slot if one is free and none was given, and accept."""
        self._watching.start()

    def stop(self) -> None:
        """Accept no more, and give the slot up; connections go on."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._watching.stop()

    def sweep(self) -> None:
        """Accept once more what waits at the own slot; before stop()."""
        self._take(GLOBAL if self.local.table.info().shared else self.local.slot)

    def idle(self) -> bool:
        """Nothing waits at what is to be watched; False while accepting pauses."""
        waiting = any(map(self.local.table.queued, self.local.sources()))
        return self._retry is None and not waiting

    def _ready(self, source: int) -> None:
        # One of a sibling's at a time: it may be back by the next.
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
        if self.local.watching:  # its table may have been closed
            self._watching.resume()
