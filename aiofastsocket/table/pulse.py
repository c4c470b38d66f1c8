"""A thread's pulse: siblings that are woken by a connection of ours look whether we wait or work.

A loop says `waits` before it polls and `runs` after it; uvloop's does so in C (`address`).
"""

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

    def show(self, page: Any) -> None:
        """Tell it there too (struct fs_worker_page *), from now on."""
        self.told += 1
        self._page = page  # kept as long as it is written
        lib.fs_pulse_show(self._pulse, page)
