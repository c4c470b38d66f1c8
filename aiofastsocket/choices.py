"""The words and numbers that options accept, in Python, in the environment and on the command line.

Each is defined once, with its check.
"""

import os
from collections.abc import Sequence

from ._native import lib
from .errors import UsageError

BACKENDS = ("auto", "device", "reuseport", "off")
"""Ways to the kernel, in the order of enum fs_backend (native/include/fastsocket/fs.h)."""

STEERINGS = ("auto", "cpu", "spread")
"""Destinations of new connections, in the order of enum fs_steer."""

IN_FORCE = (*STEERINGS, "hash")
"""The steerings that can be in force: "hash" where the kernel accepts no steering program."""

LOOPS = ("uvloop", "asyncio")
"""Event loops, the default first."""

PINS = ("auto", "on", "off")
"""Whether workers are bound to cores; auto: while steering is by core."""

BACKEND_VARIABLE = "AIOFASTSOCKET_BACKEND"

SLOTS_MAX: int = lib.FS_SLOTS_MAX
"""Largest number of slots of a listen table: its steering program has room for no more."""


def check_word(what: str, value: str, right: Sequence[str]) -> str:
    """Return the value if it is a valid word. what: its name for the user, as "--loop", "steering".

    Raises UsageError, which lists the valid words.
    """
    if value not in right:
        raise UsageError(f"{what} {value!r} is unknown: use {', '.join(right)}")
    return value


def check_backend(backend: str | None = None) -> str:
    """The backend by argument, else by AIOFASTSOCKET_BACKEND, else "auto". Raises UsageError if it
    is unknown."""
    if backend is not None:
        return check_word("backend", backend, BACKENDS)
    return check_word(BACKEND_VARIABLE, os.environ.get(BACKEND_VARIABLE, "auto"), BACKENDS)


def check_steering(steer: str) -> str:
    """Return the steering if it is a valid word. Raises UsageError otherwise."""
    return check_word("steering", steer, STEERINGS)


def check_slots(slots: int, least: int = 1, *, what: str = "slots", least_is: str = "") -> int:
    """Return the number of slots if a table can have that many.

    least_is: the meaning of `least`, for the error text. Raises UsageError for other numbers.
    """
    if not least <= slots <= SLOTS_MAX:
        named = f"{least} ({least_is})" if least_is else least
        raise UsageError(f"{what} {slots}: use {named} to {SLOTS_MAX}")
    return slots


def default_slots() -> int:
    """Slots of a table whose maker does not know the number of workers (native/core/make.c)."""
    return lib.fs_default_slots()
