"""CPU time per short connection of unmodified servers: plain, with libfsocket.so, with their own
SO_REUSEPORT, in turns.

    python benchmarks/preload.py nginx haproxy lighttpd --rounds 15 --seconds 1

Server on one core, client (wrk, `Connection: close`) on another; CPU time is the scheduler's, of
the server's processes alone (/proc/PID/task/*/schedstat). Every round runs every variant once, in
an order that turns; printed are the medians, and of the ratios to `plain` in the same round the
median and the quartiles, which is the noise.
"""

import argparse
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import SERVERS, Server, Variant

from aiofastsocket.preload import environment
from aiofastsocket.stats import family

SERVER_CORE, CLIENT_CORE = 0, 1


def cpu_ns(pid: int) -> int:
    """CPU time of a process tree in nanoseconds; of threads that ended, nothing."""
    files = (f for p in family(pid) for f in Path(f"/proc/{p}/task").glob("*/schedstat"))
    return sum(int(f.read_text().split()[0]) for f in files)


class Running:
    """A server in one variant, until closed."""

    def __init__(self, server: Server, variant: Variant, workers: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        folder.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "index.html").write_text("hello\n")
        values = server.defaults | variant.settings
        names = {"dir": str(folder), "conf": str(folder / "conf"), "port": str(self.port)}
        text = server.configuration.format(workers=workers, **names, **values)
        (folder / "conf").write_text(text)
        env = dict(os.environ)
        if variant.shim:
            env = environment(variant.environment, env)
        self.process = subprocess.Popen(
            [part.format(**names) for part in server.command],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # lighttpd ends its whole process group
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        time.sleep(0.2)

    def measure(self, seconds: float, connections: int) -> float:
        """Microseconds of CPU per connection, by one run of the client."""
        before = cpu_ns(self.process.pid)
        done = subprocess.run(
            [
                *("taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{connections}"),
                *(f"-d{seconds}s", "-H", "Connection: close", f"http://127.0.0.1:{self.port}/"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = cpu_ns(self.process.pid) - before
        if "Non-2xx" in done or "Socket errors" in done:
            raise SystemExit(f"the run is void: {done}")
        return used / 1000 / int(re.search(r"(\d+) requests", done)[1])

    def close(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.folder.cleanup()


def compare(name: str, rounds: int, seconds: float, workers: int, connections: int) -> None:
    """Run all variants of a server in turns and print what came out."""
    server = SERVERS[name]
    running = {v: Running(server, variant, workers) for v, variant in server.variants.items()}
    figures: dict[str, list[float]] = {v: [] for v in running}
    try:
        for _ in range(rounds):
            for variant in random.sample(list(running), len(running)):
                figures[variant].append(running[variant].measure(seconds, connections))
    finally:
        for server_process in running.values():
            server_process.close()
    for variant, values in figures.items():
        ratios = [a / b for a, b in zip(values, figures["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:9} {variant:11} {statistics.median(values):6.2f} us/connection"
            f"   ratio to plain {middle:.3f}  (quartiles {low:.3f} to {high:.3f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("servers", nargs="*", default=list(SERVERS), help="nginx haproxy lighttpd")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the client")
    for name in args.servers:
        compare(name, args.rounds, args.seconds, args.workers, args.connections)


if __name__ == "__main__":
    main()
