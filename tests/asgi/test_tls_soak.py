"""Many TLS connections of mixed kinds, most of them broken: memory and descriptors stay flat.

SOAK_CONNECTIONS sets the number of connections; the default is 20,000.
"""

import contextlib
import os
import random
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import get
from support.service import Service, memory, until

from aiofastsocket.proc import children

pytestmark = [pytest.mark.programs, pytest.mark.timeout(900)]


@pytest.fixture
def loop() -> str:
    """One loop is enough: each takes minutes, and the tested code is below both loops."""
    return "uvloop"


Serve = Callable[..., Service]

CONNECTIONS = int(os.environ.get("SOAK_CONNECTIONS", "20000"))
UPLOAD = get("/echo", "Content-Length: 100000", method="POST") + bytes(40_000)


class Clients:
    """Clients of every kind; some resume the session of an earlier one."""

    def __init__(self, service: Service) -> None:
        self.address = service.address
        self.chance = random.Random(22)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.session: ssl.SSLSession | None = None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
        self.hello = outgoing.read()

    def one(self) -> None:
        kind = self.chance.randrange(10)
        with socket.create_connection(self.address, timeout=30) as sock:
            if kind < 2:  # half a hello
                sock.sendall(self.hello[: self.chance.randrange(1, len(self.hello))])
            elif kind == 2:  # random bytes
                sock.sendall(self.chance.randbytes(self.chance.randrange(1, 3000)))
            elif kind == 3:  # a hello, and random bytes behind it
                sock.sendall(self.hello + self.chance.randbytes(500))
            elif kind == 4:  # plain HTTP
                sock.sendall(get("/hello"))
            else:
                self.over_tls(sock, kind)
                return
            self.leave(sock)

    def over_tls(self, plain: socket.socket, kind: int) -> None:
        session = self.session if self.chance.random() < 0.9 else None
        with self.context.wrap_socket(plain, session=session, server_hostname="localhost") as sock:
            if kind == 5:  # a request, and its answer
                sock.sendall(get("/hello"))
                assert b"hello" in sock.recv(65536)
                self.session = self.session or sock.session
            elif kind == 6:  # part of a body
                sock.sendall(UPLOAD)
            elif kind == 7:  # an answer that is not read
                sock.sendall(get("/megabytes?1"))
                sock.recv(1000)
            elif kind == 8:  # an invalid record
                socket.socket.sendall(sock, b"\x17\x03\x03\x00\x20" + bytes(32))
            self.leave(sock)

    def leave(self, sock: socket.socket) -> None:
        if self.chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_nothing_grows(serve: Serve, certificate: Path) -> None:
    service = serve(
        *("web:app", "--workers", "1", "--no-access-log", "--ssl-certfile", str(certificate))
    )
    clients = Clients(service)

    def descriptors() -> int:
        (worker,) = children(service.pid)
        return len(os.listdir(f"/proc/{worker}/fd"))

    def settled() -> tuple[int, int]:
        until(lambda: all(not slot.open for slot in service.slots()), "all are closed", 60)
        return memory(service), descriptors()

    for _ in range(3000):
        clients.one()
    before, files = settled()
    for _ in range(CONNECTIONS):
        clients.one()
    after, now = settled()
    assert now == files
    assert after - before < 2048, f"{before} KiB became {after} KiB"
    assert service.stop() == 0
    assert "tls.pyx" not in service.log()  # half a body is reported by the application
