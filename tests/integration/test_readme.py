"""The examples of README and of the pages for users do what the pages say.

The examples of asyncio.md are in test_docs.py, those of gunicorn.md in test_habits.py, and those of
operations.md in test_hooks.py.
"""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client import ask, connect, free_port
from support.service import Service, one_line, run, until

from aiofastsocket import tables_of

ROOT = Path(__file__).parents[2]
Serve = Callable[..., Service]
ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)  # the loop does not matter
GET = b"GET / HTTP/1.0\r\n\r\n"


def examples(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def served(serve: Serve, tmp_path: Path, text: str, target: str) -> Service:
    (tmp_path / "app.py").write_text(text)
    return serve(target, "--app-dir", str(tmp_path))


@ON_ONE_LOOP
@pytest.mark.parametrize(
    ("page", "number"), [("README.md", 0), ("docs/serve.md", 0), ("docs/serve.md", 1)]
)
def test_applications(serve: Serve, tmp_path: Path, page: str, number: int) -> None:
    answer = ask(served(serve, tmp_path, examples(page)[number], "app:app").address, GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nHello, world!\n")


@ON_ONE_LOOP
def test_stream_handler(serve: Serve, tmp_path: Path) -> None:
    service = served(serve, tmp_path, examples("docs/serve.md")[2], "app:handle")
    assert ask(service.address, b"hello\n") == b"you said hello\n"


@ON_ONE_LOOP
def test_protocol(serve: Serve, tmp_path: Path) -> None:
    service = served(serve, tmp_path, examples("docs/serve.md")[3], "app:Echo")
    with connect(service.address) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


@pytest.mark.parametrize(
    ("page", "number", "port", "request_", "answer"),
    [
        ("README.md", 1, 9000, b"hello\n", b"hello\n"),
        ("docs/serve.md", 4, 8000, GET, b"\r\n\r\nHello, world!\n"),
        ("docs/uvicorn.md", 0, 8000, GET, b"\r\n\r\nHello, world!\n"),
    ],
)
def test_programs(
    tmp_path: Path, page: str, number: int, port: int, request_: bytes, answer: bytes
) -> None:
    own = free_port()
    (tmp_path / "program.py").write_text(examples(page)[number].replace(str(port), str(own)))
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path) as process:
        try:
            until(lambda: not refused(own), "it listens")
            assert ask(("127.0.0.1", own), request_).endswith(answer)
            (table,) = tables_of(process.pid)
            with table:
                assert any(slot.used for slot in table.slots())
        finally:
            process.terminate()


@ON_ONE_LOOP
def test_the_tutorial(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "aiofastsocket.toml").write_text(
        examples("docs/tutorial.md", "toml")[0].replace("/run/app/", "")
    )
    (tmp_path / "app.py").write_text(examples("docs/tutorial.md")[0])
    done = run("serve", "--check-config", cwd=tmp_path)
    assert done.stdout == "the configuration is valid for app:app\n", done.stderr
    service = serve("app:app", "--app-dir", str(tmp_path), "--workers", "2", "--steer", "spread")
    body = ask(service.address, GET).partition(b"\r\n\r\n")[2]
    assert json.loads(body) == {"message": "hello"}
    with connect(service.address) as blocked:
        blocked.sendall(GET.replace(b"/", b"/blocks", 1))
        for _ in range(10):
            assert ask(service.address, GET).startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"blocked" in blocked.recv(1000)


def test_the_listen_table(tmp_path: Path) -> None:
    (text,) = examples("docs/python.md")
    out = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "own=1" in out.stdout


def test_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "aiofastsocket.toml").write_text(examples("docs/configuration.md", "toml")[0])
    (tmp_path / "app.py").write_text(examples("README.md")[0])
    done = run("serve", "--print-config", cwd=tmp_path)
    told = done.stdout.splitlines()
    assert 'metrics = "9100"  # aiofastsocket.toml' in told
    assert 'health_path = "/healthz"  # aiofastsocket.toml' in told
    assert "workers = 4  # aiofastsocket.toml" in told
    (tmp_path / "aiofastsocket.toml").write_text("metric = 1\n")
    one_line(run("serve", cwd=tmp_path), 2, "did you mean metrics?")


def test_no_example_is_left_out() -> None:
    tried = {
        "README.md": 2,
        "docs/asyncio.md": 9,
        "docs/gunicorn.md": 1,
        "docs/operations.md": 2,
        "docs/python.md": 1,
        "docs/serve.md": 5,
        "docs/tutorial.md": 1,
        "docs/uvicorn.md": 1,
    }
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = {str(page.relative_to(ROOT)): len(examples(str(page))) for page in pages}
    assert {page: count for page, count in found.items() if count} == tried


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
