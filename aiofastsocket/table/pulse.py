"""A thread's pulse: siblings that wake for our connection see by it whether we wait or work.

A loop calls `waits` before it polls and `runs` after it. The loop on uvloop does so in C
(`address`).
"""

from typing import Any

from .._native import check, ffi, lib


class Pulse:
    """The pulse of one thread, for all its parts in listen tables while they are watched."""

    def __init__(self) -> None:
        out = ffi.new("struct fs_pulse **")
        check(lib.fs_pulse_open(out), "pulse")
        self._pulse = ffi.gc(out[0], lib.fs_pulse_free)
        self.told = 0  # number of parts and pages that are told

    @property
    def address(self) -> int:
        """Address of the C structure, for compiled callers; valid as long as this object exists."""
        return int(ffi.cast("uintptr_t", self._pulse))

    def join(self, part: Any) -> None:
        """From now on, tell the pulse to `part` (struct fs_part *)."""
        check(lib.fs_pulse_join(self._pulse, part), "pulse")
        self.told += 1

    def leave(self, part: Any) -> None:
        """Stop telling `part`. Call this before it is freed."""
        lib.fs_pulse_leave(self._pulse, part)
        self.told -= 1

    def waits(self) -> None:
        """This thread is about to wait for events."""
        lib.fs_pulse_waits(self._pulse)

    def runs(self) -> None:
        """This thread has its events, and works."""
        lib.fs_pulse_runs(self._pulse)

    def show(self, page: Any) -> None:
        """From now on, also tell the pulse to `page` (struct fs_worker_page *)."""
        self.told += 1
        self._page = page  # keeps the page as long as C writes it
        lib.fs_pulse_show(self._pulse, page)
