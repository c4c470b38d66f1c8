"""Clients: one short connection, many of them, and what became of each."""

import os
import re
import socket
import threading
import time
from collections import Counter

from .over_tls import secured

Address = tuple[str, int]

TIMEOUT = float(os.environ.get("TEST_WAIT_SECONDS", "20"))


def connect(address: Address | str, seconds: float = TIMEOUT) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(seconds)
        sock.connect(address)
        return sock
    return socket.create_connection(address, timeout=seconds)


def receive_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def ask(address: Address | str, request: bytes = b"who\n") -> bytes:
    """The answer to one request on a connection of its own."""
    with secured(connect(address)) as sock:
        sock.sendall(request)
        return receive_all(sock)


WHO = (b"who\n", re.compile(rb"\d+\s*"))
HTTP = (b"GET / HTTP/1.0\r\n\r\n", re.compile(rb"HTTP/1.[01] 200 .*\S\s*", re.DOTALL))


def outcome(
    address: Address, kind: tuple[bytes, re.Pattern[bytes]] = WHO, seconds: float = TIMEOUT
) -> str:
    """ "answered", "refused", "reset" (also: ended without an answer) or "timeout"."""
    request, answer = kind
    try:
        sock = secured(connect(address, seconds))
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"
    except ConnectionResetError:
        return "reset"
    with sock:
        try:
            sock.sendall(request)
            return "answered" if answer.fullmatch(receive_all(sock)) else "reset"
        except (ConnectionResetError, BrokenPipeError):
            return "reset"
        except TimeoutError:
            return "timeout"


class Load:
    """Short connections, one after the other, from several threads until told to stop."""

    def __init__(
        self,
        address: Address,
        threads: int = 6,
        kind: tuple[bytes, re.Pattern[bytes]] = WHO,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._kind = kind
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            result = outcome(self._address, self._kind)
            with self._lock:
                self.outcomes[result] += 1
            if result == "refused":
                time.sleep(0.05)

    def more(self, count: int) -> None:
        """Wait for that many further connections."""
        goal = self.outcomes.total() + count
        end = time.monotonic() + 60
        while self.outcomes.total() < goal:
            assert time.monotonic() < end, f"the load stands still at {self.outcomes}"
            time.sleep(0.005)


class OnCore:
    """Run the calling thread's connections from one core."""

    def __init__(self, core: int) -> None:
        self._core = core

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def listen_counters() -> dict[str, int]:
    """ListenOverflows and ListenDrops of this network namespace, /proc/net/netstat."""
    with open("/proc/net/netstat") as file:
        names, values = (line.split() for line in file if line.startswith("TcpExt:"))
    table = dict(zip(names, values, strict=True))
    return {name: int(table[name]) for name in ("ListenOverflows", "ListenDrops")}
