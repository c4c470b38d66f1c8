"""Passes a table's descriptors to a process that did not inherit them.

multiprocessing pickles them for a spawned child.
"""

import os
import socket
from typing import Any

from .._native import check, ffi, lib
from ..address import address_text


def pack(table: Any, sock: socket.socket, slots: list[int]) -> list[Any]:
    """Objects to pickle: for the page, the bell, the global listener, and the slots other than the
    global listener. table: struct fs_table *."""
    from multiprocessing.reduction import DupFd  # imported only for pickling

    own = [lib.fs_table_page_fd(table), lib.fs_table_bell(table), sock.fileno()]
    return [DupFd(fd) for fd in own + [fd for fd in slots if fd != sock.fileno()]]


def unpack(count: int, packed: list[Any]) -> tuple[Any, socket.socket]:
    """In the receiving process: the table (struct fs_table *) and the global listener, which both
    belong to the caller. count: number of all slots.

    Raises OSError, after all descriptors are closed.
    """
    memfd, bell, sock_fd, *slots = (one.detach() for one in packed)
    sock = socket.socket(fileno=sock_fd)
    if count > len(slots):  # the first slot is the global listener itself
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
