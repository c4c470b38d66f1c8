"""The examples in docs/asyncio.md do what the page says."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.client import ask, free_port
from support.service import session_members, until

from aiofastsocket import SlotInfo, tables_of

PAGE = Path(__file__).parents[2] / "docs" / "asyncio.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
# The number of processes that serve, for each example in the order of the page.
SERVERS = {0: 1, 1: 1, 2: 1, 3: 4, 4: 4, 5: 4, 7: 2}
WORKER, STATISTICS = 6, 8


@contextmanager
def program(number: int, folder: Path) -> Iterator[tuple[int, int]]:
    """Run an example; yields its process id and port."""
    port = free_port()
    path = folder / "example.py"
    path.write_text(EXAMPLES[number].replace("9000", str(port)))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, path], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid, port
        finally:
            for pid in session_members(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
            until(lambda: not session_members(process.pid), "all its processes have ended")
            print(os.pread(log.fileno(), 1 << 20, 0).decode())


def owners(pid: int) -> list[SlotInfo]:
    found: list[SlotInfo] = []
    for view in tables_of(pid):
        with view:
            found += [slot for slot in view.slots() if slot.live]
    return found


@pytest.mark.parametrize("number", SERVERS)
def test_an_example_serves(number: int, tmp_path: Path) -> None:
    with program(number, tmp_path) as (pid, port):
        until(lambda: len(owners(pid)) == SERVERS[number], "each process has a local listener")
        for i in range(100):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"line %d\n" % i)
                assert client.recv(100) == b"line %d\n" % i
        # Each connection came through a local listener, and is counted once.
        until(lambda: sum(slot.own + slot.stolen for slot in owners(pid)) == 100, "all are counted")
        slots = owners(pid)
        assert len({slot.pid for slot in slots}) == SERVERS[number]
        assert all(slot.accepted for slot in slots)


def test_the_gunicorn_worker(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(EXAMPLES[WORKER])
    (tmp_path / "app.py").write_text(
        "async def app(scope, receive, send):\n"
        "    import asyncio\n"
        "    kind = type(asyncio.get_running_loop()).__name__.encode()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': kind})\n"
    )
    port = free_port()
    command = f"gunicorn -b 127.0.0.1:{port} -k worker.FastsocketWorker app:app".split()
    with subprocess.Popen(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "Application startup complete" not in (line := process.stderr.readline()):
            assert line, "gunicorn ended"
        answer = ask(("127.0.0.1", port), b"GET / HTTP/1.0\r\n\r\n")
        process.terminate()
        process.stderr.read()
    assert b"UvloopLoop" in answer  # with httptools, uvicorn sends the name in a chunk


def test_the_statistics(tmp_path: Path) -> None:
    with program(0, tmp_path) as (pid, port):
        until(lambda: owners(pid), "it serves")
        for _ in range(7):
            ask(("127.0.0.1", port), b"line\n")
        command = [sys.executable, "-c", EXAMPLES[STATISTICS], str(pid)]
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    assert len(lines) == 1 + max(8, 2 * len(os.sched_getaffinity(0)))
    (mine,) = (line.split() for line in lines if line.startswith(f"0 {pid} "))
    # The first connection may have come before connections were steered to the slot.
    assert sum(map(int, mine[2:])) == 7
    assert int(mine[2]) >= 6


def test_no_example_is_left_out() -> None:
    assert sorted([*SERVERS, WORKER, STATISTICS]) == list(range(len(EXAMPLES)))
