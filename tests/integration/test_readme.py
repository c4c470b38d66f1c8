"""The README's examples do what it says."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.client import ask, connect
from support.service import Service, session_members, until

from aiofastsocket import tables_of

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_asgi(serve: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[0])
    service = serve("app:app", "--app-dir", str(tmp_path))
    answer = ask(service.address, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nHello, world!\n")


def test_stream_handler(serve: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[1])
    service = serve("app:handle", "--app-dir", str(tmp_path))
    assert ask(service.address, b"hello\n") == b"you said hello\n"


def test_protocol(serve: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[2])
    service = serve("app:Echo", "--app-dir", str(tmp_path))
    with connect(service.address) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_listen_table_in_a_program(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", EXAMPLES[4]], cwd=tmp_path, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    assert "own=1" in out.stdout
    assert len(EXAMPLES) == 5


def test_forked_workers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    text = EXAMPLES[3].replace("9000", str(port))
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE
    )
    try:
        until(lambda: len(session_members(process.pid)) == 5, "four workers")
        until(lambda: not refused(port), "it listens")
        workers = set(session_members(process.pid)) - {process.pid}
        answers: set[bytes] = set()
        (table,) = tables_of(process.pid)

        def every_slot_answers() -> bool:  # the last worker may start when the first is long there
            answers.add(ask(("127.0.0.1", port), b"hello\n"))
            slots = [table.slot(number) for number in range(table.info().slots)]
            return {slot.pid for slot in slots if slot.arrived} == workers

        with table:
            until(every_slot_answers, "a connection came to a slot of each worker")
        assert answers <= {b"%d says hello\n" % worker for worker in workers}
    finally:
        for pid in session_members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
