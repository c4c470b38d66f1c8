"""Addresses of sockets: as people write them, as accept4(2) writes them, as Python gives them."""

import os
import socket
import struct
import sys

from ._native import ffi

Address = tuple[str, int] | tuple[str, int, int, int] | str
"""An address as socket.accept() gives it: IPv4, IPv6, or '' for a unix socket."""


def address_text(sock: socket.socket) -> str:
    """A listening socket's address as a person writes it: host:port, [v6]:port or unix:path."""
    try:
        name = sock.getsockname()
    except OSError:
        return f"fd {sock.fileno()}"
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    return host_port(name)


def host_port(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """An IP address and port as a person writes them."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_tcp(sock: socket.socket) -> bool:
    """Whether it is an IPv4 or IPv6 stream socket, the only kind that can have local listeners."""
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM


def common_name(listener: socket.socket) -> Address | None:
    """The local address of all connections of a listener, as getsockname(2) gives it. None if each
    has its own, because the listener is bound to all addresses of the machine."""
    name: Address = listener.getsockname()
    every = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}.get(listener.family)
    return None if every is not None and name[0] == every else name


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
    """Memory for the address that accept4(2) writes. Only one thread may use it."""

    def __init__(self) -> None:
        self._address = ffi.new("struct sockaddr_storage *")
        self._bytes = ffi.buffer(self._address)
        self._size = ffi.sizeof("struct sockaddr_storage")
        self.pointer = ffi.cast("struct sockaddr *", self._address)
        self.length = ffi.new("socklen_t *")

    def clear(self) -> None:
        """Reset the length of the address. Call this before each accept4(2)."""
        self.length[0] = self._size

    def address(self) -> Address:
        """The address in the form of socket.accept(): (host, port[, flow, scope]) or ''."""
        return parse(bytes(self._bytes[: self.length[0]]))
