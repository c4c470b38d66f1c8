"""Memory that a supervisor shares with its forks: a page for each worker, where that alone writes
what it does and has done; and before them the supervisor's own, which says whose pages they are,
and what workers that are gone had done.

A worker has nothing but its own page (`keep_only`): what decides about a worker, or is told of one,
must not be another's to write. The metrics process reads all of them (`read_only`).

Source: native/include/fastsocket/fs.h, struct fs_worker_page.
"""

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .._native import check, ffi, lib
from ..table.histogram import Histogram

_WORDS = ffi.sizeof("struct fs_counters") // 8
_MOST = 2**60  # nobody has counted so much
_ROUNDS = 100


class Told(IntEnum):
    """Words of the supervisor's: its counters, and what holds now."""

    SEQUENCE = 0  # odd while a worker's counters become those of one that is gone
    RELOADS = 1
    CRASHES = 2  # workers that were replaced, and why
    REQUESTS = 3
    MEMORY = 4
    LIFETIME = 5
    STUCK = 6
    FAILED_STARTS = 7
    WANTED = 8  # workers
    CERTIFICATE_ENDS = 9  # the first one: seconds since 1970; 0: there is none


@dataclass(frozen=True)
class Counted:
    """What all workers together have done, those that are gone among them. Times are seconds."""

    worked: float
    received: int
    sent: int
    connections: Sequence[int]  # accepted, over
    answered: Sequence[int]  # by the status's first digit; 0: the client left before
    refused: Sequence[int]  # by enum fs_refusal
    websockets: Sequence[int]  # opened, over
    dropped: int
    took: Histogram
    workers: Sequence[tuple[int, int]]  # pid and slot of each that there is
    told: Sequence[int]  # by Told


class WorkerPage:
    """One worker's. memory: struct fs_worker_page *."""

    def __init__(self, memory: Any, number: int) -> None:
        self.memory = memory
        self.number = number

    @property
    def counters(self) -> int:
        """The address of its struct fs_counters."""
        return int(ffi.cast("uintptr_t", ffi.addressof(self.memory, "counters")))

    def busy_seconds(self) -> float:
        """For so long its loop has not waited for events, or no thread of its pool has been free,
        whichever is longer; 0: it does and there is one, or it does not tell."""
        return lib.fs_worker_busy(self.memory) / 1e9

    def pool_busy(self, since: int) -> None:
        """Tell since when (time.monotonic_ns()) each thread of the pool has been busy; 0: not."""
        lib.fs_worker_pool(self.memory, since)


class Pages:
    """So many, in one mapping that forks inherit. Raises OSError if there is no memory."""

    def __init__(self, most: int) -> None:
        self._each = _whole(ffi.sizeof("struct fs_worker_page"))
        self._head = _whole(8 * (len(Told) + _WORDS + 2 * most))
        self._size = self._head + most * self._each
        self._most = most
        memory = _file(self._size)
        # By which it is mapped to be read; -1: a sandbox refuses what that needs.
        self._readable = -1
        try:
            self._map(memory, writable=True)
            if memory >= 0:
                name = f"/proc/self/fd/{memory}"
                with suppress(OSError):
                    self._readable = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            if memory >= 0:
                os.close(memory)

    def _map(self, fd: int, *, writable: bool) -> None:
        out = ffi.new("void **")
        check(lib.fs_shared_map(out, self._size, fd, writable), "pages of workers")
        self._at = out[0]
        self._told = ffi.cast("uint64_t *", self._at)
        self._gone = self._told + len(Told)
        self._owners = self._gone + _WORDS

    def _page(self, number: int) -> Any:
        at = ffi.cast("char *", self._at) + self._head + number * self._each
        return ffi.cast("struct fs_worker_page *", at)

    # -- the supervisor's --

    def take(self) -> WorkerPage:
        """One that is nobody's. Raises OSError (ENOMEM): there is none left."""
        for number in range(self._most):
            if not self._owners[2 * number]:
                page = self._page(number)
                ffi.buffer(page)[:] = bytes(ffi.sizeof("struct fs_worker_page"))
                return WorkerPage(page, number)
        check(-12, "pages of workers")
        raise AssertionError

    def give(self, page: WorkerPage, pid: int, slot: int) -> None:
        """From now on it is that worker's."""
        self._owners[2 * page.number + 1] = slot
        self._owners[2 * page.number] = pid

    def take_back(self, page: WorkerPage) -> None:
        """Its worker is gone, and has done what stands there."""
        done = ffi.cast("uint64_t *", ffi.addressof(page.memory, "counters"))
        self._told[Told.SEQUENCE] += 1
        for word in range(_WORDS):
            self._gone[word] = _sum(self._gone[word], done[word])
        gone = ffi.cast("struct fs_counters *", self._gone)
        gone.connections[1] = gone.connections[0]  # the kernel has ended what it had
        gone.websockets[1] = gone.websockets[0]
        self._owners[2 * page.number] = 0
        self._told[Told.SEQUENCE] += 1

    def count(self, what: Told) -> None:
        """Once more."""
        self._told[what] += 1

    def tell(self, what: Told, value: int) -> None:
        """It holds from now on."""
        self._told[what] = value

    # -- in forks --

    def keep_only(self, page: WorkerPage) -> None:
        """In a worker: have nothing but its own."""
        start = self._head + page.number * self._each
        self._keep(start, self._each)

    def read_only(self) -> None:
        """In one that only reads: nothing that it does can change that."""
        if self._readable >= 0:
            writable = self._at
            self._map(self._readable, writable=False)
            check(lib.fs_shared_keep(writable, self._size, 0, 0), "pages of workers")
            self._close_file()

    def close(self) -> None:
        """Unmap them here; nothing of it is used again."""
        self._keep(0, 0)

    def _keep(self, start: int, size: int) -> None:
        check(lib.fs_shared_keep(self._at, self._size, start, size), "pages of workers")
        self._close_file()

    def _close_file(self) -> None:
        if self._readable >= 0:
            os.close(self._readable)
            self._readable = -1

    # -- reading --

    def read(self) -> Counted:
        """What there is to tell. A worker that ends meanwhile is counted once."""
        for _ in range(_ROUNDS):
            before = self._told[Told.SEQUENCE]
            counted = self._read_once()
            if before % 2 == 0 and before == self._told[Told.SEQUENCE]:
                break
        return counted

    def _read_once(self) -> Counted:
        sums = ffi.new("struct fs_counters *")
        all_words = ffi.cast("uint64_t *", sums)
        for word in range(_WORDS):
            all_words[word] = self._gone[word]
        workers = []
        for number in range(self._most):
            if pid := self._owners[2 * number]:
                workers.append((pid, self._owners[2 * number + 1]))
                done = ffi.cast("uint64_t *", ffi.addressof(self._page(number), "counters"))
                for word in range(_WORDS):
                    all_words[word] = _sum(all_words[word], done[word])
        return Counted(
            sums.worked / 1e9,
            sums.bytes[0],
            sums.bytes[1],
            list(sums.connections),
            list(sums.answered),
            list(sums.refused),
            list(sums.websockets),
            sums.dropped,
            Histogram.read(sums.took),
            workers,
            [self._told[word] for word in Told],
        )


def _file(size: int) -> int:
    """Memory as a file that its maker alone may open; -1: where a sandbox refuses it, forks have
    the mapping as it is."""
    try:
        fd = os.memfd_create("aiofastsocket-workers", os.MFD_CLOEXEC)
    except OSError:
        return -1
    try:
        os.fchmod(fd, 0o400)
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        return -1
    return fd


def _sum(known: int, more: int) -> int:
    """Of what a worker says nothing is believed that is nonsense, or would become it."""
    both = known + more
    return both if both < _MOST else known


def _whole(size: int) -> int:
    """In whole pages of the kernel's."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
