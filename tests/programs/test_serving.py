"""nginx, HAProxy and lighttpd serve 20,000 short requests, plain and preloaded, in all the ways
that people run them: no failure, an even share for every worker, nothing odd logged, nothing left.
"""

import os
import re
import signal
from pathlib import Path

import pytest
from support.programs import Program, ab, check_shares, which
from support.service import until

from .conftest import Start
from .servers import haproxy, lighttpd, nginx

pytestmark = pytest.mark.programs


def serve(program: Program, workers: int, preloaded: bool) -> None:
    if preloaded:
        check_shares(program, workers)
    else:
        ab(program.port)


def check_log(path: Path) -> None:
    assert not [
        line for line in path.read_text().splitlines() if not re.search(r"\[(info|notice)\]", line)
    ]


@pytest.mark.parametrize("workers", [2, 4])
def test_nginx(workers: int, run: Start, preloaded: bool, tmp_path: Path) -> None:
    """The master runs as root, the workers as a user of their own."""
    program = run(nginx, workers=workers)
    serve(program, workers, preloaded)
    worker = program.pids()[-1]
    assert os.stat(f"/proc/{worker}").st_uid != 0
    assert program.stop(signal.SIGQUIT) == 0
    check_log(tmp_path / "error.log")
    if preloaded:
        claims = [line for line in program.log.read_text().splitlines() if "has slot" in line]
        assert len(claims) == workers


def test_nginx_under_valgrind(run: Start, preloaded: bool, tmp_path: Path) -> None:
    """Nothing that valgrind finds in nginx comes from the library."""
    valgrind = [which("valgrind"), f"--log-file={tmp_path}/valgrind.%p"]
    program = run(nginx, workers=2, under=valgrind)
    if preloaded:
        until(lambda: len(program.owners()) == 2, "both workers have a slot")
    ab(program.port, 100, 4)
    assert program.stop(signal.SIGQUIT) == 0
    logs = [path.read_text() for path in tmp_path.glob("valgrind.*")]
    assert len(logs) == 3
    assert [log for log in logs if "ERROR SUMMARY: 0 errors" not in log] == []


def test_nginx_in_the_background(run: Start, preloaded: bool, tmp_path: Path) -> None:
    program = run(nginx, workers=2, daemon=True)
    serve(program, 2, preloaded)
    program.stop(signal.SIGTERM)
    check_log(tmp_path / "error.log")


def test_nginx_accept_mutex(run: Start, preloaded: bool, tmp_path: Path) -> None:
    """One worker at a time listens, by nginx's own rule, which decides the shares."""
    program = run(nginx, workers=2, events="accept_mutex on;")
    ab(program.port)
    if preloaded:
        slots = [s for s in program.table().slots if s.used]
        print("accepted by slot:", [s.accepted for s in slots])
        until(lambda: program.accepted() >= 20000, "all connections are counted")
    assert program.stop(signal.SIGQUIT) == 0
    check_log(tmp_path / "error.log")


def test_nginx_own_reuseport(run: Start, preloaded: bool, tmp_path: Path) -> None:
    """nginx has its own shards: the library leaves it alone, and logs this."""
    program = run(nginx, workers=2, listen="reuseport")
    ab(program.port)
    if preloaded:
        assert program.tables() == []
        assert "has a listener of its own for each worker" in program.log.read_text()
    assert program.stop(signal.SIGQUIT) == 0
    check_log(tmp_path / "error.log")


@pytest.mark.parametrize("threads", [2, 4])
def test_haproxy(threads: int, run: Start, preloaded: bool) -> None:
    program = run(haproxy, threads=threads)
    serve(program, threads, preloaded)
    assert program.stop(signal.SIGTERM) == -signal.SIGTERM
    assert "ALERT" not in program.said()
    assert "WARNING" not in program.said()


def test_haproxy_own_shards(run: Start, preloaded: bool) -> None:
    """HAProxy has its own shards: the library leaves it alone, and logs this."""
    program = run(haproxy, threads=2, bind="shards by-thread")
    ab(program.port)
    if preloaded:
        assert program.tables() == []
        assert "has a listener of its own for each worker" in program.log.read_text()
    assert program.stop(signal.SIGTERM) == -signal.SIGTERM
    assert "ALERT" not in program.said()


def test_haproxy_master_worker(run: Start, preloaded: bool) -> None:
    program = run(haproxy, threads=2, arguments=("-W", "-S", "{folder}/master.sock"))
    serve(program, 2, preloaded)
    assert program.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("workers", [2, 4])
def test_lighttpd(workers: int, run: Start, preloaded: bool, tmp_path: Path) -> None:
    program = run(lighttpd, workers=workers)
    serve(program, workers, preloaded)
    assert program.stop(signal.SIGTERM) == 0
    log = (tmp_path / "error.log").read_text().splitlines()
    # Some machines' clocks are set while they run.
    assert not [line for line in log if not re.search("started|stopped|clock jumped", line)]
