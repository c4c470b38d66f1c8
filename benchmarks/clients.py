"""Run loads and read their results: by wrk, ab, curl, and our own client (c/client.c)."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from peers import BUILD, HERE, client_core
from scenarios import (
    Arrivals,
    Download,
    Echo,
    Flood,
    Handshakes,
    Idle,
    Load,
    TlsIdle,
    WebSockets,
    Wrk,
)

# The result of every client: requests, errors, seconds, and p50, p99, p999 in microseconds. Our own
# client adds the share of latencies that exceed 10 ms.
Result = dict[str, Any]

# With fewer requests there is no 99.9th percentile.
_ENOUGH_FOR_P999 = 1000


class Void(Exception):
    """A run without a valid result; the text is the reason."""


def _command(load: Load, port: int, seconds: int, seed: int, *, tls: bool) -> list[str]:
    own = str(BUILD / "bin" / "client")
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    match load:
        case Wrk(connections, headers, _, path, body):
            said = [word for header in headers for word in ("-H", header)]
            options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua")]
            posted = ["--", str(body)] if body else []
            return ["wrk", *options, *said, url + path, *posted]
        case Handshakes(connections):
            counted = ["-t", str(seconds), "-n", "10000000", "-s", "20"]
            return ["ab", "-q", "-c", str(connections), *counted, f"{url}/"]
        case Download(mebibytes):
            said = ["-sSfk", "-o", "/dev/null", "-w", "%{time_total} %{size_download}"]
            return ["curl", *said, f"{url}/{mebibytes * 16}"]
        case TlsIdle(connections, kind):
            return [sys.executable, str(HERE / "tls_idle.py"), str(port), str(connections), kind]
        case Echo(connections, size):
            return [own, "echo", str(port), str(connections), str(size), str(seconds)]
        case WebSockets(connections, size):
            return [own, "websocket", str(port), str(connections), str(size), str(seconds)]
        case Idle(connections):
            return [own, "idle", str(port), str(connections), str(seconds)]
        case Flood(connections):
            return [own, "short", str(port), str(connections), "0", "0", "0"]
        case Arrivals(rate, block):
            count = round(rate * seconds)
            return [own, "short", str(port), str(count), str(rate), str(block), str(seed)]


def _ab(output: str) -> Result:
    """The result in ab's output, which has times in milliseconds."""

    def number(pattern: str) -> float:
        found = re.search(pattern, output)
        return float(found[1]) if found else 0.0

    return {
        "requests": int(number(r"Complete requests:\s+(\d+)")),
        "errors": int(number(r"Failed requests:\s+(\d+)")),
        "seconds": number(r"Time taken for tests:\s+([\d.]+)"),
        "p50": 1000 * number(r"50%\s+(\d+)"),
        "p99": 1000 * number(r"99%\s+(\d+)"),
        "p999": 1000 * number(r"100%\s+(\d+)"),
    }


def _result(load: Load, output: str) -> Result:
    if isinstance(load, Handshakes):
        return _ab(output)
    if isinstance(load, Download):
        seconds, size = map(float, output.split())
        complete = int(size == load.mebibytes * 2**20)
        times = dict.fromkeys(("p50", "p99", "p999"), seconds * 1e6)
        return {"requests": complete, "errors": 1 - complete, "seconds": seconds, **times}
    result: Result = json.loads(output.splitlines()[-1])
    return result


def run(
    load: Load,
    port: int,
    seconds: int,
    seed: int,
    begun: Callable[[], None],
    *,
    tls: bool = False,
) -> Result:
    """Run the load on the client's core; call `begun` right before the measured part.

    If a load has random parts, runs with the same seed are the same. Raises Void.
    """
    # This client reports when its connections are open, and waits.
    prepares = isinstance(load, Idle | TlsIdle)
    if not prepares:
        begun()
    with subprocess.Popen(
        _command(load, port, seconds, seed, tls=tls),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {client_core()}),
    ) as process:
        assert process.stdin
        assert process.stdout
        if prepares:
            process.stdout.readline()
            begun()
            process.stdin.write("\n")
        output, _ = process.communicate()
    if process.returncode:
        raise Void(f"the client ended with exit code {process.returncode}")
    result = _result(load, output)
    if result["errors"] > result["requests"] / 100:
        raise Void(f"{result['errors']} requests failed, and {result['requests']} did not")
    if result["requests"] < _ENOUGH_FOR_P999:
        del result["p999"]
    return result
