"""Starlette, FastAPI and Django, each on each loop with two workers, asked by real clients."""

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support import over_tls
from support.by_hand import Client, get
from support.service import Service, until

pytestmark = pytest.mark.programs

Serve = Callable[..., Service]


@pytest.fixture(params=["starlette", "fastapi", "django"])
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "data").write_bytes(random.Random(1).randbytes(300_000))
    return folder


@pytest.fixture
def service(serve: Serve, framework: str, files: Path) -> Service:
    env = {"FILES": str(files)}
    return serve(f"on_{framework}:app", "--workers", "2", env=env)


@pytest.fixture
def url(service: Service) -> str:
    return over_tls.url(service.address)


def test_what_applications_do(service: Service, framework: str, files: Path, url: str) -> None:
    with httpx.Client(base_url=url) as client:
        assert client.get("/json").json() == {"hello": "wörld"}
        assert client.post("/json", json={"a": [1, 2]}).json() == {"a": [1, 2]}
        assert client.get("/stream").text == "".join(f"part {i}\n" for i in range(5))
        with client.stream("GET", "/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in response.iter_lines() if line]
        assert lines == ["data: 0", "data: 1", "data: 2"]
        file = ("ü.bin", os.urandom(500_000))
        uploaded = client.post("/upload", files={"file": file}).json()
        assert uploaded == {"name": "ü.bin", "size": 500_000}
        assert client.get("/static/data").content == (files / "data").read_bytes()
        assert client.get("/timeouts").json() == {"cancelled": True}
        assert client.get("/nowhere").status_code == 404
    assert "Traceback" not in service.log()
    assert service.stop() == 0


def test_over_curl(files: Path, url: str) -> None:
    out = subprocess.run(
        ["curl", "-sSf", f"{url}/static/data", f"{url}/json", "-o", "-", "-o", "-"],
        capture_output=True,
        check=True,
    ).stdout
    expected = (files / "data").read_bytes()
    assert hashlib.sha256(out[: len(expected)]).digest() == hashlib.sha256(expected).digest()
    form = ["curl", "-sSf", "-F", f"file=@{files / 'data'}", f"{url}/upload"]
    out = subprocess.run(form, capture_output=True, check=True).stdout
    assert b"300000" in out


def test_under_wrk(service: Service, url: str) -> None:
    assert shutil.which("wrk"), "apt install wrk"
    out = subprocess.run(
        ["wrk", "-t1", "-c8", "-d1s", f"{url}/json"], capture_output=True, text=True, check=True
    ).stdout
    assert "Requests/sec" in out
    assert "Socket errors" not in out
    assert "Non-2xx" not in out
    assert sum(slot.accepted for slot in service.slots()) >= 8


@pytest.mark.parametrize("framework", ["starlette", "fastapi"], indirect=True)
def test_websockets_background_and_state(
    service: Service, files: Path, url: str, framework: str
) -> None:
    with over_tls.websocket(url.replace("http", "ws") + "/echo") as socket:
        for text in ("one", "é", "x" * 70_000):
            socket.send(text)
            assert socket.recv(timeout=20) == text
    seen = set()

    def asked() -> bool:
        seen.add(httpx.get(f"{url}/state").json()["worker"])
        return len(seen) == 2

    until(asked, "both workers have their own state")
    assert seen == set(service.workers())
    httpx.get(f"{url}/background")
    until((files / "background").exists, "the background task has run")
    assert service.stop() == 0


@pytest.mark.parametrize("framework", ["starlette", "fastapi"], indirect=True)
def test_a_stream_ends_when_its_client_leaves(service: Service, files: Path, url: str) -> None:
    """Even a stream with nothing to send ends: no send() fails there."""
    with httpx.stream("GET", f"{url}/silence") as response:
        lines = response.iter_lines()  # kept: httpx leaves when its iterator is deleted
        assert next(lines) == "data: 0"
        assert not (files / "left").exists()
    until((files / "left").exists, "the application is told")
    assert service.stop() == 0
    assert "Traceback" not in service.log()
    assert "connections closed after" not in service.log()


@pytest.mark.parametrize("framework", ["starlette"], indirect=True)
def test_a_stop_waits_for_background_tasks(service: Service, files: Path, url: str) -> None:
    assert httpx.get(f"{url}/background").status_code == 200
    assert service.stop() == 0
    assert (files / "background").read_text() == "done"


@pytest.mark.parametrize("framework", ["starlette"], indirect=True)
def test_streams_of_clients_that_are_gone_are_free_at_once(
    serve: Serve, files: Path, framework: str
) -> None:
    """Their `finally` blocks run without the garbage collector."""
    service = serve("on_starlette:app", "--workers", "1", env={"FILES": str(files)})
    for _ in range(40):
        with Client(service.address) as client:
            client.send(get("/endless"))
            client.exactly(200)
            client.reset()
    ended = files / "ended"
    until(lambda: ended.exists() and ended.read_text() == "x" * 40, "all of them have ended")
    assert service.stop() == 0
