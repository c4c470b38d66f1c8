"""Other people's servers, plain or with the preload library, and questions to them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aiofastsocket.preload import environment
from aiofastsocket.proc import family
from aiofastsocket.stats.command import Table, collect

from .service import state_of, until

HOST = "127.0.0.1"


def which(name: str) -> str:
    """A program's full path: nginx and HAProxy execute themselves again by the name in argv."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert path is not None, f"{name} is not installed: make test-programs installs it"
    return path


def alive(pid: int) -> bool:
    with suppress(OSError):
        return state_of(pid) not in "ZX"
    return False


def accepts(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((HOST, port), timeout=5).close()
        return True
    return False


class Program:
    """A server in the foreground, listening when the constructor returns.

    preloaded: with the library, whose FSOCKET_* variables are `settings` and whose log is `log`.
    pid_file: of a server that goes to the background; the process id in it counts then.
    """

    def __init__(
        self,
        command: Sequence[object],
        *,
        folder: Path,
        port: int,
        preloaded: bool,
        settings: dict[str, str] | None = None,
        pid_file: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = port
        self.address = (HOST, port)
        self.log = folder / f"fsocket-{port}.log"
        self.output = folder / f"output-{port}"
        base = dict(os.environ) | (env or {})
        if preloaded:
            own = {"FSOCKET_STEER": "spread", "FSOCKET_LOG": f"info:{self.log}"}
            base = environment(own | (settings or {}), base)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env=base,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if pid_file is not None:
                assert self.process.wait(20) == 0, self.said()
                until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the pid file")
                self.pid = int(pid_file.read_text())
            else:
                self.pid = self.process.pid
            until(lambda: accepts(port) or not alive(self.pid), "the server listens")
            assert alive(self.pid), self.said()
        except BaseException:
            self.close()
            raise

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def pids(self) -> list[int]:
        return family(self.pid)

    def fds(self) -> dict[int, int]:
        """Open descriptors of each process."""
        found = {}
        for pid in self.pids():
            with suppress(FileNotFoundError):  # it ended meanwhile
                found[pid] = len(os.listdir(f"/proc/{pid}/fd"))
        return found

    def settled_fds(self) -> dict[int, int]:
        """Open descriptors of each process, once their numbers do not change."""
        reads = [self.fds()]

        def quiet() -> bool:
            time.sleep(0.1)
            reads.append(self.fds())
            return len(reads) > 5 and reads[-1] == reads[-2] == reads[-3] == reads[-4]

        until(quiet, "its descriptors do not change")
        return reads[-1]

    def tables(self) -> list[Table]:
        return [t for t in collect(self.pids()) if t.info.address.endswith(f":{self.port}")]

    def table(self) -> Table:
        (table,) = self.tables()
        return table

    def accepted(self) -> int:
        table = self.table()
        return table.info.others + sum(s.accepted for s in table.slots)

    def owners(self) -> list[int]:
        return [s.pid for s in self.table().slots if s.pid and s.alive]

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """Stop the server; its exit code, or None for a server in the background."""
        everybody = self.pids()
        os.kill(self.pid, number)
        code = None
        if self.pid == self.process.pid:
            code = self.process.wait(30)
        until(lambda: not any(map(alive, everybody)), "all processes ended")
        return code

    def close(self) -> None:
        """Kill the server, whatever state it is in."""
        pids = set(self.pids()) if hasattr(self, "pid") else set()
        for pid in pids | {self.process.pid}:
            if alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


CLIENTS = 32


def ab(port: int, requests: int = 20000, clients: int = CLIENTS) -> None:
    """Short HTTP requests, each on a connection of its own; every one must be answered."""
    done = subprocess.run(
        ["ab", "-q", "-r", "-n", str(requests), "-c", str(clients), f"http://{HOST}:{port}/"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    figures = dict(
        re.findall(r"(Complete requests|Failed requests|Non-2xx.*?):\s+(\d+)", done.stdout)
    )
    assert figures == {"Complete requests": str(requests), "Failed requests": "0"}, done


def check_shares(program: Program, workers: int) -> None:
    """Under `spread` every worker's slot is in use, none below 0.8 of its equal share.

    Idle workers help busy ones, and a worker that a loaded machine keeps from running is busy: one
    run of three must be even. With a shared socket, no run is.
    """
    until(lambda: len(program.owners()) == workers, "every worker has a slot")
    fds = program.settled_fds()
    for _ in range(3):
        before = [s.accepted for s in program.table().slots]
        ab(program.port)
        after = program.table()
        shares = [
            s.accepted - b for s, b in zip(after.slots, before, strict=True) if s.pid and s.alive
        ]
        print("accepted by each worker:", shares)
        assert len(shares) == workers
        assert 20000 <= sum(shares) <= 20000 + CLIENTS  # ab opens a few more than it needs
        if min(shares) >= 0.8 * sum(shares) / workers:
            break
    else:
        raise AssertionError(f"uneven: {shares}")
    assert after.info.steer == "spread"
    assert all(s.own > 0 for s in after.slots if s.pid)
    # lighttpd keeps served connections open for some seconds.
    until(lambda: program.fds() == fds, f"as many descriptors as before: {fds}")
