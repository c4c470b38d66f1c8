"""Listening sockets as the kernel tells everybody: accept queues by sock_diag(7), and what the
kernel module says in /proc/net/fastsocket (native/module/proc.c).

Of the network namespace that it runs in; it does not know tables.
"""

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
TCP_LISTEN = 10

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2 with an empty sockid
# struct inet_diag_msg: of its sockid only the cookie, then expires, rqueue.
_ANSWER = struct.Struct("=4x40xQII")


def listen_queues() -> dict[int, int]:
    """Connections that wait to be accepted, of each TCP listener, by its SO_COOKIE.

    Raises OSError if the kernel has no inet_diag, or a filter refuses netlink.
    """
    queues: dict[int, int] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as netlink:
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN)
            size = _HEADER.size + len(request)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            netlink.send(_HEADER.pack(size, SOCK_DIAG_BY_FAMILY, flags, 0, 0) + request)
            while _read(netlink.recv(1 << 16), queues):
                pass
    return queues


def _read(answer: bytes, queues: dict[int, int]) -> bool:
    """Add one datagram's sockets; False at the end of the dump."""
    at = 0
    while at + _HEADER.size <= len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, at)
        if kind == NLMSG_ERROR:
            code = struct.unpack_from("=i", answer, at + _HEADER.size)[0]
            raise OSError(-code, "sock_diag")
        if kind == NLMSG_DONE:
            return False
        cookie, _expires, queue = _ANSWER.unpack_from(answer, at + _HEADER.size)
        queues[cookie] = queue
        at += (length + 3) & ~3
    return True


@dataclass(frozen=True)
class DeviceCore:
    """What the module counts of a listener for one core; core None: for who has no local listener.

    inode: of the program's socket. own, global_, adopted: connections that the core's owners
    accepted from their own local listener, from the global one, and from others'. queue: waiting.
    """

    address: str
    inode: int
    core: int | None
    live: bool
    own: int
    global_: int
    adopted: int
    queue: int
    owners: tuple[int, ...]


def device_cores(path: Path = Path("/proc/net/fastsocket")) -> list[DeviceCore]:
    """Every line of it, those of one listener together. Raises OSError without the module."""
    found = []
    for line in path.read_text().splitlines()[1:]:
        address, inode, core, live, own, taken, adopted, queue, owners = line.split()
        found.append(
            DeviceCore(
                address,
                int(inode),
                None if core == "-" else int(core),
                live == "1",
                int(own),
                int(taken),
                int(adopted),
                int(queue),
                () if owners == "-" else tuple(map(int, owners.split(","))),
            )
        )
    return found
