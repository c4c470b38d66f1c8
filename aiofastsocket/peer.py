"""A client's address, as accept4(2) writes it and as Python's sockets give it."""

import socket
import struct
import sys

from ._native import ffi

Address = tuple[str, int] | tuple[str, int, int, int] | str
"""As socket.accept() gives it: IPv4, IPv6, or '' for a unix socket."""


def parse(raw: bytes) -> Address:
    """A struct sockaddr in the form of socket.accept(): (host, port[, flow, scope]), or '' for
    anything else."""
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == socket.AF_INET and len(raw) >= 16:
        (port,) = struct.unpack_from("!H", raw, 2)
        return socket.inet_ntop(family, raw[4:8]), port
    if family == socket.AF_INET6 and len(raw) >= 28:
        port, flow = struct.unpack_from("!HI", raw, 2)
        (scope,) = struct.unpack_from("=I", raw, 24)
        return socket.inet_ntop(family, raw[8:24]), port, flow, scope
    return ""


class Peer:
    """Room for the address that accept4(2) writes; to be used by one thread."""

    def __init__(self) -> None:
        self._address = ffi.new("struct sockaddr_storage *")
        self._bytes = ffi.buffer(self._address)
        self._size = ffi.sizeof("struct sockaddr_storage")
        self.pointer = ffi.cast("struct sockaddr *", self._address)
        self.length = ffi.new("socklen_t *")

    def clear(self) -> None:
        """Before each accept4(2)."""
        self.length[0] = self._size

    def address(self) -> Address:
        """The address in the form of socket.accept(): (host, port[, flow, scope]) or ''."""
        return parse(bytes(self._bytes[: self.length[0]]))
