"""Measure how evenly a burst of connections is shared, and the cost: python burst.py --help.

Each row is measured with every given interpreter, in turns, so that two commits are compared in one
run: --python now=.venv/bin/python --python before=/elsewhere/bin/python. A row shows the median and
the worst of the rounds, and the ratio of the median to that of the last interpreter.
"""

import argparse
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

APPS = Path(__file__).parent / "apps"
WAIT = 30.0  # seconds, for any action of a server

Address = tuple[str, int]


@dataclass(frozen=True)
class Service:
    """A running `serve` of one interpreter's installation."""

    process: "subprocess.Popen[bytes]"
    address: Address

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(python: str, target: str, workers: int, loop: str, *options: str) -> Iterator[Service]:
    port = _free_port()
    command = [python, "-m", "aiofastsocket", "serve", f"held:{target}", "--app-dir", str(APPS)]
    command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers), "--loop", loop]
    command += ["--steer", "spread", *options]
    with subprocess.Popen(command, cwd="/", stderr=subprocess.PIPE) as process:
        assert process.stderr
        said = process.stderr.readline()
        if b"serving" not in said:
            raise SystemExit(f"{python}: {said.decode()}{process.stderr.read().decode()}")
        try:
            yield Service(process, ("127.0.0.1", port))
        finally:
            process.send_signal(signal.SIGINT)


# ---- bursts ----


def burst(address: Address, count: int, *, ask: bool = False) -> int:
    """Open `count` connections at once and keep them. Returns how many the busiest worker has.

    ask: send an HTTP request on each.
    """
    poll = select.epoll()
    clients = {}
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        poll.register(client, select.EPOLLOUT if ask else select.EPOLLIN)
        clients[client.fileno()] = client
    served: Counter[bytes] = Counter()
    end = time.monotonic() + WAIT
    while sum(served.values()) < count and time.monotonic() < end:
        for fd, events in poll.poll(1):
            if events & select.EPOLLOUT:
                clients[fd].send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                poll.modify(fd, select.EPOLLIN)
                continue
            served[clients[fd].recv(1000).splitlines()[-1]] += 1
            poll.unregister(fd)
    for client in clients.values():
        client.close()
    poll.close()
    if sum(served.values()) < count:
        raise SystemExit(f"only {sum(served.values())} of {count} were answered: {served}")
    return max(served.values())


def bursts(python: str, loop: str, workers: int, count: int, times: int) -> list[float]:
    with service(python, "Held", workers, loop) as served:
        found = []
        for _ in range(times):
            found.append(float(burst(served.address, count)))
            time.sleep(0.1)  # for workers to close them
        return found


NGINX = """
worker_processes 4;
daemon off;
pid {folder}/pid;
error_log {folder}/log;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port} {listen}; location / {{ return 200 "$pid\n"; }} }}
}}
"""


def nginx_bursts(python: str, listen: str, times: int) -> list[float]:
    """Bursts at nginx with 4 workers; with the library of the interpreter's package, if given."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "conf")
        conf.write_text(NGINX.format(folder=folder, port=port, listen=listen))
        library = [python, "-m", "aiofastsocket", "exec", "--steer", "spread", "--"]
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
        command = [*(library if python else []), nginx, "-p", folder, "-c", str(conf)]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
            time.sleep(1)
            try:
                found = []
                for _ in range(times):
                    found.append(float(burst(("127.0.0.1", port), 64, ask=True)))
                    time.sleep(0.1)
                return found
            finally:
                process.send_signal(signal.SIGINT)


# ---- latency of other requests, while one in twenty blocks its worker ----


def others(address: Address, how: bytes, seed: int) -> list[float]:
    """Milliseconds from connect to answer of requests that do not block: 40 per second, 10 s."""
    dice, poll = random.Random(seed), select.epoll()
    open_: dict[int, tuple[socket.socket, float, bool]] = {}
    took = []
    begin = time.monotonic()
    starts = [begin + n / 40 + dice.uniform(0, 0.02) for n in range(400)]
    while starts or open_:
        now = time.monotonic()
        while starts and starts[0] <= now:
            starts.pop(0)
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            blocks = dice.random() < 1 / 20
            open_[client.fileno()] = client, time.monotonic(), blocks
            poll.register(client, select.EPOLLOUT)
        for fd, events in poll.poll(max(0, (starts[0] if starts else now + 1) - time.monotonic())):
            client, since, blocks = open_[fd]
            if events & select.EPOLLOUT:
                client.send(b"GET /" + (how if blocks else b"") + b" HTTP/1.1\r\n\r\n")
                poll.modify(fd, select.EPOLLIN)
                continue
            client.recv(4096)
            if not blocks:
                took.append((time.monotonic() - since) * 1000)
            poll.unregister(fd)
            client.close()
            del open_[fd]
    poll.close()
    return took


def tail(python: str, loop: str, how: bytes, seed: int) -> list[float]:
    with service(python, "Blocking", 2, loop) as served:
        took = sorted(others(served.address, how, seed))
        return [took[len(took) * 95 // 100]]


# ---- idle workers ----


def wake_ups(python: str, loop: str) -> list[float]:
    """How often workers went to sleep again during 200 connections, one by one."""

    def slept(pids: list[int]) -> int:
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        return sum(int(t.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for t in texts)

    with service(python, "Held", 4, loop) as served:
        kept = []
        before = slept(served.workers())
        for _ in range(200):
            kept.append(socket.create_connection(served.address))
            kept[-1].recv(100)
            time.sleep(0.002)
        woken = slept(served.workers()) - before
        for client in kept:
            client.close()
        return [float(woken)]


# ---- CPU of short connections ----


def cpu(python: str, loop: str, clients: int) -> list[float]:
    """Microseconds of the workers' CPU per connection: wrk, `Connection: close`, 2 s."""

    def used(pids: list[int]) -> int:
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)

    with service(python, "Blocking", 4, loop) as served:
        pids = served.workers()
        before = used(pids)
        url = f"http://127.0.0.1:{served.address[1]}/"
        command = ["wrk", "-t1", f"-c{clients}", "-d2s", "-H", "Connection: close", url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        requests = next(
            int(line.split()[0]) for line in said.splitlines() if " requests in" in line
        )
        return [(used(pids) - before) / 1000 / requests]


# ---- the table ----

Row = Callable[[str, str, int], list[float]]


def rows(times: int) -> dict[str, tuple[str, int, Row]]:
    """Name -> unit, rounds, measurement (python, loop, round)."""
    found: dict[str, tuple[str, int, Row]] = {}
    for workers in (2, 4, 8):
        found[f"64 at once, {workers} workers"] = (
            "connections",
            1,
            lambda python, loop, _, w=workers: bursts(python, loop, w, 64, times),
        )
    found["1000 at once, 4 workers"] = (
        "connections",
        1,
        lambda python, loop, _: bursts(python, loop, 4, 1000, max(3, times // 2)),
    )
    for how in ("sleep", "burn"):
        found[f"p95 while handlers {how}"] = (
            "ms",
            max(3, times // 4),
            lambda python, loop, n, h=how: tail(python, loop, h.encode(), n),
        )
    found["wake-ups for 200 connections"] = ("", 3, lambda python, loop, _: wake_ups(python, loop))
    for clients in (64, 16, 4, 2):
        found[f"CPU of short connections, {clients} clients"] = (
            "us",
            max(3, times // 4),
            lambda python, loop, _, c=clients: cpu(python, loop, c),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python",
        action="append",
        metavar="NAME=PATH",
        help="interpreter to measure; may be repeated",
    )
    parser.add_argument("--loop", action="append", choices=("uvloop", "asyncio"))
    parser.add_argument("--times", type=int, default=20, help="bursts per row (%(default)s)")
    parser.add_argument("--only", default="", help="measure only rows whose names contain this")
    parser.add_argument("--nginx", action="store_true", help="measure bursts at nginx instead")
    args = parser.parse_args()
    pythons = dict(p.split("=", 1) for p in args.python or [f"now={sys.executable}"])
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if args.nginx:
        cases = [(f"under the library, {name}", p, "") for name, p in pythons.items()]
        for name, p, listen in (*cases, ("plain", "", ""), ("its own reuseport", "", "reuseport")):
            shares = nginx_bursts(p, listen, args.times)
            print(f"nginx {name:38} {median(shares):.4g}/{max(shares):.4g}", flush=True)
        return
    for loop in args.loop or ("uvloop", "asyncio"):
        for name, (unit, rounds, row) in rows(args.times).items():
            if args.only not in name:
                continue
            figures: dict[str, list[float]] = {p: [] for p in pythons}
            for n in range(rounds):
                for p, python in pythons.items():
                    figures[p] += row(python, loop, n)
            last = median(figures[list(pythons)[-1]])
            texts = [
                f"{p} {median(f):.4g}/{max(f):.4g} ({median(f) / last:.3f})"
                for p, f in figures.items()
            ]
            print(f"{loop:8} {name:38} {unit:12} {'   '.join(texts)}", flush=True)


main()
