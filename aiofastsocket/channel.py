"""The channel: the interface to the kernel, with the same operations for each backend.

Source: the ioctl interface of /dev/fastsocket (native/include/fastsocket/uapi.h), and for the
operations on a stock kernel socket(2), listen(2), accept4(2), shutdown(2), close(2).
"""

import os
import socket as bsd

from ._native import Handle, check, ffi, lib, text
from .address import address_text
from .choices import BACKENDS, STEERINGS, check_backend, check_slots, check_steering
from .errors import SetupError


class Channel(Handle):
    """An open channel to the kernel; a context manager that closes it.

    Under the reuseport backend listen() makes the socket non-blocking; accept() still blocks if the
    socket was a blocking one.

    Args:
        backend: "auto", "device", "reuseport" or "off"; None takes AIOFASTSOCKET_BACKEND.
        slots: local listeners behind each listening socket (reuseport). None: two for each core, at
            least eight.
        steer: "auto", "cpu" or "spread".
        device: path of the device.

    Attributes:
        backend: the backend in use.
        why: the reason for this backend; one line.

    Raises:
        UsageError: an unknown word, or an invalid number of slots.
        SetupError: the backend is not available.
    """

    def __init__(
        self,
        backend: str | None = None,
        *,
        slots: int | None = None,
        steer: str = "auto",
        device: str | None = None,
    ) -> None:
        wanted = check_backend(backend)
        check_steering(steer)
        if slots is not None:
            check_slots(slots)
        path = ffi.new("char[]", os.fsencode(device)) if device is not None else ffi.NULL
        options = ffi.new(
            "struct fs_channel_options *",
            {"device": path, "slots": slots or 0, "steer": STEERINGS.index(steer)},
        )
        out = ffi.new("struct fs_channel **")
        why = ffi.new("char[]", lib.FS_WHY_MAX)
        if lib.fs_channel_open(out, BACKENDS.index(wanted), options, why) < 0:
            raise SetupError(f"backend {wanted} is not available: {text(why)}")
        self._channel = out[0]
        self.backend = BACKENDS[lib.fs_channel_backend(self._channel)]
        self.why = text(why)

    def __repr__(self) -> str:
        return f"<Channel {self.backend}: {self.why}>"

    def _open(self) -> object:
        if self._channel is None:
            raise ValueError("the channel is closed")
        return self._channel

    def handle(self) -> object:
        """The C channel, for table.ListenTable."""
        return self._open()

    def socket(
        self, family: int = bsd.AF_INET, type: int = bsd.SOCK_STREAM, proto: int = 0
    ) -> bsd.socket:
        """socket(2) through the channel. As Python's own, it is closed at an exec (PEP 446)."""
        fd = lib.fs_channel_socket(self._open(), family, type | bsd.SOCK_CLOEXEC, proto)
        return bsd.socket(family, type, proto, fileno=check(fd, "socket"))

    def listen(self, sock: bsd.socket, backlog: int = 2048) -> None:
        """listen(2): the socket becomes a global listener."""
        rc = lib.fs_channel_listen(self._open(), sock.fileno(), backlog)
        check(rc, "listen", address_text(sock))

    def spawn_listen(self, sock: bsd.socket, cpu: int = -1) -> None:
        """Give this process a local listener behind `sock`; cpu -1 lets the channel choose."""
        rc = lib.fs_channel_spawn_listen(self._open(), sock.fileno(), cpu)
        check(rc, "spawn_listen", address_text(sock))

    def spawn_all_listen(self) -> None:
        """Give this process a local listener behind every listener of this channel."""
        check(lib.fs_channel_spawn_all_listen(self._open()), "spawn_all_listen")

    def accept(self, sock: bsd.socket, flags: int = bsd.SOCK_CLOEXEC) -> bsd.socket:
        """accept4(2) from the local listener, from orphans, then from the global listener."""
        rc = lib.fs_channel_accept(self._open(), sock.fileno(), ffi.NULL, ffi.NULL, flags)
        fd = check(rc, "accept", address_text(sock))
        return bsd.socket(sock.family, sock.type, sock.proto, fileno=fd)

    def shutdown_listen(self, sock: bsd.socket, how: int = bsd.SHUT_RDWR) -> None:
        """shutdown(2) of the listener and all its local listeners."""
        rc = lib.fs_channel_shutdown_listen(self._open(), sock.fileno(), how)
        check(rc, "shutdown_listen", address_text(sock))

    def close_listen(self, sock: bsd.socket) -> None:
        """close(2) of the listener and its local listeners, for this process."""
        about = address_text(sock)
        check(lib.fs_channel_close(self._open(), sock.detach()), "close", about)

    def close(self) -> None:
        """Close the channel; listening sockets stay the program's. May be called twice."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            lib.fs_channel_free(channel)
