"""Finds the object that belongs to a socket of this process, by the socket alone."""

import socket
import weakref
from typing import Generic, TypeVar

from .._native import lib

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by their sockets' cookies (SO_COOKIE, socket(7)), because descriptor numbers are used
    again. Objects are kept until they are discarded."""

    def __init__(self) -> None:
        self._by_cookie: weakref.WeakValueDictionary[int, T] = weakref.WeakValueDictionary()
        self._kept: set[T] = set()

    def add(self, sock: socket.socket, what: T) -> None:
        """From now on `what` belongs to the socket."""
        self._by_cookie[lib.fs_socket_cookie(sock.fileno())] = what
        self._kept.add(what)

    def discard(self, what: T) -> None:
        """Do not keep `what` any more. It is found as long as other references to it exist."""
        self._kept.discard(what)

    def find(self, sock: socket.socket) -> T | None:
        """The object that belongs to the socket, or None."""
        if not self._by_cookie or sock.fileno() < 0:
            return None
        return self._by_cookie.get(lib.fs_socket_cookie(sock.fileno()))
