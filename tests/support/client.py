"""Clients: one short connection, many of them, and the outcome of each."""

import itertools
import os
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress

from .over_tls import secured

Address = tuple[str, int]

TIMEOUT = float(os.environ.get("TEST_WAIT_SECONDS", "20"))

_ports = itertools.count()


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
    """How a connection ended: "answered", "refused", "reset" (also: no answer) or "timeout"."""
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
        """Wait for `count` further connections."""
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


def listen_drops(port: int) -> int:
    """Connections that the kernel dropped at a port's listeners, as ListenDrops counts them for all
    (net/ipv4 tcp_listendrop): ss(8), skmem: d.
    """
    command = ["ss", "-Hltnm", f"sport = :{port}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    drops = re.findall(r"skmem:\(.*,d(\d+)\)", told)
    assert drops, told
    return sum(map(int, drops))


def free_port() -> int:
    """A port of 127.0.0.1 without a socket. The kernel does not hand out this range by itself
    (ip_local_port_range), and each of pytest's processes has its own part.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = 12000 + process % 8 * 2000 + next(_ports) % 2000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
