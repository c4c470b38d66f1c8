"""The only importer of the cffi library. It turns -errno into OSError."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from . import _ffi

__all__ = ["PRELOAD_LIBRARY", "Handle", "check", "ffi", "lib", "on_poller", "text"]

ffi, lib = _ffi.ffi, _ffi.lib

PRELOAD_LIBRARY = Path(_ffi.__file__).parent / "libfsocket.so"
"""The library for LD_PRELOAD, built next to the extension. It is never loaded here: its constructor
would run in every importer."""


class Handle:
    """An object that holds something of the library: a context manager that closes it."""

    def close(self) -> None:
        raise AssertionError(f"{type(self).__name__} does not define close()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check(rc: int, call: str, about: object = "") -> int:
    """Return `rc`, or raise the OSError that it stands for.

    The error names the call and its object: `[Errno 98] listen 127.0.0.1:80: Address ...`.
    """
    if rc >= 0:
        return rc
    where = f"{call} {about}".rstrip()
    raise OSError(-rc, f"{where}: {os.strerror(-rc)}")


def text(chars: object) -> str:
    """The Python text of a C char array."""
    value = ffi.string(chars)
    assert isinstance(value, bytes)
    return value.decode(errors="replace")


def on_poller(
    add: Callable[[Any, int, int, bool], int], remove: Callable[[Any, int, int], None]
) -> None:
    """Set the functions of `lib.part_poller`. They get the object whose ffi.new_handle was its
    context."""

    def part_add(context: object, fd: int, source: int, edge: bool) -> int:
        return add(ffi.from_handle(context), fd, source, edge)

    def part_remove(context: object, fd: int, source: int) -> None:
        remove(ffi.from_handle(context), fd, source)

    ffi.def_extern()(part_add)
    ffi.def_extern()(part_remove)
