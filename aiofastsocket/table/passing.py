"""A table's descriptors on their way to a process that did not inherit them: multiprocessing
pickles them for a spawned child.
"""

import os
import socket
from typing import Any

from .._native import check, ffi, lib
from ..address import address_text


def pack(table: Any, sock: socket.socket, slots: list[int]) -> list[Any]:
    """To be pickled: what stands for the page, the bell, the global listener, and the slots that
    are not that. table: struct fs_table *."""
    from multiprocessing.reduction import DupFd  # only those who pickle pay for the import

    own = [lib.fs_table_page_fd(table), lib.fs_table_bell(table), sock.fileno()]
    return [DupFd(fd) for fd in own + [fd for fd in slots if fd != sock.fileno()]]


def unpack(count: int, packed: list[Any]) -> tuple[Any, socket.socket]:
    """In the process that receives it: the table (struct fs_table *) and the global listener, both
    the caller's now. count: of all slots.

    Raises OSError; then nothing is left.
    """
    memfd, bell, sock_fd, *slots = (one.detach() for one in packed)
    sock = socket.socket(fileno=sock_fd)
    if count > len(slots):  # the first is the global listener itself
        slots.insert(0, sock_fd)
    out = ffi.new("struct fs_table **")
    try:
        rc = lib.fs_table_adopt(out, memfd, bell, sock_fd, ffi.new("int[]", slots), count)
        check(rc, "adopt", address_text(sock))
    except OSError:
        sock.close()
        for fd in {memfd, bell, *slots} - {sock_fd}:
            os.close(fd)
        raise
    return out[0], sock
