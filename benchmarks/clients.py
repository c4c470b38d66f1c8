"""Loads, run and read: wrk, and our own client (c/client.c) for what wrk does not know."""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

from peers import BUILD, HERE, client_core
from scenarios import Arrivals, Echo, Flood, Idle, Load, Wrk

# What every client says: requests, errors, seconds, and p50, p99, p999 in microseconds; our own
# adds the share of latencies that exceed 10 ms.
Result = dict[str, Any]

# With fewer requests there is no 99.9th percentile.
_ENOUGH_FOR_P999 = 1000


class Void(Exception):
    """A run that says nothing, and why."""


def _command(load: Load, port: int, seconds: int, seed: int) -> list[str]:
    own = str(BUILD / "bin" / "client")
    match load:
        case Wrk(connections, headers, _):
            said = [word for header in headers for word in ("-H", header)]
            options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua")]
            return ["wrk", *options, *said, f"http://127.0.0.1:{port}/"]
        case Echo(connections, size):
            return [own, "echo", str(port), str(connections), str(size), str(seconds)]
        case Idle(connections):
            return [own, "idle", str(port), str(connections), str(seconds)]
        case Flood(connections):
            return [own, "short", str(port), str(connections), "0", "0", "0"]
        case Arrivals(rate, block):
            count = round(rate * seconds)
            return [own, "short", str(port), str(count), str(rate), str(block), str(seed)]


def run(load: Load, port: int, seconds: int, seed: int, begun: Callable[[], None]) -> Result:
    """Run the load on the client's core; `begun` is called right before what is measured.

    Where there is chance in a load, runs with the same seed are the same. Raises Void.
    """
    prepares = isinstance(load, Idle)  # it says when its connections are open, and waits
    if not prepares:
        begun()
    with subprocess.Popen(
        _command(load, port, seconds, seed),
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
        raise Void(f"the client ended with {process.returncode}")
    result: Result = json.loads(output.splitlines()[-1])
    if result["errors"] > result["requests"] / 100:
        raise Void(f"{result['errors']} requests failed, {result['requests']} did not")
    if result["requests"] < _ENOUGH_FOR_P999:
        del result["p999"]
    return result
