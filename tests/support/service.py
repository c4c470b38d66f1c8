"""A running `aiofastsocket serve`, and questions to it."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from aiofastsocket import SlotInfo, TableInfo, tables_of

from . import over_tls

COMMAND = Path(sys.executable).parent / "aiofastsocket"
APP = Path(__file__).parent / "app"
# As a wrapper: root without privileges, and on some kernels without the right to set filters.
ORDINARY = ("setpriv", "--bounding-set=-all")
WAIT = float(os.environ.get("TEST_WAIT_SECONDS", "30"))  # an emulated machine is slow


def until(condition: Callable[[], object], what: str, seconds: float = WAIT) -> None:
    """Wait for a condition; the time limit only ends a failed test."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.01)


def run(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, as a user would, in an empty directory."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
    )


def one_line(out: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> None:
    assert out.returncode == code, out.stderr
    assert "Traceback" not in out.stderr
    assert len(out.stderr.splitlines()) == 1, out.stderr
    for part in parts:
        assert part in out.stderr


def program(text: str) -> str:
    """Run a Python program to its end, without the source tree on its path; its output."""
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stat_of(pid: int) -> list[bytes]:
    """The fields of proc(5) stat from field 3 on: the name before them may be any bytes."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def state_of(pid: int) -> str:
    """The state of a process: running, sleeping, stopped (T), a zombie ..."""
    return stat_of(pid)[0].decode()


def stand_still(pid: int) -> None:
    """Stop a process, and wait until it is stopped: kill(2) does not wait."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state_of(pid) == "T", f"{pid} stops")


def let_everybody_in(folder: Path) -> None:
    """Let users without privileges use a folder of pytest's, and all folders above it."""
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()):
            return
        each.chmod(0o755)


def session_members(session: int) -> list[int]:
    """Processes, zombies not counted, of a session: proc(5) stat, fields 3 and 6."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, _, _, sid = stat_of(int(entry))[:4]
            except OSError:
                continue
            if int(sid) == session and state not in b"ZX":
                found.append(int(entry))
    return found


class Service:
    """`serve` with these arguments, ready when the constructor returns.

    Without a bind among the arguments it takes a free port of 127.0.0.1, unless `bind` is False.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        wait: bool = True,
        bind: bool = True,
        preexec_fn: Callable[[], None] | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        where: tuple[str, ...] = ()
        given = {"--bind", "-b", "--host", "--port", "--fd"} & set(arguments)
        if bind and not given and not pass_fds:
            where = ("--bind", "127.0.0.1:0")
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        if not any(argument.startswith("--ssl-") for argument in arguments):
            where += over_tls.OPTIONS
        app = () if "--app-dir" in arguments else ("--app-dir", str(APP))
        self.process = subprocess.Popen(
            [*wrapper, COMMAND, "serve", *arguments, *where, *app],
            cwd=cwd,
            env=os.environ | (env or {}),
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            pass_fds=pass_fds,
            preexec_fn=preexec_fn,
            start_new_session=True,
        )
        self.pid = self.process.pid
        if wait:
            try:
                self.wait_log("serving ")
            except BaseException:
                self.close()
                raise

    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()

    def wait_log(self, text: str, count: int = 1) -> None:
        until(
            lambda: self.log().count(text) >= count or self.process.poll() is not None,
            f"{text!r} in the log",
        )
        assert self.log().count(text) >= count, self.log()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        found = re.search(
            r"serving \S+ on (?:TLS )?(.*?)(?: \(plain HTTP .*\))?: \d+ worker",
            self.log().replace("the built-in demo", "demo"),
        )
        assert found, self.log()
        result = []
        for text in found[1].split(", "):
            host, _, port = text.rpartition(":")
            result.append((host.strip("[]"), int(port) if port.isdigit() else 0))
        return result

    @property
    def address(self) -> tuple[str, int]:
        return self.addresses[0]

    def workers(self) -> list[int]:
        """The living children of the supervisor."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def slots(self, table: int = 0) -> list[SlotInfo]:
        views = list(tables_of(self.pid))
        result = views[table].slots()
        for view in views:
            view.close()
        return result

    def slot_of(self, pid: int) -> SlotInfo:
        return next(slot for slot in self.slots() if slot.pid == pid)

    def info(self, table: int = 0) -> TableInfo:
        views = list(tables_of(self.pid))
        result = views[table].info()
        for view in views:
            view.close()
        return result

    def owners(self) -> list[int]:
        """Process ids of the live slots' owners."""
        return [s.pid for s in self.slots() if s.live]

    def kill_an_owner(self) -> int:
        """Kill a random owner; its process id. The page may still show one that just died."""
        while True:
            with suppress(ProcessLookupError, IndexError):
                pid = random.choice(self.owners())
                os.kill(pid, signal.SIGKILL)
                return pid

    def accepted(self) -> int:
        return sum(s.accepted for s in self.slots()) + self.info().others

    def settled(self, workers: int) -> bool:
        """Whether exactly `workers` workers are alive, and own the first slots."""
        slots = self.slots()
        owners = [s.pid for s in slots[:workers]]
        return (
            sorted(owners) == sorted(self.workers())
            and all(s.live and s.alive for s in slots[:workers])
            and not any(s.live or s.pid for s in slots[workers:])
        )

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.process.wait(60)

    def close(self) -> None:
        """End the service if it runs, and check that no process is left."""
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        until(lambda: not session_members(self.pid), "the last process of the service ended", 10)
        log = self.log()  # wrk alone makes some 90,000 lines of it
        print(log if len(log) < 40_000 else f"{log[:20_000]}\n[...]\n{log[-20_000:]}")
        self._log.close()


def memory(service: Service) -> int:
    """The most memory that the service's one worker has had, in KiB."""
    (worker,) = service.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    highest = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert highest
    return int(highest[1])
