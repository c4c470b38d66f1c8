"""The only importer of compiled code: the cffi library, and where -errno becomes OSError."""

import os

from ._ffi import ffi, lib

__all__ = ["check", "ffi", "lib", "text"]


def check(rc: int, call: str, about: object = "") -> int:
    """Return `rc`, or raise the OSError it stands for.

    The error names the call and what it was about: `[Errno 98] listen 127.0.0.1:80: Address ...`.
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
