"""Workers die, configurations are reloaded and binaries replaced under load: there are no more
failures than plain, and all failures are accounted for."""

import mmap
import os
import random
import signal
import struct
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from support.client import HTTP, Load, listen_drops, outcome
from support.programs import Program, alive
from support.service import until

from .conftest import Start
from .servers import haproxy, nginx

pytestmark = pytest.mark.programs


def gone(pids: set[int]) -> bool:
    return not any(map(alive, pids))


def newcomers(program: Program, before: set[int]) -> set[int]:
    return set(program.pids()) - before


def loaded(program: Program, reloads: int) -> bool:
    said = program.said()
    return "New worker" not in said or said.count("Loading success.") >= reloads


def replaced(program: Program, victim: int) -> bool:
    owners = program.owners()
    return victim not in owners and len(owners) == 4


def test_every_reset_of_nginx_is_accounted_for(start: Start) -> None:
    """One of four nginx workers is killed, 20 times. The lost connections are those that a killed
    worker had accepted, by the page's counters: the counters would lack a connection that was reset
    in a queue. A kill between counting and accepting leaves one too many.
    """
    kills = 20
    program = start(nginx, True, workers=4)
    until(lambda: len(program.owners()) == 4, "every worker has a slot")
    dropped = listen_drops(program.address[1])
    before = program.accepted()
    with Load(program.address, kind=HTTP) as load:
        for i in range(kills):
            load.more(100)
            victim = program.owners()[i % 4]
            os.kill(victim, signal.SIGKILL)
            load.more(20)
            until(partial(replaced, program, victim), "the worker was replaced")
    accepted = program.accepted() - before
    total = load.outcomes.total()
    print("outcomes", load.outcomes, "accepted", accepted)
    assert load.outcomes.keys() <= {"answered", "reset"}, load.outcomes
    assert total <= accepted <= total + kills
    assert listen_drops(program.address[1]) == dropped
    assert program.stop(signal.SIGQUIT) == 0


def test_plain_nginx_killed(start: Start) -> None:
    """Workers are killed without the library, for comparison: one queue outlives them."""
    program = start(nginx, False, workers=4)
    with Load(program.address, kind=HTTP) as load:
        for _ in range(20):
            load.more(100)
            victim = random.choice(program.pids()[1:])
            os.kill(victim, signal.SIGKILL)
            load.more(20)
            until(partial(gone, {victim}), "the worker ended")
            until(lambda: len(program.pids()) == 5, "a new worker runs")
    print("outcomes", load.outcomes)
    assert program.stop(signal.SIGQUIT) == 0


def reload(program: Program, number: int, before: set[int]) -> None:
    """Signal until it reloads: HAProxy's master loses signals while it executes itself."""
    for _ in range(10):
        os.kill(program.pid, number)
        with suppress(AssertionError):
            return until(partial(newcomers, program, before), "a new generation", 3)
    raise AssertionError("no new generation")


def reloaded(program: Program, times: int, number: int) -> Counter[str]:
    """Reload under load; the outcomes of the connections."""
    fds = []
    with Load(program.address, kind=HTTP) as load:
        for i in range(times):
            until(partial(loaded, program, i + 1), "the master is ready")
            load.more(100)
            before = set(program.pids())
            reload(program, number, before)
            load.more(100)
            until(partial(gone, before - {program.pid}), "the old generation went", 60)
            fds.append(program.fds()[program.pid])
    # HAProxy's master sometimes has one more descriptor, and nginx's master has those of workers
    # that it has not reaped. A leak of one descriptor per reload would exceed the limit.
    until(lambda: program.fds()[program.pid] <= fds[0] + 2, f"as many descriptors as before: {fds}")
    return load.outcomes


def failures(outcomes: Counter[str]) -> int:
    return outcomes.total() - outcomes["answered"]


def compare(start: Start, make: object, times: int, number: int, **options: object) -> Program:
    """Reload the server equally often plain and preloaded; the preloaded one, still running."""
    plain = start(make, False, **options)
    before = reloaded(plain, times, number)
    plain.stop(signal.SIGTERM)
    program = start(make, True, **options)
    ours = reloaded(program, times, number)
    print("plain:", dict(before), "preloaded:", dict(ours))
    assert failures(ours) <= failures(before)
    return program


def test_nginx_reload(start: Start) -> None:
    program = compare(start, nginx, 10, signal.SIGHUP, workers=2)
    until(lambda: len(program.owners()) == 2, "the last generation has slots")
    assert program.accepted() > 1000
    assert program.stop(signal.SIGQUIT) == 0


def test_haproxy_reload(start: Start) -> None:
    """`-W`: the master executes itself, and the new worker gets the listener by SCM_RIGHTS."""
    program = compare(
        start,
        haproxy,
        5,
        signal.SIGUSR2,
        threads=2,
        stats="stats socket {folder}/socket expose-fd listeners",
        arguments=("-W",),
    )
    until(lambda: len(program.owners()) == 2, "the last generation has slots")
    before = program.accepted()
    with Load(program.address, kind=HTTP) as load:
        load.more(500)
    assert program.accepted() - before >= 500
    assert program.stop(signal.SIGTERM) == 0


def read_pid(path: Path) -> int:
    """The process id in a file, or 0 while the file is renamed or written."""
    with suppress(FileNotFoundError):
        return int(path.read_text().strip() or 0)
    return 0


def other_pid(path: Path, old: int) -> bool:
    return read_pid(path) not in (0, old)


@pytest.mark.parametrize("preloaded", [False, True], ids=["plain", "preloaded"])
def test_nginx_binary_upgrade(start: Start, preloaded: bool, tmp_path: Path) -> None:
    """The old master gets USR2, then QUIT; the new master runs with a cleaned environment."""
    program = start(nginx, preloaded, workers=2, daemon=True)
    pid_file = tmp_path / "nginx.pid"
    with Load(program.address, kind=HTTP) as load:
        for _ in range(3):
            load.more(200)
            old = program.pid
            workers = set(program.pids()) - {old}
            os.kill(old, signal.SIGUSR2)
            until(partial(other_pid, pid_file, old), "the new master wrote its pid")
            program.pid = read_pid(pid_file)
            until(lambda: len(program.pids()) == 3, "the new master has two workers")
            load.more(200)
            os.kill(old, signal.SIGQUIT)
            until(partial(gone, {old} | workers), "the old processes ended", 60)
            load.more(200)
    print("outcomes", load.outcomes)
    assert failures(load.outcomes) == 0
    if preloaded:
        until(lambda: len(program.owners()) == 2, "the new workers have slots")
        assert program.log.read_text().count("from the previous program") == 3
    time.sleep(0.1)
    program.stop(signal.SIGQUIT)


def page_of(pid: int) -> int:
    """The page of the program's table, opened as one of its workers could."""
    folder = Path(f"/proc/{pid}/fd")
    names = [f for f in folder.iterdir() if os.readlink(f).startswith("/memfd:fastsocket-table")]
    return os.open(names[0], os.O_RDWR)


@pytest.mark.parametrize("what", ["random", "zeros", "held"])
def test_nginx_outlives_its_page(start: Start, what: str) -> None:
    """A worker could overwrite the page: the master outlives that, and its next workers serve."""
    program = start(nginx, True, workers=2)
    until(lambda: len(program.owners()) == 2, "every worker has a slot")
    before = set(program.pids())
    page = page_of(program.owners()[0])
    with pytest.raises(PermissionError):
        os.ftruncate(page, 0)
    size = os.fstat(page).st_size
    end = time.monotonic() + (10 if what == "random" else 2)
    with mmap.mmap(page, size) as shared:
        while time.monotonic() < end:
            fill = struct.pack("=I", program.pid if what == "held" else 0) * (size // 4)
            shared[:] = os.urandom(size) if what == "random" else fill
            outcome(program.address, HTTP, seconds=0.5)
    os.close(page)
    reload(program, signal.SIGHUP, before)
    until(partial(gone, before - {program.pid}), "the old generation went", 60)
    until(lambda: len(program.pids()) == 3, "two workers")
    assert Counter(outcome(program.address, HTTP) for _ in range(20)) == {"answered": 20}
    until(lambda: len(program.owners()) == 2, "every worker has a slot")
    assert "exited on signal" not in program.log.with_name("error.log").read_text()
    assert program.stop(signal.SIGQUIT) == 0
