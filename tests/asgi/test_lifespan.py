"""The lifespan of an application: `serve` follows its start and its end."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import Client
from support.service import Service, run, until

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


LIFESPAN = """
import os
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    {startup}
    await receive()
    {shutdown}
    await send({{"type": "lifespan.shutdown.complete"}})
"""
COMPLETE = 'await send({"type": "lifespan.startup.complete"})'


def write_app(folder: Path, startup: str = COMPLETE, shutdown: str = "pass") -> tuple[str, ...]:
    (folder / "own.py").write_text(LIFESPAN.format(startup=startup, shutdown=shutdown))
    return ("own:app", "--app-dir", str(folder))


@pytest.mark.parametrize(
    ("startup", "words"),
    [
        ('await send({"type": "lifespan.startup.failed", "message": "no database"})',
         ["no database"]),
        ('raise ValueError("no lifespan")', ["ValueError: no lifespan", "own.py"]),
    ],
)  # fmt: skip
def test_a_failed_startup_fails_the_start(tmp_path: Path, startup: str, words: list[str]) -> None:
    arguments = write_app(tmp_path, startup)
    done = run("serve", *arguments, "--lifespan", "on", "--bind", "127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 1
    for word in words:
        assert done.stderr.count(word) == 1, done.stderr
    assert "the application's startup failed" in done.stderr


def test_an_application_without_a_lifespan(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http', 'only http'\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'plain'})\n"
    )
    for mode in ("auto", "off"):
        service = serve("plain:app", "--app-dir", str(tmp_path), "--lifespan", mode)
        with Client(service.address) as client:
            client.send(HELLO)
            assert client.answer().body == b"plain"
        assert "Traceback" not in service.log()
        assert service.stop() == 0


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_each_worker_shuts_its_application_down(serve: Serve, tmp_path: Path, name: str) -> None:
    ended = f'open(f"{tmp_path}/ended-{{os.getpid()}}", "w").close()'
    service = serve(*write_app(tmp_path, shutdown=ended), "--workers", "2")
    workers = service.workers()
    service.send(getattr(signal, f"SIG{name}"))
    paths = {tmp_path / f"ended-{pid}" for pid in workers}
    until(lambda: all(path.exists() for path in paths), "both applications were told")
    if name == "HUP":
        until(lambda: service.settled(2), "two new workers")
        assert not set(service.workers()) & set(workers)


def test_an_error_at_the_end_is_told_once(serve: Serve, tmp_path: Path) -> None:
    service = serve(
        *write_app(tmp_path, shutdown='raise ValueError("at the end")'), "--workers", "1"
    )
    assert service.stop() == 0
    assert service.log().count("ValueError: at the end") == 1
