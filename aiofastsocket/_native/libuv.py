"""Functions of uvloop's copy of libuv that uvloop does not offer: to continue in a forked child,
and to call back before and after a poll.

uvloop's wheels export libuv's names. Other builds may not; then these functions are not used.
"""

import ctypes
from typing import Any

from . import ffi, lib

# enum uv_handle_type, uv.h
UV_CHECK, UV_PREPARE = 2, 9


def _library() -> Any:
    import uvloop.loop

    return ctypes.PyDLL(uvloop.loop.__file__)


def _pointer(loop: Any) -> int:
    import uvloop.loop

    library: Any = uvloop.loop
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.argtypes, address.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return int(address(library.libuv_get_loop_t_ptr(loop), None) or 0)


def uv_loop_fork(loop: Any) -> bool:
    """uv_loop_fork(3) for a uvloop.Loop: an epoll set and a wake-up descriptor of its own.

    Returns False if uvloop does not export libuv's names. Raises OSError for libuv's own errors.
    """
    try:
        function = _library().uv_loop_fork
    except (AttributeError, OSError):
        return False
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    rc = function(_pointer(loop))
    if rc < 0:
        raise OSError(-rc, "uv_loop_fork")
    return True


class PulseHandles:
    """Tell a pulse (struct fs_pulse, by its address) before and after each poll of a uvloop.Loop.

    The handles are uv_prepare_t and uv_check_t, which call C directly. Facts (src/unix/core.c,
    loop-watcher.c): they run in each turn, right before and after libuv polls. Callbacks of
    descriptors are part of polling. Unreferenced handles keep no loop alive. uvloop takes a
    handle's `data` for an object of its own, so the pulse's address stands before the handle.
    """

    def __init__(self, loop: Any, pulse: int) -> None:
        self.started = False
        try:
            uv = _library()
            kinds = (
                (UV_PREPARE, uv.uv_prepare_init, uv.uv_prepare_start, "fs_pulse_before_poll"),
                (UV_CHECK, uv.uv_check_init, uv.uv_check_start, "fs_pulse_after_poll"),
            )
            self._close, unref, size = uv.uv_close, uv.uv_unref, uv.uv_handle_size
        except (AttributeError, OSError):
            return
        size.restype = ctypes.c_size_t
        self._memory: list[Any] = []  # libuv uses it until the loop is closed
        self._handles: list[ctypes.c_void_p] = []
        words = ctypes.sizeof(ctypes.c_void_p) * lib.FS_PULSE_BEFORE
        for kind, init, start, name in kinds:
            memory = ctypes.create_string_buffer(words + size(kind))
            ctypes.c_void_p.from_buffer(memory).value = pulse
            handle = ctypes.c_void_p(ctypes.addressof(memory) + words)
            callback = int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
            init(ctypes.c_void_p(_pointer(loop)), handle)
            start(handle, ctypes.c_void_p(callback))
            unref(handle)
            self._memory.append(memory)
            self._handles.append(handle)
        self.started = True

    def close(self) -> None:
        """Close the handles. Call this before the loop is closed."""
        if self.started:
            self.started = False
            for handle in self._handles:
                self._close(handle, None)
