"""Memory that a supervisor shares with its forks.

Each worker has a page, which only that worker writes: its present state and its counters. The
supervisor's own page comes first. It records the worker of each page, and the counters of workers
that have ended.

A worker keeps only its own page mapped (`keep_only`). Another worker must not be able to write the
data that decides about a worker, or that is reported about it. The metrics process reads all pages
(`read_only`).

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
_MOST = 2**60  # no valid count is as large
_ROUNDS = 100


class Told(IntEnum):
    """Words of the supervisor's page: its counters, and current values."""

    SEQUENCE = 0  # odd while the counters of an ended worker are added to the sum
    RELOADS = 1
    CRASHES = 2  # from here to STUCK: workers that were replaced, by the reason
    REQUESTS = 3
    MEMORY = 4
    LIFETIME = 5
    STUCK = 6
    FAILED_STARTS = 7
    WANTED = 8  # the number of workers wanted
    CERTIFICATE_ENDS = 9  # of the first to end: seconds since 1970; 0: there is no certificate


@dataclass(frozen=True)
class Counted:
    """The counters of all workers together, including ended ones. Times are in seconds."""

    worked: float
    received: int
    sent: int
    connections: Sequence[int]  # accepted, ended
    answered: Sequence[int]  # by the first digit of the status; 0: the client left before
    refused: Sequence[int]  # by enum fs_refusal
    websockets: Sequence[int]  # opened, ended
    dropped: int
    took: Histogram
    workers: Sequence[tuple[int, int]]  # pid and slot of each existing worker
    told: Sequence[int]  # by Told


class WorkerPage:
    """The page of one worker. memory: struct fs_worker_page *."""

    def __init__(self, memory: Any, number: int) -> None:
        self.memory = memory
        self.number = number

    @property
    def counters(self) -> int:
        """The address of the page's struct fs_counters."""
        return int(ffi.cast("uintptr_t", ffi.addressof(self.memory, "counters")))

    def busy_seconds(self) -> float:
        """The time since the worker's loop last waited for events, or since a thread of its pool
        was last free, whichever is longer. 0: the loop waits and a thread is free, or the worker
        does not report it."""
        return lib.fs_worker_busy(self.memory) / 1e9

    def pool_busy(self, since: int) -> None:
        """Record since when (time.monotonic_ns()) all threads of the pool have been busy; 0: a
        thread is free."""
        lib.fs_worker_pool(self.memory, since)


class Pages:
    """The pages of up to `most` workers, in one mapping that forks inherit. Raises OSError if there
    is no memory."""

    def __init__(self, most: int) -> None:
        self._each = _whole(ffi.sizeof("struct fs_worker_page"))
        self._head = _whole(8 * (len(Told) + _WORDS + 2 * most))
        self._size = self._head + most * self._each
        self._most = most
        memory = _file(self._size)
        # A descriptor to map the pages read-only; -1: a sandbox refuses the calls for it.
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
        check(lib.fs_shared_map(out, self._size, fd, writable), "worker pages")
        self._at = out[0]
        self._told = ffi.cast("uint64_t *", self._at)
        self._gone = self._told + len(Told)
        self._owners = self._gone + _WORDS

    def _page(self, number: int) -> Any:
        at = ffi.cast("char *", self._at) + self._head + number * self._each
        return ffi.cast("struct fs_worker_page *", at)

    # -- in the supervisor --

    def take(self) -> WorkerPage:
        """Take a free page. Raises OSError (ENOMEM) if none is left."""
        for number in range(self._most):
            if not self._owners[2 * number]:
                page = self._page(number)
                ffi.buffer(page)[:] = bytes(ffi.sizeof("struct fs_worker_page"))
                return WorkerPage(page, number)
        check(-12, "worker pages")
        raise AssertionError

    def give(self, page: WorkerPage, pid: int, slot: int) -> None:
        """Record the worker that has this page from now on."""
        self._owners[2 * page.number + 1] = slot
        self._owners[2 * page.number] = pid

    def take_back(self, page: WorkerPage) -> None:
        """Free the page of an ended worker, and add its counters to the sum."""
        done = ffi.cast("uint64_t *", ffi.addressof(page.memory, "counters"))
        self._told[Told.SEQUENCE] += 1
        for word in range(_WORDS):
            self._gone[word] = _sum(self._gone[word], done[word])
        gone = ffi.cast("struct fs_counters *", self._gone)
        gone.connections[1] = gone.connections[0]  # the kernel has closed them
        gone.websockets[1] = gone.websockets[0]
        self._owners[2 * page.number] = 0
        self._told[Told.SEQUENCE] += 1

    def count(self, what: Told) -> None:
        """Add one to a counter of the supervisor's."""
        self._told[what] += 1

    def tell(self, what: Told, value: int) -> None:
        """Set a value of the supervisor's."""
        self._told[what] = value

    # -- in forks --

    def keep_only(self, page: WorkerPage) -> None:
        """In a worker: unmap all pages except its own."""
        start = self._head + page.number * self._each
        self._keep(start, self._each)

    def read_only(self) -> None:
        """In a process that only reads: map the pages read-only, if a sandbox allows it. The
        process cannot undo this."""
        if self._readable >= 0:
            writable = self._at
            self._map(self._readable, writable=False)
            check(lib.fs_shared_keep(writable, self._size, 0, 0), "worker pages")
            self._close_file()

    def close(self) -> None:
        """Unmap all pages in this process, which does not use this object again."""
        self._keep(0, 0)

    def _keep(self, start: int, size: int) -> None:
        check(lib.fs_shared_keep(self._at, self._size, start, size), "worker pages")
        self._close_file()

    def _close_file(self) -> None:
        if self._readable >= 0:
            os.close(self._readable)
            self._readable = -1

    # -- reading --

    def read(self) -> Counted:
        """Read all counters and values. A worker that ends meanwhile is counted once."""
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
    """Memory as a file that only its creator may open. -1: a sandbox refuses it; forks then keep
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
    """The sum, or `known` if the sum is invalid: counts from a worker are not trusted."""
    both = known + more
    return both if both < _MOST else known


def _whole(size: int) -> int:
    """The size, rounded up to whole pages of the kernel."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
