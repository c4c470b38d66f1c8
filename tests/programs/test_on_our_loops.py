"""uvicorn and gunicorn behave the same on our loops, except for the local listeners."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from support.service import APP, until

from aiofastsocket import tables_of

pytestmark = pytest.mark.programs

BIN = Path(sys.executable).parent
OURS = ["aiofastsocket:new_event_loop", "aiofastsocket.loop:SelectorLoop"]


class Server:
    """A server program, its log, and the address that it names there."""

    def __init__(self, log: IO[bytes], process: "subprocess.Popen[bytes]") -> None:
        self._log, self.process = log, process

    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def logged(self, text: str, count: int) -> bool:
        return self.log().count(text) >= count

    def address(self) -> tuple[str, int]:
        found = re.search(r"http://(127\.0\.0\.1):(\d+)", self.log())
        assert found, self.log()
        return found[1], int(found[2])


@contextmanager
def running(command: list[str], ready: str, count: int, **options: Any) -> Iterator[Server]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=APP,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **options,
        )
        server = Server(log, process)
        try:
            until(lambda: server.logged(ready, count) or process.poll() is not None, ready)
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)


class Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def connection(address: Any) -> http.client.HTTPConnection:
    if isinstance(address, str):
        return Unix(address, timeout=20)
    return http.client.HTTPConnection(address[0], address[1], timeout=20)


def talk(address: Any) -> list[object]:
    """The responses that a client sees: statuses, bodies, headers, keep-alive."""
    seen: list[object] = []
    keep = connection(address)
    for method, path, body in (
        ("GET", "/", None),
        ("POST", "/", b"x" * 300_000),
        ("GET", "/raise", None),
        ("HEAD", "/", None),
    ):
        keep.request(method, path, body=body)
        answer = keep.getresponse()
        headers = sorted(k.lower() for k, v in answer.getheaders())
        seen.append((answer.status, answer.read(), headers))
    keep.close()
    for _ in range(30):
        short = connection(address)
        short.request("GET", "/", headers={"Connection": "close"})
        answer = short.getresponse()
        seen.append((answer.status, answer.read(), answer.getheader("connection")))
        short.close()
    return seen


def busy_workers(address: Any) -> set[bytes]:
    """The workers that answer when each is kept busy. None of them has listeners of its own."""
    asked = []
    for _ in range(8):
        asked.append(connection(address))
        asked[-1].request("GET", "/busy", headers={"Connection": "close"})
        time.sleep(0.03)
    answers = {request.getresponse().read() for request in asked}
    for request in asked:
        request.close()
    for pid in answers:
        for view in tables_of(int(pid)):
            with view:
                assert view.info().shared
    return answers


def stop(server: Server, address: Any) -> list[object]:
    """The answer to a request in progress when TERM comes, and the exit code."""
    seen: list[object] = []

    def slow() -> None:
        request = connection(address)
        request.request("GET", "/slow")
        begun.set()
        answer = request.getresponse()
        seen.append((answer.status, answer.read()))
        request.close()

    begun = threading.Event()
    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait()
    thread.join(0.4)
    server.process.send_signal(signal.SIGTERM)
    thread.join()
    seen.append(server.process.wait(20))
    return seen


def plain(log: str) -> list[str]:
    """A log without the parts that differ from run to run."""
    log = re.sub(r"0x[0-9a-f]+|\d{4}-\d\d-\d\d [\d:+ ]+|File .*|127\.0\.0\.1:\d+", "", log)
    return sorted(re.sub(r"\d+", "N", line) for line in log.splitlines() if "  " not in line[:2])


def uvicorn(loop: str, *options: str) -> list[str]:
    command = "uvicorn asgi:app --port 0 --http h11 --no-access-log --loop"
    return [*command.split(), loop, *options]


@pytest.fixture(scope="module")
def peer() -> list[object]:
    """The results of uvicorn on uvloop, without aiofastsocket."""
    with running(uvicorn("uvloop"), "Uvicorn running", 1) as server:
        return [talk(server.address()), stop(server, server.address()), plain(server.log())]


@pytest.mark.parametrize("loop", OURS)
def test_uvicorn_on_our_loops(loop: str, peer: list[object]) -> None:
    with running(uvicorn(loop), "Uvicorn running", 1) as server:
        address = server.address()
        seen = talk(address)
        (view,) = tables_of(server.process.pid)
        with view:
            assert sum(slot.own for slot in view.slots()) == 32
        assert [seen, stop(server, address), plain(server.log())] == peer


@pytest.mark.parametrize("loop", OURS)
def test_uvicorn_with_workers(loop: str) -> None:
    """Each worker calls listen() on the shared socket, which is served as it is."""
    seen, logs = [], []
    for name in ("uvloop", loop):
        command = uvicorn(name, "--workers", "2")
        with running(command, "Application startup complete", 2) as server:
            address = server.address()
            seen.append(talk(address))
            assert len(busy_workers(address)) == 2
            server.process.terminate()
            seen[-1].append(server.process.wait(20))
            logs.append(plain(server.log()))
    assert seen[0] == seen[1]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("loop", OURS)
def test_uvicorn_on_a_path_and_on_a_descriptor(loop: str, peer: list[Any], tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with running(uvicorn(loop, "--uds", path), "Uvicorn running", 1) as server:
        assert talk(path) == peer[0]
        assert stop(server, path) == peer[1]
    with socket.create_server(("127.0.0.1", 0)) as sock:
        command = uvicorn(loop, "--fd", str(sock.fileno()))
        with running(command, "Uvicorn running", 1, pass_fds=(sock.fileno(),)) as server:
            assert talk(sock.getsockname()) == peer[0]
            assert stop(server, sock.getsockname()) == peer[1]


def test_gunicorns_uvicorn_worker() -> None:
    seen, logs = [], []
    for worker in ("asgi.OnUvloop", "asgi.OnOurLoop"):
        command = f"gunicorn -w 2 -b 127.0.0.1:0 -k {worker} asgi:app".split()
        with running(command, "Application startup complete", 2) as server:
            address = server.address()
            seen.append(talk(address))
            # HUP: new workers. On any loop, a retiring uvicorn resets connections just accepted.
            server.process.send_signal(signal.SIGHUP)
            until(partial(server.logged, "startup complete", 4), "new workers")
            until(partial(server.logged, "Finished server process", 2), "the old ones are gone")
            seen[-1] += talk(address)
            seen[-1] += stop(server, address)
            logs.append(plain(server.log()))
    assert seen[0] == seen[1]
    assert [line.replace("OnUvloop", "OnOurLoop") for line in logs[0]] == logs[1]
