"""`--hooks`: each function is called at its time, in the right process and as the right user.

Errors in hooks do not end the service.
"""

import gzip
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.by_hand import ask, get
from support.service import APP, Service, let_everybody_in, one_line, run, until

Serve = Callable[..., Service]
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

HOOKS = """
import os, sys

def note(*words):
    with open({log!r}, "a") as file:
        print(*words, os.getpid(), os.getuid(), "web" in sys.modules, file=file)

def on_starting(): note("on_starting")
def on_reload(): note("on_reload")
def post_fork(worker): note("post_fork", worker.slot, worker.pid)
def worker_ready(worker): note("worker_ready", worker.slot, worker.pid)
def worker_exit(worker): note("worker_exit", worker.slot, worker.pid)
"""


@pytest.fixture
def loop() -> str:
    """One loop is enough: these tests do not depend on it."""
    return "uvloop"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    log = tmp_path / "log"
    log.touch()
    log.chmod(0o666)
    let_everybody_in(tmp_path)
    (tmp_path / "myhooks.py").write_text(HOOKS.format(log=str(log)))
    return {"PYTHONPATH": str(tmp_path)}


def called(tmp_path: Path) -> list[list[str]]:
    return [line.split() for line in (tmp_path / "log").read_text().splitlines()]


def named(tmp_path: Path, name: str) -> list[list[str]]:
    return [words for words in called(tmp_path) if words[0] == name]


def test_time_process_and_user_of_hooks(serve: Serve, env: dict[str, str], tmp_path: Path) -> None:
    options = ["--workers", "2", "--hooks", "myhooks", "--user", "nobody"]
    service = serve("web:app", *options, env=env)
    first = {slot.slot: slot.pid for slot in service.slots() if slot.pid}
    until(lambda: len(named(tmp_path, "worker_ready")) == 2, "both are ready")
    assert called(tmp_path)[0][0] == "on_starting"
    (starting,) = named(tmp_path, "on_starting")
    assert int(starting[1]) not in (service.pid, *first.values())
    for name, imported in (("post_fork", "False"), ("worker_ready", "True")):
        found = {int(w[1]): int(w[2]) for w in named(tmp_path, name)}
        assert found == first
        assert all(w[2] == w[3] and w[5] == imported for w in named(tmp_path, name))
    os.kill(service.pid, signal.SIGHUP)
    service.wait_log("reloaded: 2 new workers")
    until(lambda: len(named(tmp_path, "worker_exit")) == 2, "the old workers have ended")
    assert {int(w[2]) for w in named(tmp_path, "worker_exit")} == set(first.values())
    until(lambda: len(named(tmp_path, "on_reload")) == 1, "on_reload was called")
    until(lambda: service.settled(2), "only the new workers are left")
    os.kill(service.pid, signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert len(named(tmp_path, "worker_exit")) == 4
    nobody = {w[-2] for w in called(tmp_path)}
    assert len(nobody) == 1
    assert nobody != {"0"}


@pytest.mark.parametrize("error", ["1 / 0", "raise SystemExit(3)"])
@pytest.mark.parametrize("name", ["on_starting", "post_fork", "worker_ready", "worker_exit", ""])
def test_errors_end_nothing(name: str, error: str, serve: Serve, tmp_path: Path) -> None:
    text = f"def {name}(*_): {error}" if name else error
    (tmp_path / "bad.py").write_text(text)
    env = {"PYTHONPATH": str(tmp_path)}
    service = serve("web:app", "--workers", "1", "--hooks", "bad", env=env)
    assert ask(service, get("/hello")).status == 200
    os.kill(service.pid, signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert ("ZeroDivisionError" if error == "1 / 0" else "SystemExit: 3") in service.log()
    assert "replaced" not in service.log()
    assert (
        f"the hook {name} failed" if name else "--hooks bad cannot be imported"
    ) in service.log()


def test_what_is_told_of_them(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import os\ndef on_starting(): os.abort()\nasync def post_fork(worker): pass\n"
    )
    service = serve(
        "web:app", "--workers", "1", "--hooks", "odd", env={"PYTHONPATH": str(tmp_path)}
    )
    assert "the process of the hook on_starting: killed by SIGABRT" in service.log()
    assert "the hook post_fork is a coroutine function: write def" in service.log()


def test_a_hook_has_nothing_of_the_service(serve: Serve, tmp_path: Path) -> None:
    """A hook has no listener, no pipe, no page, and not the file with the process id."""
    (tmp_path / "held.py").write_text(HELD)
    env = {"PYTHONPATH": str(tmp_path), "HELD": str(tmp_path / "held")}
    options = ["--workers", "1", "--hooks", "held", "--pid-file", str(tmp_path / "pid")]
    service = serve("web:app", *options, env=env)
    os.kill(service.pid, signal.SIGHUP)
    held = tmp_path / "held"
    until(lambda: held.exists() and held.read_text().count("end") == 2, "both were called")
    lines = {line for line in held.read_text().split("\n") if line not in ("", "end")}
    assert not {line for line in lines if "/pid" in line}
    assert not {line for line in lines if line.startswith(("socket:", "pipe:", "rw-s"))}
    worker = service.owners()[0]
    pid_file = str(tmp_path / "pid")
    links = [os.readlink(path) for path in Path(f"/proc/{worker}/fd").iterdir()]
    assert pid_file not in links


HELD = """
import os

def note():
    lines = []
    for fd in range(3, 100):
        try:
            lines.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    lines += [line for line in open("/proc/self/maps").read().split("\\n") if "fastsocket-" in line]
    lines = [line.split()[1] if "-" in line.split()[0] else line for line in lines]
    with open(os.environ["HELD"], "a") as file:
        print(*lines, "end", sep="\\n", file=file)

def on_starting(): note()
def on_reload(): note()
"""

TRACED = """
import threading
from opentelemetry import trace

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    with trace.get_tracer("app").start_as_current_span("greeting"):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ok"})
"""

FAILS = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        raise LookupError("nobody is at home")
"""


@pytest.mark.programs
def test_opentelemetry_as_the_page_has_it(serve: Serve, tmp_path: Path) -> None:
    """Its thread runs in the worker, and the spans that it has gathered are written at the end."""
    (tmp_path / "telemetry.py").write_text(EXAMPLES[0])
    (tmp_path / "traced.py").write_text(TRACED)
    options = ["--app-dir", str(tmp_path), "--workers", "1", "--hooks", "telemetry"]
    service = serve("traced:app", *options)
    assert ask(service, get("/")).status == 200
    os.kill(service.pid, signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert '"name": "greeting"' in service.log()
    assert '"worker": 0' in service.log()


@pytest.mark.programs
def test_sentry_as_the_page_has_it(serve: Serve, tmp_path: Path) -> None:
    """An error of the application is sent to Sentry; a server in this test stands in for it."""
    received: list[bytes] = []

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            gzipped = self.headers.get("content-encoding") == "gzip"
            received.append(gzip.decompress(body) if gzipped else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Sentry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            where = f"http://key@127.0.0.1:{server.server_port}/1"
            text = EXAMPLES[1].replace("https://key@sentry.example.com/1", where)
            (tmp_path / "errors.py").write_text(text)
            (tmp_path / "fails.py").write_text(FAILS)
            options = ["--app-dir", str(tmp_path), "--workers", "1", "--hooks", "errors"]
            service = serve("fails:app", *options)
            assert ask(service, get("/")).status == 500
            until(lambda: any(b"nobody is at home" in body for body in received), "sent")
        finally:
            server.shutdown()
            thread.join()


def test_a_start_that_is_ended(tmp_path: Path) -> None:
    """TERM ends the service while on_starting still runs."""
    (tmp_path / "slow.py").write_text(
        "import os, time\ndef on_starting(): os.write(2, b'begun\\n'); time.sleep(100)\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    service = Service("web:app", "--hooks", "slow", cwd=tmp_path, env=env, wait=False)
    try:
        service.wait_log("begun")
        (child,) = service.workers()
        os.kill(service.pid, signal.SIGTERM)
        assert service.process.wait(30) == 0
        assert not Path(f"/proc/{child}").exists()
    finally:
        service.close()


def test_no_such_module(tmp_path: Path) -> None:
    app = ("web:app", "--app-dir", str(APP), "-b", "127.0.0.1:0")
    out = run("serve", *app, "--hooks", "nothere", cwd=tmp_path)
    one_line(out, 2, "--hooks nothere: there is no such module")
    (tmp_path / "web.py").write_text("")
    assert "nothere" not in sys.modules
