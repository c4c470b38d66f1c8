"""What belongs to a socket in this process, found again by whoever has kept only the socket."""

import socket
import weakref
from typing import Generic, TypeVar

from .._native import lib

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by the cookies of their sockets (SO_COOKIE, socket(7)): the number of a descriptor is
    used again. They are kept until they are discarded."""

    def __init__(self) -> None:
        self._by_cookie: weakref.WeakValueDictionary[int, T] = weakref.WeakValueDictionary()
        self._kept: set[T] = set()

    def add(self, sock: socket.socket, what: T) -> None:
        """From now on it belongs to the socket."""
        self._by_cookie[lib.fs_socket_cookie(sock.fileno())] = what
        self._kept.add(what)

    def discard(self, what: T) -> None:
        """It is kept no more; found as long as somebody else has it."""
        self._kept.discard(what)

    def find(self, sock: socket.socket) -> T | None:
        """What belongs to the socket, or None."""
        if not self._by_cookie or sock.fileno() < 0:
            return None
        return self._by_cookie.get(lib.fs_socket_cookie(sock.fileno()))
