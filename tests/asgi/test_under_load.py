"""Reloads, stops and large bodies with two workers: nothing is lost, and nothing grows."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import over_tls
from support.by_hand import Client, get, scope_of
from support.client import Load
from support.service import APP, Service, memory, stand_still, until

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


SHORT = (
    b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    re.compile(rb"HTTP/1\.1 200 OK\r\n.*\r\n\r\nhello", re.DOTALL),
)


def test_a_reload_under_load_loses_no_request(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2", "--no-access-log")
    with Load(service.address, kind=SHORT) as load:
        load.more(200)
        for count in (1, 2):
            service.send(signal.SIGHUP)
            service.wait_log("reloaded: 2 new workers serve", count)
            load.more(200)
    assert set(load.outcomes) == {"answered"}


def test_kept_connections_lose_no_request_in_a_reload(serve: Serve) -> None:
    """Each client asks again as long as its connection is kept."""
    service = serve("web:app", "--workers", "2", "--no-access-log")
    for _ in range(2):
        clients = [Client(service.address) for _ in range(20)]
        for client in clients:  # accepted by the workers that will leave
            client.send(HELLO)
            assert client.answer().body == b"hello"
        told = 0
        service.send(signal.SIGHUP)
        while clients:
            for client in list(clients):
                client.send(HELLO)
                answer = client.answer()
                assert answer.body == b"hello"
                if answer.headers.get("connection") == "close":
                    assert client.closed()
                    client.sock.close()
                    clients.remove(client)
                    told += 1
        assert told == 20
        until(lambda: service.settled(2), "only the new workers are left")


@pytest.mark.parametrize("path", ["/slow", "/parts"])
def test_term_answers_requests_in_progress(serve: Serve, path: str) -> None:
    service = serve("web:app", "--workers", "2", "--no-access-log")
    clients = [Client(service.address) for _ in range(20)]
    for client in clients:
        client.send(get(path))
    service.send(signal.SIGTERM)
    for client in clients:
        with client:
            assert client.answer().status == 200
    assert service.process.wait(60) == 0
    assert "connections closed after" not in service.log()


def test_an_unwanted_body_is_not_waited_for(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1", "--timeout-graceful-shutdown", "3")
    with Client(service.address) as client:
        client.send(get("/early", "Content-Length: 9", method="POST"))
        assert client.answer().status == 413
        assert service.stop() == 0
    assert "connections closed after" not in service.log()


def test_no_request_outlives_the_grace_time(serve: Serve, tmp_path: Path) -> None:
    service = serve("web:app", "--workers", "1", "--timeout-graceful-shutdown", "0.3")
    told = tmp_path / "told"
    with Client(service.address) as client:
        client.send(get(f"/stuck?{told}"))
        client.send(HELLO)  # a request behind it
        until(lambda: service.accepted() == 1, "it is accepted")
        assert service.stop() == 0
        assert client.closed()
    assert told.read_text() == "ended"
    assert "connections closed after the grace time: 1" in service.log()
    assert "Traceback" not in service.log()


def test_a_worker_is_replaced_after_max_requests(serve: Serve) -> None:
    service = serve("web:app", "--limit-max-requests", "50", "--workers", "1", "--no-access-log")
    (before,) = service.workers()
    with Load(service.address, threads=2, kind=SHORT) as load:
        load.more(200)
        until(lambda: before not in service.workers(), "another worker serves")
        load.more(50)
    assert set(load.outcomes) == {"answered"}
    assert (
        f"worker {before} (slot 0) reached --limit-max-requests; starting its successor"
        in service.log()
    )


# Each import takes the next number N, waits while stopN exists, and exits if failN exists.
COUNTED = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
number = 1
while (here / f"import{number}").exists():
    number += 1
while True:
    try:
        (here / f"import{number}").touch(exist_ok=False)
        break
    except FileExistsError:
        number += 1
while (here / f"stop{number}").exists():
    time.sleep(0.01)
if (here / f"fail{number}").exists():
    os._exit(3)
from web import app
"""


@pytest.fixture
def limited(serve: Serve, tmp_path: Path) -> Callable[..., Service]:
    """Start a service whose workers ask to be replaced after one request.

    The files that exist decide about its imports: see COUNTED.
    """

    def start(workers: int, *files: str) -> Service:
        (tmp_path / "counted.py").write_text(COUNTED)
        for name in files:
            (tmp_path / name).touch()
        return serve(
            *("counted:app", "--app-dir", str(tmp_path), "--workers", str(workers)),
            *("--limit-max-requests", "1", "--no-access-log"),
            env={"PYTHONPATH": f"{tmp_path}:{APP}"},
        )

    return start


def who(service: Service) -> int:
    """The process id of the worker that answers."""
    return int(scope_of(service, get("/scope"))["state"]["started"][0])


@contextmanager
def stopped(pids: set[int]) -> Iterator[None]:
    """Stop older workers, which are woken first, so that another worker is asked."""
    try:
        for pid in pids:
            stand_still(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_it_serves_until_the_other_is_ready(
    limited: Callable[..., Service], tmp_path: Path
) -> None:
    """The successor may take its time, or fail for a while."""
    service = limited(1, "fail2", "stop3", "stop4")
    (before,) = service.workers()
    assert who(service) == before
    until((tmp_path / "import3").exists, "another starts, after one that failed")
    assert {who(service) for _ in range(20)} == {before}
    (tmp_path / "stop3").unlink()
    until(lambda: who(service) != before, "the successor serves")
    until(lambda: before not in service.workers(), "the first has ended")


def test_a_reload_does_not_wait_for_leaving_workers(
    limited: Callable[..., Service], tmp_path: Path
) -> None:
    service = limited(2, "stop4", "stop5")
    before = set(service.workers())
    service.send(signal.SIGHUP)
    until((tmp_path / "import4").exists, "the new workers start")
    with stopped(before):
        assert who(service) not in before
    until((tmp_path / "import5").exists, "a worker has reached its limit, and its successor starts")
    assert "reloaded" not in service.log()
    (tmp_path / "stop4").unlink()
    service.wait_log("reloaded: 2 new workers serve")


def test_a_reload_that_fails_keeps_leaving_workers(
    limited: Callable[..., Service], tmp_path: Path
) -> None:
    service = limited(2, "stop3", "stop4", "stop6", "fail6", "stop7")
    before = set(service.workers())
    until(lambda: who(service) and (tmp_path / "import4").exists(), "both have answered enough")
    service.send(signal.SIGHUP)
    until((tmp_path / "import6").exists, "the new workers start")
    with stopped(before):
        assert who(service) not in before
    (tmp_path / "stop6").unlink()
    service.wait_log("reload failed: the old workers continue to serve")
    # The workers of before are left, and their successors, which wait.
    until(lambda: len(service.workers()) == 4, "the new workers have ended")
    assert {who(service) for _ in range(20)} <= before <= set(service.workers())
    for name in ("stop3", "stop4"):
        (tmp_path / name).unlink()
    until(lambda: not before & set(service.workers()), "their successors serve")


def test_both_workers_answer(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2")
    seen = set()

    def asked() -> bool:
        seen.update(scope_of(service, get("/scope"))["state"]["started"])
        return len(seen) == 2

    until(asked, "both answer")
    assert seen == set(service.workers())
    assert service.info().steer in ("cpu", "spread")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_gigabyte_in_constant_memory(serve: Serve, direction: str) -> None:
    service = serve("web:app", "--workers", "1")
    url = over_tls.url(service.address)
    if direction == "down":
        command = f"curl -sSf -o /dev/null -w %{{size_download}} {url}/megabytes?1024"
        done = subprocess.run(command.split(), capture_output=True, check=True)
        assert int(done.stdout) == 1 << 30
    else:
        command = f"head -c {1 << 30} /dev/zero | curl -sSf -T - {url}/count"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        assert int(done.stdout) == 1 << 30
    assert memory(service) < 100 * 1024
