"""The words and numbers that options take, here, in the environment and on the command line: each
once, with its check.
"""

import os
from collections.abc import Sequence

from ._native import lib
from .errors import UsageError

BACKENDS = ("auto", "device", "reuseport", "off")
"""Ways to the kernel, in the order of enum fs_backend (native/include/fastsocket/fs.h)."""

STEERINGS = ("auto", "cpu", "spread")
"""Where new connections go, in the order of enum fs_steer."""

IN_FORCE = (*STEERINGS, "hash")
"""What becomes of that, where the kernel takes no steering program."""

LOOPS = ("uvloop", "asyncio")
"""Event loops, the default first."""

PINS = ("auto", "on", "off")
"""Whether workers are bound to cores; auto: while steering is by core."""

BACKEND_VARIABLE = "AIOFASTSOCKET_BACKEND"

SLOTS_MAX: int = lib.FS_SLOTS_MAX
"""Slots of one listen table: its steering program has room for no more."""


def check_word(what: str, value: str, right: Sequence[str]) -> str:
    """The value, if it is one of the right ones. what: as the user gave it: "--loop", "steering".

    Raises UsageError, which lists the right ones.
    """
    if value not in right:
        raise UsageError(f"{what} {value!r} is unknown: use {', '.join(right)}")
    return value


def check_backend(backend: str | None = None) -> str:
    """The backend by argument, else by AIOFASTSOCKET_BACKEND, else "auto". Raises UsageError."""
    if backend is not None:
        return check_word("backend", backend, BACKENDS)
    return check_word(BACKEND_VARIABLE, os.environ.get(BACKEND_VARIABLE, "auto"), BACKENDS)


def check_steering(steer: str) -> str:
    """The steering, if it is one. Raises UsageError."""
    return check_word("steering", steer, STEERINGS)


def check_slots(slots: int, least: int = 1, *, what: str = "slots", least_is: str = "") -> int:
    """The number of slots, if a table can have so many. least_is: what the least number stands for.

    Raises UsageError.
    """
    if not least <= slots <= SLOTS_MAX:
        named = f"{least} ({least_is})" if least_is else least
        raise UsageError(f"{what} {slots}: use {named} to {SLOTS_MAX}")
    return slots


def default_slots() -> int:
    """Slots of a table whose maker does not know who will serve it (native/core/make.c)."""
    return lib.fs_default_slots()
