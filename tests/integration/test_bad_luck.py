"""What bad luck does to a service, and what it does all the same: each case was found by use."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.client import HTTP, ask, outcome
from support.service import APP, COMMAND, Service, until

from aiofastsocket.proc import children, descriptors

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.0\r\n\r\n", HTTP[1]
CLOSED = 'exec 0<&- 1>&- 2>&-; exec "$@"'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def standard_streams(pid: int) -> set[str]:
    return {
        meaning for path, meaning in descriptors(pid) if path.rpartition("/")[2] in {"0", "1", "2"}
    }


def test_standard_streams_that_are_closed(tmp_path: Path) -> None:
    """Nothing of ours gets their numbers, or the access log would be written into it."""
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "web:app", "--app-dir", str(APP), "--workers", "2"]
    command += ["--bind", f"127.0.0.1:{address[1]}", "--pid-file", str(tmp_path / "pid")]
    service = subprocess.Popen(["sh", "-c", CLOSED, "sh", *command], cwd=tmp_path)
    try:
        until(lambda: outcome(address, HELLO) == "answered", "it serves")
        until(lambda: len(children(service.pid)) == 2, "both workers are there")
        assert {outcome(address, HELLO) for _ in range(20)} == {"answered"}
        old = set(children(service.pid))
        for pid in (service.pid, *old):
            assert standard_streams(pid) == {"/dev/null"}
        service.send_signal(signal.SIGHUP)
        until(lambda: not old & set(children(service.pid)), "new workers serve")
        assert {outcome(address, HELLO) for _ in range(20)} == {"answered"}
    finally:
        service.terminate()
        assert service.wait(30) == 0


def test_exec_with_standard_streams_closed(tmp_path: Path) -> None:
    program = "import os; print(*[os.readlink(f'/proc/self/fd/{n}') for n in range(3)])"
    command = [
        str(COMMAND),
        "exec",
        "--",
        sys.executable,
        "-c",
        f"{program[:-1]}, file=open('out', 'w'))",
    ]
    done = subprocess.run(["sh", "-c", CLOSED, "sh", *command], cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "/dev/null /dev/null /dev/null\n"


def test_a_table_in_a_process_without_standard_streams(tmp_path: Path) -> None:
    """A library user's own: its print() must not reach the page."""
    program = (
        "import os, socket, aiofastsocket\n"
        "from aiofastsocket.proc import descriptors\n"
        "sock = socket.socket()\n"  # gets 0: the program's own affair
        "sock.bind(('127.0.0.1', 0))\n"
        "with aiofastsocket.ListenTable(sock, slots=4) as table:\n"
        "    names = [int(path.rpartition('/')[2]) for path, _ in descriptors(os.getpid())]\n"
        "    ours = [table.bell(), *map(table.fileno, range(4))]\n"
        "    with open('out', 'w') as file:\n"
        "        print(min(ours), [n for n in names if 0 < n < 3], file=file)\n"
    )
    done = subprocess.run(
        ["sh", "-c", CLOSED, "sh", sys.executable, "-c", program], cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0
    lowest, held = (tmp_path / "out").read_text().split(maxsplit=1)
    assert int(lowest) > 2
    assert held == "[]\n" or "1" not in held


OWN_HANDLER = """
import asyncio, os, signal
from targets import Who as Base

got = []
signal.signal(signal.SIGUSR2, lambda *_: got.append("mine"))

class Who(Base):
    def data_received(self, data):
        self.transport.write(" ".join(got).encode() + b" %d" % os.getpid())
        self.transport.close()
"""


def test_signals_that_mean_nothing_end_nobody(serve: Serve, tmp_path: Path) -> None:
    """signal(7): all whose default action would, but for faults, limits and job control."""
    (tmp_path / "own.py").write_text(OWN_HANDLER)
    env = {"PYTHONPATH": str(APP)}
    service = serve("own:Who", "--app-dir", str(tmp_path), "--workers", "1", env=env)
    (worker,) = service.owners()
    ignored = ("CHLD", "URG", "WINCH", "CONT", "PIPE", "XFSZ")
    acted_on = ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "KILL", "STOP", "TSTP")
    left = ("SEGV", "BUS", "ILL", "FPE", "ABRT", "TRAP", "SYS", "XCPU")
    known = {getattr(signal, f"SIG{name}") for name in (*ignored, *acted_on, *left)}
    for number in sorted(set(signal.valid_signals()) - known):
        for pid in (service.pid, worker):
            os.kill(pid, number)
    service.wait_log("USR1 means nothing yet: the service goes on")
    service.wait_log("USR1 means nothing to a worker: it goes on")
    service.wait_log("RTMIN+3 means nothing yet")
    assert "USR2 means nothing to a worker" not in service.log()
    until(lambda: ask(service.address).startswith(b"mine"), "its own handler ran")
    assert service.owners() == [worker]
    # And nothing of it is inherited by what is executed.
    status = Path(f"/proc/{worker}/status").read_text()
    (mask,) = re.findall(r"SigIgn:\s+(\w+)", status)
    assert not int(mask, 16) & (1 << (signal.SIGUSR1 - 1) | 1 << (signal.SIGRTMIN - 1))


def test_a_signal_that_means_nothing_while_it_starts(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\nfrom targets import Who\n")
    env = {"PYTHONPATH": str(APP)}
    arguments = ("--app-dir", str(tmp_path), "--workers", "1", "--pid-file", str(tmp_path / "pid"))
    service = serve("slow:Who", *arguments, env=env, wait=False)
    until((tmp_path / "pid").exists, "it begins")
    until(lambda: children(service.pid), "a worker begins")
    for pid in (service.pid, *children(service.pid)):
        os.kill(pid, signal.SIGUSR1)
    service.wait_log("serving ")
    assert ask(service.address)
    assert "replaced" not in service.log()
