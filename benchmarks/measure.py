"""One measurement: the resources of a server's processes during a load, and the cores' use.

CPU time is the scheduler's, in nanoseconds, of the server's processes only. The use of the cores,
by all programs, shows whether the server or the client was the limit. The number of the server's
sleeps shows the size of its batches: a server that is the limit serves many connections per
wake-up, and each costs less.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import clients
from peers import Running, client_core
from scenarios import Idle, Load, TlsIdle


def _family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def _threads(pid: int) -> list[Path]:
    """The threads of a process and its descendants."""
    return [task for p in _family(pid) for task in Path(f"/proc/{p}/task").iterdir()]


def _cpu_ns(pid: int) -> int:
    """CPU time of all running threads. It does not include threads that have ended."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _threads(pid))


def _modes(pid: int) -> tuple[int, int]:
    """Ticks in user mode and in the kernel, for their shares of the CPU time."""
    user = system = 0
    for member in _family(pid):
        words = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user, system = user + int(words[11]), system + int(words[12])
    return user, system


def _sleeps(pid: int) -> int:
    """How often the threads gave up their core because they had nothing to do."""
    texts = [(task / "status").read_text() for task in _threads(pid)]
    return sum(int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts)


def _memory(pid: int) -> int:
    """Proportional set size in bytes: shared memory counts in parts."""
    total = 0
    for member in _family(pid):
        lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024


def _core_times(core: int) -> tuple[int, int]:
    """Ticks in which a core was busy, and all its ticks."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            ticks = [int(word) for word in line.split()[1:9]]
            return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    raise LookupError(f"core {core} is not in /proc/stat")


class _Meter:
    """Reads all counters when it is started, and again when it is stopped."""

    def __init__(self, target: Running) -> None:
        self._target = target
        self._memory = _memory(target.pid)

    def start(self) -> None:
        self.memory_growth = _memory(self._target.pid) - self._memory
        self._cores = {c: _core_times(c) for c in self._target.cores | {client_core()}}
        self._sleeps = _sleeps(self._target.pid)
        self._modes = _modes(self._target.pid)
        self._time = time.monotonic_ns()
        self._cpu = _cpu_ns(self._target.pid)

    def stop(self) -> None:
        self.cpu_ns = _cpu_ns(self._target.pid) - self._cpu
        self.wall_ns = time.monotonic_ns() - self._time
        user, system = (b - a for a, b in zip(self._modes, _modes(self._target.pid), strict=True))
        self.user_share = user / max(1, user + system)
        self.sleeps = _sleeps(self._target.pid) - self._sleeps
        self.busy = {}
        for core, (busy, total) in self._cores.items():
            busy_now, total_now = _core_times(core)
            self.busy[core] = (busy_now - busy) / max(1, total_now - total)


def measure(target: Running, load: Load, seconds: int, seed: int) -> dict[str, Any]:
    """One line of the results: the client's result, and the server's resources for it."""
    meter = _Meter(target)
    secure = target.server.tls
    result = clients.run(load, target.port, seconds, seed, meter.start, tls=secure)
    meter.stop()
    result["cpu_us"] = meter.cpu_ns / 1000 / result["requests"]
    result["user_us"] = result["cpu_us"] * meter.user_share
    result["system_us"] = result["cpu_us"] - result["user_us"]
    result["rate"] = result["requests"] / result["seconds"]
    result["sleeps"] = meter.sleeps / result["requests"]
    result["server_share"] = meter.cpu_ns / meter.wall_ns / len(target.cores)
    result["server_core"] = sum(meter.busy[c] for c in target.cores) / len(target.cores)
    result["client_core"] = meter.busy[client_core()]
    if isinstance(load, Idle | TlsIdle):
        result["memory"] = meter.memory_growth / load.connections
    return {
        key: round(value, 5) if isinstance(value, float) else value for key, value in result.items()
    }
