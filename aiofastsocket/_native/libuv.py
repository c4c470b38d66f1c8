"""What uvloop's copy of libuv can do, but uvloop does not offer: go on in a forked child."""

import ctypes
from typing import Any


def uv_loop_fork(loop: Any) -> bool:
    """uv_loop_fork(3) for a uvloop.Loop: an epoll set and a wake-up descriptor of its own.

    False if that cannot be had: the extension does not export libuv's names (its wheels do).
    Raises OSError for libuv's own errors.
    """
    import uvloop.loop

    library: Any = uvloop.loop
    try:
        function = ctypes.PyDLL(uvloop.loop.__file__).uv_loop_fork
    except (AttributeError, OSError):
        return False
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.argtypes, address.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    rc = function(address(library.libuv_get_loop_t_ptr(loop), None))
    if rc < 0:
        raise OSError(-rc, "uv_loop_fork")
    return True
