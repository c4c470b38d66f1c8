"""A thread's pulse: siblings that are woken by a connection of ours look whether we wait or work.

A loop says `waits` before it polls and `runs` after it; uvloop's does so in C (`address`). A
supervisor sees it in memory that no other worker has: what decides about a worker must not be
another's to write.
"""

import mmap
from typing import Any

from .._native import check, ffi, lib


class Pulse:
    """For one thread, and all its parts in listen tables while they are watched."""

    def __init__(self) -> None:
        out = ffi.new("struct fs_pulse **")
        check(lib.fs_pulse_open(out), "pulse")
        self._pulse = ffi.gc(out[0], lib.fs_pulse_free)
        self.told = 0  # by so many

    @property
    def address(self) -> int:
        """Of the C structure, for who is compiled; good as long as this object."""
        return int(ffi.cast("uintptr_t", self._pulse))

    def join(self, part: Any) -> None:
        """From now on `part` (struct fs_part *) is told."""
        check(lib.fs_pulse_join(self._pulse, part), "pulse")
        self.told += 1

    def leave(self, part: Any) -> None:
        """No more; before it is freed."""
        lib.fs_pulse_leave(self._pulse, part)
        self.told -= 1

    def waits(self) -> None:
        """This thread is about to wait for events."""
        lib.fs_pulse_waits(self._pulse)

    def runs(self) -> None:
        """It has them, and works."""
        lib.fs_pulse_runs(self._pulse)

    def show(self, page: "PulsePage") -> None:
        """Tell it there too, from now on."""
        self.told += 1
        self._page = page  # kept as long as it is written
        lib.fs_pulse_show(self._pulse, page.memory())


class PulsePage:
    """Memory for one thread's pulse, made before a fork: parent and child share it, and the parent
    closes it in its other children."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, lib.FS_PULSE_PAGE)
        self._memory: Any = ffi.from_buffer(self._map)

    def memory(self) -> Any:
        """Its address."""
        return self._memory

    def busy_seconds(self) -> float:
        """For so long its thread has not waited for events, or no thread of its pool has been
        free, whichever is longer; 0: it does and there is one, or it does not tell."""
        return lib.fs_pulse_busy(self._memory) / 1e9

    def pool_busy(self, since: int) -> None:
        """Tell since when (time.monotonic_ns()) each thread of the pool has been busy; 0: not."""
        lib.fs_pulse_pool(self._memory, since)

    def close(self) -> None:
        """Unmap it here."""
        ffi.release(self._memory)
        self._map.close()
