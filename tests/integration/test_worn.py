"""Workers are replaced when they are too large, too old, or have answered enough requests.

Each successor serves before its predecessor ends. A service reports bad health before it stops.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import Client, get
from support.client import outcome
from support.service import Service, one_line, run, until

Serve = Callable[..., Service]

pytestmark = pytest.mark.long


@pytest.fixture
def loop() -> str:
    """One loop is enough: these tests do not depend on it."""
    return "uvloop"


LARGE = """
kept = []

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/grow":
        kept.append(bytearray(b"x" * (64 << 20)))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def status(service: Service, path: str) -> int:
    with Client(service.address) as client:
        client.send(get(path, "Connection: close"))
        return client.answer().status


def test_one_that_is_too_large(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    options = ["--app-dir", str(tmp_path), "--workers", "2", "--limit-worker-rss", str(80 << 20)]
    service = serve("large:app", *options)
    before = set(service.owners())
    assert status(service, "/grow") == 200
    service.wait_log("(--limit-worker-rss): replaced")
    until(lambda: len(set(service.owners()) - before) == 1 and service.settled(2), "one is new")
    assert service.log().count("replaced") == 1
    assert {status(service, "/") for _ in range(20)} == {200}


def test_one_after_the_other_is_too_old(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2", "--limit-worker-lifetime", "2")
    first = set(service.owners())
    until(lambda: not first & set(service.workers()), "both are new")
    assert {status(service, "/hello") for _ in range(20)} == {200}
    assert service.log().count("(--limit-worker-lifetime): replaced") >= 2


def test_not_all_at_once(serve: Serve) -> None:
    """With jitter, workers with the same limit do not end after the same number of requests."""
    options = ["--limit-max-requests", "10", "--limit-max-requests-jitter", "1000"]
    service = serve("web:app", "--workers", "2", *options, "--no-access-log")
    first = set(service.owners())
    for _ in range(60):
        assert status(service, "/hello") == 200
    # Without jitter both would be replaced. Both draw less than 25 with a chance of 1 in 1,600.
    assert first & set(service.owners())


def test_health_is_bad_before_it_stops(serve: Serve) -> None:
    options = ["--health-path", "/healthy", "--drain-delay", "2"]
    service = serve("web:app", "--workers", "2", *options)
    assert {status(service, "/healthy") for _ in range(10)} == {200}
    os.kill(service.pid, signal.SIGTERM)
    service.wait_log("serving for another 2 s")
    until(lambda: {status(service, "/healthy") for _ in range(4)} == {503}, "all report 503")
    assert {status(service, "/hello") for _ in range(10)} == {200}
    assert service.process.poll() is None
    os.kill(service.workers()[0], signal.SIGKILL)  # its successor reports 503, too
    service.wait_log("killed by SIGKILL: replaced")
    until(lambda: service.settled(2), "two serve again")
    assert {status(service, "/healthy") for _ in range(10)} == {503}
    assert service.process.wait(30) == 0
    assert service.log().count("stopping") == 1


def test_quit_does_not_wait(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1", "--drain-delay", "100")
    os.kill(service.pid, signal.SIGTERM)
    service.wait_log("serving for another")
    began = time.monotonic()
    os.kill(service.pid, signal.SIGINT)
    assert service.process.wait(30) == 0
    assert time.monotonic() - began < 30
    assert outcome(service.address) == "refused"


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--limit-worker-rss", "1G", "a whole number"),
        ("--limit-worker-lifetime", "0", "more than 0 seconds"),
        ("--drain-delay", "-1", "0 or more seconds"),
        ("--limit-max-requests-jitter", "x", "a whole number"),
    ],
)
def test_bad_values(option: str, value: str, says: str, tmp_path: Path) -> None:
    one_line(run("serve", f"{option}={value}", cwd=tmp_path), 2, option, says)
