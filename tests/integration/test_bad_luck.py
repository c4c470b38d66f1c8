"""A service survives bad luck. Each of these cases was found in use."""

import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import websockets.sync.client
from support.client import HTTP, Load, ask, connect, free_port, outcome, receive_all
from support.service import (
    APP,
    COMMAND,
    Service,
    run,
    session_members,
    state_of,
    until,
)
from websockets.exceptions import ConnectionClosed

from aiofastsocket.proc import children, descriptors, program_name
from aiofastsocket.server.http.proxies import Proxies
from aiofastsocket.server.lines import Lines

Serve = Callable[..., Service]

# Tests of the supervisor alone take seconds, and do not depend on the loop.
ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)

HELLO = b"GET /hello HTTP/1.0\r\n\r\n", HTTP[1]
CLOSED = 'exec 0<&- 1>&- 2>&-; exec "$@"'


def standard_streams(pid: int) -> set[str]:
    return {
        meaning for path, meaning in descriptors(pid) if path.rpartition("/")[2] in {"0", "1", "2"}
    }


def test_standard_streams_that_are_closed(tmp_path: Path) -> None:
    """No descriptor of ours gets their numbers: the access log would be written into it."""
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "web:app", "--app-dir", str(APP), "--workers", "2"]
    command += ["--bind", f"127.0.0.1:{address[1]}", "--pid-file", str(tmp_path / "pid")]
    service = subprocess.Popen(["sh", "-c", CLOSED, "sh", *command], cwd=tmp_path)
    try:
        until(lambda: outcome(address, HELLO) == "answered", "it serves")
        until(lambda: len(children(service.pid)) == 2, "both workers have started")
        assert {outcome(address, HELLO) for _ in range(20)} == {"answered"}
        old = set(children(service.pid))
        for pid in (service.pid, *old):
            assert standard_streams(pid) == {"/dev/null"}
        service.send_signal(signal.SIGHUP)
        until(lambda: not old & set(children(service.pid)), "new workers serve")
        assert {outcome(address, HELLO) for _ in range(20)} == {"answered"}
    finally:
        service.terminate()
        assert service.wait(30) == 0


def test_exec_with_standard_streams_closed(tmp_path: Path) -> None:
    program = "import os; print(*[os.readlink(f'/proc/self/fd/{n}') for n in range(3)])"
    command = [
        str(COMMAND),
        "exec",
        "--",
        sys.executable,
        "-c",
        f"{program[:-1]}, file=open('out', 'w'))",
    ]
    done = subprocess.run(["sh", "-c", CLOSED, "sh", *command], cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "/dev/null /dev/null /dev/null\n"


def test_a_table_in_a_process_without_standard_streams(tmp_path: Path) -> None:
    """The process of a library's user: its print() must not reach the page."""
    program = (
        "import os, socket, aiofastsocket\n"
        "from aiofastsocket.proc import descriptors\n"
        "sock = socket.socket()\n"  # gets 0: this is the program's own choice
        "sock.bind(('127.0.0.1', 0))\n"
        "with aiofastsocket.ListenTable(sock, slots=4) as table:\n"
        "    names = [int(path.rpartition('/')[2]) for path, _ in descriptors(os.getpid())]\n"
        "    ours = [table.bell(), *map(table.fileno, range(4))]\n"
        "    with open('out', 'w') as file:\n"
        "        print(min(ours), [n for n in names if 0 < n < 3], file=file)\n"
    )
    done = subprocess.run(
        ["sh", "-c", CLOSED, "sh", sys.executable, "-c", program], cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0
    lowest, held = (tmp_path / "out").read_text().split(maxsplit=1)
    assert int(lowest) > 2
    assert held == "[]\n" or "1" not in held


OWN_HANDLER = """
import asyncio, os, signal
from targets import Who as Base

got = []
signal.signal(signal.SIGUSR2, lambda *_: got.append("mine"))

class Who(Base):
    def data_received(self, data):
        self.transport.write(" ".join(got).encode() + b" %d" % os.getpid())
        self.transport.close()
"""


def test_signals_without_a_meaning_end_no_process(serve: Serve, tmp_path: Path) -> None:
    """signal(7): all signals that end a process by default, except faults, limits, job control."""
    (tmp_path / "own.py").write_text(OWN_HANDLER)
    env = {"PYTHONPATH": str(APP)}
    service = serve("own:Who", "--app-dir", str(tmp_path), "--workers", "1", env=env)
    (worker,) = service.owners()
    ignored = ("CHLD", "URG", "WINCH", "CONT", "PIPE", "XFSZ")
    acted_on = ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "KILL", "STOP", "TSTP")
    left = ("SEGV", "BUS", "ILL", "FPE", "ABRT", "TRAP", "SYS", "XCPU")
    known = {getattr(signal, f"SIG{name}") for name in (*ignored, *acted_on, *left)}
    for number in sorted(set(signal.valid_signals()) - known):
        for pid in (service.pid, worker):
            os.kill(pid, number)
    service.wait_log("USR1 ignored: the service continues")
    service.wait_log("USR1 ignored: the worker continues")
    service.wait_log("RTMIN+3 ignored: the service continues")
    assert "USR2 ignored: the worker continues" not in service.log()
    until(lambda: ask(service.address).startswith(b"mine"), "its own handler ran")
    assert service.owners() == [worker]
    # These signals are handled, not ignored: executed programs would inherit ignored ones.
    status = Path(f"/proc/{worker}/status").read_text()
    (mask,) = re.findall(r"SigIgn:\s+(\w+)", status)
    assert not int(mask, 16) & (1 << (signal.SIGUSR1 - 1) | 1 << (signal.SIGRTMIN - 1))


@ON_ONE_LOOP
def test_a_signal_that_means_nothing_while_it_starts(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\nfrom targets import Who\n")
    env = {"PYTHONPATH": str(APP)}
    arguments = ("--app-dir", str(tmp_path), "--workers", "1", "--pid-file", str(tmp_path / "pid"))
    service = serve("slow:Who", *arguments, env=env, wait=False)
    until((tmp_path / "pid").exists, "the supervisor has started")
    until(lambda: children(service.pid), "a worker has started")
    for pid in (service.pid, *children(service.pid)):
        os.kill(pid, signal.SIGUSR1)
    service.wait_log("serving ")
    assert ask(service.address)
    assert "replaced" not in service.log()


SLOW_LIFE = """
import asyncio, os, sys, time

async def wait(seconds):
    if os.environ.get("IN_A_THREAD"):
        await asyncio.to_thread(time.sleep, seconds)
    else:
        await asyncio.sleep(seconds)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("START"):
            print("starting up", file=sys.stderr, flush=True)
            await wait(float(os.environ["START"]))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await wait(float(os.environ.get("END", "0")))
        print("ended in order", file=sys.stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"more", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def slow_life(serve: Serve, tmp_path: Path) -> Callable[..., Service]:
    (tmp_path / "slow.py").write_text(SLOW_LIFE)

    def start(*arguments: str, **env: str) -> Service:
        one = ("--workers", "1", "--app-dir", str(tmp_path))
        return serve("slow:app", *one, *arguments, env=env, wait="START" not in env)

    return start


@pytest.mark.long
def test_a_stream_that_uses_up_the_grace_time_leaves_the_lifespan_its_own(slow_life: Serve) -> None:
    service = slow_life("--timeout-graceful-shutdown", "0.5", END="2.5")
    with connect(service.address) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000)
        assert service.stop() == 0
    assert "ended in order" in service.log()
    assert "does not stop" not in service.log()


@ON_ONE_LOOP
@pytest.mark.parametrize("thread", ["", "1"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_lifespan_that_is_cut_short_is_an_error(
    slow_life: Serve, number: signal.Signals, thread: str
) -> None:
    service = slow_life("--timeout-lifespan-shutdown", "0.5", END="60", IN_A_THREAD=thread)
    assert service.stop(number) == 1
    assert "the application's shutdown was cut short" in service.log()
    assert "killed" not in service.log()


@ON_ONE_LOOP
@pytest.mark.parametrize("thread", ["", "1"])
def test_term_while_the_lifespan_starts_for_ever(slow_life: Serve, thread: str) -> None:
    service = slow_life("--timeout-graceful-shutdown", "600", START="600", IN_A_THREAD=thread)
    service.wait_log("starting up")
    assert service.stop() == 0
    assert "killed" not in service.log()


@ON_ONE_LOOP
@pytest.mark.parametrize("thread", ["", "1"])
def test_a_lifespan_that_does_not_start_in_its_time(slow_life: Serve, thread: str) -> None:
    service = slow_life("--timeout-lifespan-startup", "0.2", START="600", IN_A_THREAD=thread)
    assert service.process.wait(60) == 1
    assert "worker cannot start: the application did not start within 0.2 s" in service.log()


def test_workers_that_are_told_to_stop_just_before_the_supervisor(serve: Serve) -> None:
    """As when a process group gets a signal: no worker is started just to be stopped."""
    service = serve("targets:Who", "--workers", "3", "--log-level", "debug")
    for pid in service.owners():
        os.kill(pid, signal.SIGTERM)
    service.wait_log("stops: replaced", 3)
    assert service.stop() == 0
    assert service.log().count(" starts on slot ") == 3


def test_a_worker_that_alone_is_told_to_stop_is_replaced(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "1")
    (worker,) = service.owners()
    os.kill(worker, signal.SIGTERM)
    service.wait_log("stops: replaced")
    assert ask(service.address) != b"%d\n" % worker
    until(lambda: service.settled(1), "its successor serves")


ORPHANS = """
import asyncio, os, subprocess, sys

waited = subprocess.Popen(["sleep", "0.1"])  # the program's own, in the supervisor with --preload

class Who(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if os.fork() == 0:  # a daemon's first child, which ends at once
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "0.1"])
            os._exit(0)
        os.wait()
        self.transport.write(b"done")
        self.transport.close()
"""


def test_pid_1_reaps_orphans(tmp_path: Path) -> None:
    """In a PID namespace of its own, as in a container."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    address = "127.0.0.1", free_port()
    bind = f"127.0.0.1:{address[1]}"
    command = [str(COMMAND), "serve", "orphans:Who", "--workers", "1", "--bind", bind, "--preload"]
    outer = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", *command], cwd=tmp_path)
    try:
        until(lambda: outcome(address) != "refused", "it serves")
        (service,) = children(outer.pid)
        assert [ask(address) for _ in range(10)] == [b"done"] * 10

        def zombies() -> list[str]:
            return [program_name(pid) for pid in children(service) if state_of(pid) == "Z"]

        until(lambda: len(children(service)) <= 2, "only the worker and one other child are left")
        assert zombies() == ["sleep"]  # the program may still wait for it
    finally:
        os.kill(children(outer.pid)[0], signal.SIGTERM)
        assert outer.wait(30) == 0


def test_a_supervisor_that_is_killed_leaves_the_port_free(serve: Serve, slow_life: Serve) -> None:
    """Another server takes over at once, although the workers still have requests to answer."""
    service = slow_life("--workers", "2")
    with connect(service.address) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000)
        workers = service.workers()
        service.send(signal.SIGKILL)
        service.process.wait()

        def another_starts() -> bool:
            try:
                serve("targets:Who", "--bind", f"127.0.0.1:{service.address[1]}", "--workers", "1")
            except AssertionError:
                return False
            return True

        until(another_starts, "another server starts", 10)
        assert ask(service.address)
        assert client.recv(1000)  # it goes on
        until(lambda: len(session_members(service.pid)) == 1, "the other worker ends")
        assert session_members(service.pid)[0] in workers


# The first worker is ready at once, the others once the file "go" exists.
ONE_FIRST = """
import pathlib, time
here = pathlib.Path(__file__).parent
try:
    (here / "first").mkdir()
except FileExistsError:
    while not (here / "go").exists():
        time.sleep(0.02)
from targets import Who
"""


NEW = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
(here / f"new{{os.getpid()}}").touch()
while not (here / "on").exists():
    time.sleep(0.02)
{ends}
"""


@pytest.mark.parametrize("good", [False, True])
def test_hup_during_the_first_start(serve: Serve, tmp_path: Path, good: bool) -> None:
    """Each worker that serves goes on until a worker with the new code replaces it."""
    app = tmp_path / "early.py"
    app.write_text(ONE_FIRST)
    address = "127.0.0.1", free_port()
    arguments = ["--workers", "2", "--app-dir", str(tmp_path), "--pid-file", str(tmp_path / "pid")]
    arguments += ["--bind", f"127.0.0.1:{address[1]}"]
    service = serve("early:Who", *arguments, env={"PYTHONPATH": str(APP)}, wait=False)
    until(lambda: (tmp_path / "pid").exists() and service.owners(), "one worker serves")
    first = service.owners()
    with Load(address) as load:
        load.more(20)
        app.write_text(
            NEW.format(ends="from targets import Who" if good else "import no_such_name")
        )
        service.send(signal.SIGHUP)
        until(lambda: len(list(tmp_path.glob("new*"))) == 2, "the new code is being imported")
        load.more(100)  # meanwhile
        (tmp_path / "on").touch()
        service.wait_log("serving early:Who" if good else "reload failed: the old workers continue")
        load.more(20)
        if not good:
            service.wait_log("worker cannot start")
            assert first[0] in service.owners()
            (tmp_path / "go").touch()  # the workers of the first start become ready
            app.write_text("from targets import Who\n")
            service.wait_log("serving early:Who")
            load.more(20)
    assert load.outcomes.keys() == {"answered"}, load.outcomes
    until(lambda: service.settled(2), "two workers serve")
    assert service.log().count("giving up") == 0


def test_a_pid_file_that_names_another_process(serve: Serve, tmp_path: Path) -> None:
    """A killed service left it; by now its number belongs to another process."""
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    service = serve("targets:Who", "--workers", "1", "--pid-file", str(path))
    assert path.read_text() == f"{service.pid}\n"
    service.send(signal.SIGKILL)
    service.process.wait()
    assert path.read_text() == f"{service.pid}\n"
    again = serve("targets:Who", "--workers", "1", "--pid-file", str(path))
    assert path.read_text() == f"{again.pid}\n"


def test_a_pid_file_that_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "precious").write_text("data")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    for name, words in (("fifo", "it is not a regular file"), ("link", "it is a symbolic link")):
        done = run("serve", "--bind", "127.0.0.1:0", "--pid-file", name, cwd=tmp_path)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line == f"aiofastsocket serve: error: pid file {name} cannot be written: {words}"
    assert (tmp_path / "precious").read_text() == "data"


def test_hup_when_the_working_directory_is_gone(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "mine.py").write_text("from targets import Who\n")
    env = {"PYTHONPATH": str(APP)}
    there = ("env", "--chdir", str(folder))
    service = serve("mine:Who", "--app-dir", ".", "--workers", "1", wrapper=there, env=env)
    (folder / "mine.py").unlink()
    shutil.rmtree(folder)
    service.send(signal.SIGHUP)
    service.wait_log("the old workers continue to serve")
    (told,) = [line for line in service.log().splitlines() if "cannot start" in line]
    assert "there is no module 'mine' " in told
    assert told.endswith(f"{folder} (--app-dir)")
    assert ask(service.address)
    folder.mkdir()  # the next release
    (folder / "mine.py").write_text("from targets import Who\n")
    service.send(signal.SIGHUP)
    service.wait_log("reloaded")


TWO_AT_A_TIME = """
import os, sys, time
unlink = os.unlink
os.unlink = lambda path: (time.sleep(0.5), unlink(path))  # both have found it stale by then
from aiofastsocket import Channel, SetupError
from aiofastsocket.server.bind import Bind, open_listeners
how = {"slots": 1, "steer": "auto", "backlog": 8, "may_defer": False}
with Channel("off") as channel:
    try:
        (listener,) = open_listeners((Bind(path="sock"),), channel, **how)
    except SetupError as error:
        print(error, flush=True)
    else:
        print("listens", flush=True)
        sys.stdin.read()
"""


def test_two_servers_that_find_one_stale_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sock"))
    two = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_AT_A_TIME],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = sorted(str(p.stdout and p.stdout.readline()) for p in two)
    assert said == ["listens\n", "unix:sock is in use: another server listens there\n"]
    connect(str(tmp_path / "sock")).close()
    for process in two:
        process.communicate()


FILES = """
import os
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": "/" + scope["path"].strip("/")})
"""


def test_pathsend_of_a_file_that_is_not_plain(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "files.py").write_text(FILES)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "plain").write_text("words")
    service = serve("files:app", "--workers", "1", "--app-dir", str(tmp_path))

    def get(path: object) -> tuple[bytes, bytes]:
        answer = ask(service.address, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split()[1], body

    assert get(tmp_path / "plain") == (b"200", b"words")
    assert get(tmp_path / "empty") == (b"200", b"")
    assert get(tmp_path / "fifo")[0] == get("/dev/zero")[0] == get(tmp_path)[0] == b"500"
    service.wait_log("fifo', which is not a regular file")
    assert get("/proc/version") == (b"200", Path("/proc/version").read_bytes())


def test_the_port_of_a_forwarded_client_is_kept() -> None:
    proxies = Proxies("10.0.0.1")
    for said, client in (
        (b"192.0.2.1:4711", ("192.0.2.1", 4711)),
        (b"192.0.2.1", ("192.0.2.1", 0)),
        (b"[2001:db8::1]:4711", ("2001:db8::1", 4711)),
        (b"[2001:db8::1]", ("2001:db8::1", 0)),
        (b"2001:db8::1", ("2001:db8::1", 0)),
        (b"192.0.2.1:http", ("192.0.2.1", 0)),
        (b"192.0.2.1:4711, 10.0.0.1:99", ("192.0.2.1", 4711)),
    ):
        found, _ = proxies.heed([(b"x-forwarded-for", said)], ("10.0.0.1", 1), "http")
        assert found == client


ODD_TABLES = """
import mmap, os, socket, sys, time
from aiofastsocket import ListenTable
from aiofastsocket.proc import descriptors
open("/proc/self/comm", "wb").write(b"\\xff\\x1b[31mred")
socks = [socket.socket() for _ in range(3)]
tables = []
for sock in socks:
    sock.bind(("127.0.0.1", 0))
    tables.append(ListenTable(sock, slots=2))
pages = [path for path, meaning in descriptors(os.getpid()) if "fastsocket-table" in meaning]
maps = [mmap.mmap(os.open(path, os.O_RDWR), 0) for path in pages]
maps[0][:] = bytes(len(maps[0]))
why = maps[1][:].index(b"loopback")
maps[1][why : why + 8] = b"\\x1b[31m\\xff\\x9b\\n"
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_stats_of_overwritten_tables(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A broken table is one line, the others are shown. Escape sequences are not printed."""
    program = subprocess.Popen(
        [sys.executable, "-c", ODD_TABLES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        done = run("stats", str(program.pid), *options, cwd=tmp_path)
        program.communicate()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
    if options:
        found = json.loads(done.stdout)
        assert len([table for table in found if "slots" in table]) == 2
        assert [table for table in found if "error" in table] == [
            {
                "pid": program.pid,
                "program": "\N{REPLACEMENT CHARACTER}?[31mred",
                "error": "its listen table is invalid, or belongs to another release",
            }
        ]
    else:
        assert done.stdout.count("2 slots, steering") == 2
        assert done.stdout.count("its listen table is invalid") == 1


LOUD = """
import sys
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"] == "/error":
        raise ValueError("x" * 1000)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_log_that_nobody_reads(tmp_path: Path, loop: str, stream: str) -> None:
    """Requests go on. When the log is read again, it says how many lines were dropped."""
    (tmp_path / "loud.py").write_text(LOUD)
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "loud:app", "--workers", "2", "--loop", loop]
    command += ["--bind", f"127.0.0.1:{address[1]}", "--app-dir", str(tmp_path)]
    other, path = tmp_path / "other", b"/error" if stream == "stderr" else b"/"
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    with other.open("wb") as file:
        out, err = (writes, file) if stream == "stdout" else (file, writes)
        service = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=err)
    os.close(writes)

    def get() -> bytes:
        return ask(address, b"GET %b HTTP/1.0\r\n\r\n" % path).split()[1]

    try:
        until(lambda: outcome(address) != "refused", "it serves")
        expected = b"500" if stream == "stderr" else b"200"
        assert {get() for _ in range(200)} == {expected}
        os.set_blocking(reads, False)
        told = b""

        def flows_again() -> bool:
            nonlocal told
            get()
            with contextlib.suppress(BlockingIOError):
                told += os.read(reads, 1 << 20)
            return b"lines were dropped" in told or b"were dropped" in other.read_bytes()

        until(flows_again, "the log says how many lines were dropped")
        assert re.search(
            rb"\d\d+ lines (of the access log )?were dropped", told + other.read_bytes()
        )
        os.set_blocking(reads, True)
    finally:
        service.terminate()
        assert service.wait(30) == 0
        os.close(reads)


def test_a_stopped_log_reader_does_not_hold_a_stop(tmp_path: Path, loop: str) -> None:
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "--workers", "2", "--loop", loop, "--log-level", "debug"]
    command += ["--bind", f"127.0.0.1:{address[1]}"]
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    service = subprocess.Popen(command, cwd=tmp_path, stdout=writes, stderr=writes)
    try:
        until(lambda: outcome(address, HTTP) == "answered", "it serves")
        for _ in range(100):
            service.send_signal(signal.SIGUSR1)  # each logs a line
            outcome(address, HTTP)
        service.send_signal(signal.SIGHUP)
        assert {outcome(address, HTTP) for _ in range(20)} == {"answered"}
        assert os.get_blocking(writes)
    finally:
        service.terminate()
        assert service.wait(30) == 0
        os.close(reads)
        os.close(writes)


def test_a_log_on_a_full_disk(tmp_path: Path, loop: str) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "loud:app", "--workers", "1", "--loop", loop]
    command += ["--bind", f"127.0.0.1:{address[1]}", "--app-dir", str(tmp_path)]
    with open("/dev/full", "wb") as full:
        service = subprocess.Popen(command, cwd=tmp_path, stdout=full, stderr=full)
    try:
        until(lambda: outcome(address, HELLO) == "answered", "it serves")
        assert {outcome(address, HELLO) for _ in range(20)} == {"answered"}
    finally:
        service.terminate()
        assert service.wait(30) == 0


STREAMS = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

count = {"opened": 0, "closed": 0}

async def numbers():
    count["opened"] += 1
    try:
        while True:
            yield b"x" * 20000
    finally:
        count["closed"] += 1

async def stream(request):
    return StreamingResponse(numbers())

async def counted(request):
    return PlainTextResponse(f"{count['opened']} {count['closed']}")

app = Starlette(routes=[Route("/stream", stream), Route("/count", counted)])
"""


def test_generators_of_clients_that_reset_end_with_them(serve: Serve, tmp_path: Path) -> None:
    """Their `finally` blocks give back sessions and locks without the garbage collector.

    Cycles of frames and errors would otherwise wait for it.
    """
    (tmp_path / "streams.py").write_text("import gc\ngc.disable()\n" + STREAMS)
    service = serve("streams:app", "--workers", "1", "--app-dir", str(tmp_path))
    clients = [connect(service.address) for _ in range(40)]
    for client in clients:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def counted() -> bytes:
        return ask(service.address, b"GET /count HTTP/1.0\r\n\r\n").rpartition(b"\r\n\r\n")[2]

    until(lambda: counted() == b"40 40", "all generators have ended")
    # A response to HEAD sends no body: its generator never waits, but does not hold up the loop.
    with begun(service, b"HEAD /stream") as client:
        assert client.recv(1000)
        assert counted() == b"41 40"


@contextlib.contextmanager
def manager(path: Path) -> Iterator[Callable[[], str]]:
    """A service manager's end of $NOTIFY_SOCKET; yields a function for the next message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(30)
        yield lambda: sock.recv(1000).decode()
    path.unlink()


def test_a_service_manager_hears_of_reloads_and_that_we_live(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from targets import Held as Who\n")
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    env |= {"PYTHONPATH": str(APP)}
    with manager(tmp_path / "notify") as told:

        def hear(*words: str) -> None:
            until(lambda: (said := told()) and all(word in said for word in words), f"{words}")

        service = serve("mine:Who", "--workers", "2", "--app-dir", str(tmp_path), env=env)
        hear("READY=1")
        with connect(service.address), connect(service.address) as client:
            client.recv(10)
            hear("STATUS=2 workers serve, 2 connections", "WATCHDOG=1")
        service.send(signal.SIGHUP)
        hear("RELOADING=1", "MONOTONIC_USEC=")
        hear("READY=1")
        (tmp_path / "mine.py").write_text("import nothing_of_that_name\n")
        service.send(signal.SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")  # the old workers go on
        service.send(signal.SIGTERM)
        hear("STOPPING=1")


@pytest.mark.long
@ON_ONE_LOOP
def test_a_watchdog_is_not_told_that_all_is_well_when_every_worker_hangs(
    serve: Serve, tmp_path: Path
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    with manager(tmp_path / "notify") as told:
        service = serve("targets:Blocks", "--workers", "2", env=env)
        assert told() == "READY=1"
        first, second = service.owners()
        ask(service.address, b"block %d 3 3" % first)
        until(lambda: "WATCHDOG=1" in told(), "the watchdog is told, although one worker hangs")
        while "every worker has been held up" not in service.log():
            with contextlib.suppress(TimeoutError), connect(service.address, 0.2) as client:
                client.sendall(b"block %d 3 3" % second)
                client.recv(10)
        said = told()
        while "WATCHDOG=1" in said:  # messages from before
            said = told()
        assert said.startswith("STATUS=")
        until(lambda: "WATCHDOG=1" in told(), "their loops turn again")
        for pid in service.owners():  # a second request may block them once more
            os.kill(pid, signal.SIGKILL)


UVICORNS = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "D %(message)s"},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": "A %(client_addr)s %(request_line)s %(status_code)s",
        },
    },
    "handlers": {
        "default": {"formatter": "default", "class": "logging.StreamHandler"},
        "access": {"formatter": "access", "class": "logging.StreamHandler"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}


def test_a_log_configuration_that_was_made_for_uvicorn(serve: Serve, tmp_path: Path) -> None:
    config = tmp_path / "log.json"
    config.write_text(json.dumps(UVICORNS))
    service = serve("web:app", "--workers", "1", "--log-config", str(config))
    assert "D serving web:app" in service.log()
    ask(service.address, HELLO[0])
    service.wait_log("A 127.0.0.1 GET /hello HTTP/1.0 200")
    assert service.stop() == 0
    assert "Traceback" not in service.log()


def test_a_log_configuration_that_knows_none_of_our_loggers(serve: Serve, tmp_path: Path) -> None:
    config = tmp_path / "log.json"
    config.write_text(json.dumps({"version": 1, "loggers": {"mine": {"level": "INFO"}}}))
    service = serve("targets:Who", "--workers", "1", "--log-config", str(config), wait=False)
    service.wait_log("neither aiofastsocket nor root is among its loggers: only warnings are shown")
    assert service.log().count("neither") == 1


EVENTS = """
import asyncio, sys
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("ended in order", file=sys.stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
    if scope["path"] == "/late":
        await asyncio.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async def stream():
        try:
            while True:
                data = {"type": "http.response.body", "body": b"data: 1\\n\\n", "more_body": True}
                await send(data)
                await asyncio.sleep(0.05)
        finally:
            print("finally", scope["path"], file=sys.stderr, flush=True)
    if scope["path"] == "/deaf":
        await stream()
    task = asyncio.ensure_future(stream())
    while (await receive())["type"] != "http.disconnect":
        pass
    print("told", scope["path"], file=sys.stderr, flush=True)
    task.cancel()
"""


@pytest.fixture
def events(serve: Serve, tmp_path: Path) -> Callable[..., Service]:
    (tmp_path / "events.py").write_text(EVENTS)
    return lambda *options: serve(
        "events:app", "--workers", "1", "--app-dir", str(tmp_path), *options
    )


def begun(service: Service, request: bytes) -> socket.socket:
    client = connect(service.address)
    client.sendall(request + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    return client


@pytest.mark.parametrize("path", ["/heeds", "/deaf", "/late"])
def test_an_event_stream_does_not_hold_a_stop(events: Serve, path: str) -> None:
    """The stream is told at once, and cancelled if it ignores that: its client connects again.

    Other requests keep the rest of the grace time.
    """
    service = events("--timeout-graceful-shutdown", "600", "--timeout-disconnect", "0.3")
    with begun(service, b"GET " + path.encode()) as client:
        if path != "/late":
            assert client.recv(1000)
        else:
            until(lambda: service.accepted() == 1, "the request is accepted")
        assert service.stop() == 0
        with contextlib.suppress(ConnectionResetError):
            while client.recv(1000):
                pass
    log = service.log()
    assert f"finally {path}" in log
    assert (f"told {path}" in log) == (path != "/deaf")
    assert "ended in order" in log
    assert "exception in the application" not in log


def test_an_event_stream_that_answers_a_post_keeps_the_grace_time(events: Serve) -> None:
    """Its client would not repeat the request by itself (LLM and MCP calls).

    At the end of the grace time it is told, like all others; the lifespan ends after it.
    """
    service = events("--timeout-graceful-shutdown", "1", "--timeout-disconnect", "0.3")
    with begun(service, b"POST /call") as client, begun(service, b"POST /deaf") as deaf:
        assert client.recv(1000)
        assert deaf.recv(1000)
        service.send(signal.SIGTERM)
        service.wait_log("stopping")
        assert client.recv(1000)
        assert "told" not in service.log()
        assert service.process.wait(60) == 0
    log = service.log()
    assert log.index("told /call") < log.index("finally /deaf") < log.index("ended in order")
    assert "killed" not in log


def test_websockets_are_sent_away_one_after_the_other(serve: Serve) -> None:
    """If all were closed at once, all clients would connect again at once."""
    service = serve("web:app", "--workers", "1", "--timeout-graceful-shutdown", "4")
    with contextlib.ExitStack() as stack:
        url = f"ws://127.0.0.1:{service.address[1]}/echo"
        left = [stack.enter_context(websockets.sync.client.connect(url)) for _ in range(4)]
        service.send(signal.SIGTERM)
        codes: list[int | None] = []

        def one_more_is_closed() -> bool:
            for client in list(left):
                try:
                    client.recv(timeout=0.01)
                except TimeoutError:
                    continue
                except ConnectionClosed as closed:
                    codes.append(closed.rcvd.code if closed.rcvd else None)
                    left.remove(client)
            return bool(codes)

        until(one_more_is_closed, "one is told to leave")
        assert left
        left[-1].send("more")  # still served
        assert left[-1].recv(timeout=30) == "more"
        until(lambda: one_more_is_closed() and not left, "all are told to leave")
    assert codes == [1012] * 4
    assert service.process.wait(60) == 0


HANGS = """
import asyncio, os, threading, time
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"].startswith("/hang"):
        os.write(2, b"hangs from now on\\n")
        time.sleep(3600)
    if scope["path"] == "/busy":
        end = time.monotonic() + 3
        while time.monotonic() < end:  # many short turns
            time.sleep(0.01)
            await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


@pytest.mark.long
def test_workers_that_hang_are_replaced(serve: Serve, tmp_path: Path) -> None:
    """All workers hang: the connections in their queues wait for the successors.

    The log first says what the workers were doing. A worker that is only busy is left alone.
    """
    (tmp_path / "hangs.py").write_text(HANGS)
    two = ("--workers", "2", "--app-dir", str(tmp_path), "--timeout-worker", "1")
    service = serve("hangs:app", *two, "--no-access-log", "--steer", "spread")
    old = service.owners()
    with contextlib.ExitStack() as stack:
        for count in (1, 2):  # a sibling takes the connections of one that hangs
            client = stack.enter_context(connect(service.address))
            client.sendall(b"GET /hang%0Aforged HTTP/1.0\r\n\r\n")
            service.wait_log("hangs from now on", count)  # from now on it takes no other connection
        # No worker is left to answer, but no connection is refused either.
        assert ask(service.address, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        until(lambda: service.settled(2) and not set(old) & set(service.owners()), "two serve")
    log = service.log()
    for pid in old:
        told = log.index(f"worker {pid} (slot")
        assert "hangs, held up for 1 s: replaced" in log[told:]
        assert log.index(f"worker {pid} does not stop") > told
    assert 'hangs.py", line 8 in app' in log
    assert re.search(r"the event loop has been held up for \d\.\d s: /hang%0Aforged\n", log)
    assert "\nforged" not in log
    survivors = service.owners()
    busy = ask(service.address, b"GET /busy HTTP/1.0\r\n\r\n").rpartition(b"\r\n")[2]
    assert int(busy) in survivors
    assert service.owners() == survivors


WSGI_HANGS = """
import os, time
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hang":
        time.sleep(3600)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "%d" % (1 << 24 if path == "/long" else 8))])
    if path == "/long":
        return (b"x" * (1 << 16) for _ in range(1 << 8))
    return [b"%8d" % os.getpid()]
"""


@pytest.mark.long
@ON_ONE_LOOP
def test_a_pool_of_threads_that_hangs_is_replaced(serve: Serve, tmp_path: Path) -> None:
    """A worker is replaced when no thread is free.

    Threads that wait for their clients do not count, to send or to receive. One thread that hangs
    is not enough.
    """
    (tmp_path / "pool.py").write_text(WSGI_HANGS)
    one = ("--workers", "1", "--app-dir", str(tmp_path), "--timeout-worker", "1")
    service = serve("pool:app", *one, "--no-access-log", "--timeout-graceful-shutdown", "1")
    (old,) = service.owners()
    with contextlib.ExitStack() as stack:

        def say(request: bytes) -> socket.socket:
            client = stack.enter_context(connect(service.address))
            client.sendall(request)
            return client

        slow = [say(b"GET /long HTTP/1.0\r\n\r\n") for _ in range(5)]  # these clients do not read
        slow += [say(b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n") for _ in range(5)]
        time.sleep(2.5)
        assert service.owners() == [old]
        for client in slow:
            client.sendall(b"x" * 9)
            receive_all(client)
        for _ in range(9):
            say(b"GET /hang HTTP/1.0\r\n\r\n")
        time.sleep(2.5)
        assert int(ask(service.address, b"GET / HTTP/1.0\r\n\r\n").rpartition(b"\r\n")[2]) == old
        say(b"GET /hang HTTP/1.0\r\n\r\n")
        until(lambda: service.settled(1) and service.owners() != [old], "the successor serves")
    log = service.log()
    assert f"worker {old} (slot 0) hangs, held up for 1 s: replaced" in log
    assert re.search(r"no thread of the pool has been free for \d\.\d s: /hang, /hang", log)
    assert 'pool.py", line 6 in app' in log


@pytest.mark.programs  # takes a minute: `make test-programs`
@pytest.mark.timeout(300)
@ON_ONE_LOOP
def test_a_bad_minute(serve: Serve, tmp_path: Path) -> None:
    """Signals and kills at random, under load and with a log that nobody reads.

    By the page's counters, each lost connection had been accepted by a killed worker.
    """
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    unread = os.open(fifo, os.O_RDWR)
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    address = "127.0.0.1", free_port()
    wrapper = ("sh", "-c", f'exec "$@" >{fifo} 2>&1', "sh")
    bind = ("--bind", f"127.0.0.1:{address[1]}")
    spread = ("--workers", "3", "--slots", "8", "--steer", "spread")
    service = serve("targets:Who", *spread, *bind, wrapper=wrapper, wait=False)
    until(lambda: outcome(address) == "answered", "it serves")
    before, kills = service.accepted(), 0
    with Load(address) as load:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            kind = chance.choices(["HUP", "TTIN", "TTOU", "USR1", "KILL"], [1, 2, 2, 2, 2])[0]
            if kind == "KILL":
                service.kill_an_owner()
                kills += 1
            else:
                service.send(signal.Signals[f"SIG{kind}"])
            time.sleep(chance.uniform(0.02, 0.2))
    assert load.outcomes.keys() <= {"answered", "reset"}, load.outcomes
    assert load.outcomes["answered"] > 1000
    total = load.outcomes.total()
    # A kill between counting and accepting leaves one too many.
    until(lambda: total <= service.accepted() - before <= total + kills, "all are counted")
    wanted = range(1, 9)
    until(lambda: any(service.settled(workers) for workers in wanted), "claims and workers agree")
    assert service.stop() == 0
    os.close(unread)


def test_pid_1_with_the_proc_of_another_namespace(tmp_path: Path) -> None:
    """The children of PID 1 in that /proc are not our children."""
    address = "127.0.0.1", free_port()
    command = [str(COMMAND), "serve", "--workers", "1", "--bind", f"127.0.0.1:{address[1]}"]
    outer = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *command], cwd=tmp_path)
    try:
        until(lambda: outcome(address, HTTP) == "answered", "it serves")
        (service,) = children(outer.pid)
        for _ in range(5):
            os.kill(service, signal.SIGUSR1)
            assert outcome(address, HTTP) == "answered"
        assert outer.poll() is None
    finally:
        os.kill(children(outer.pid)[0], signal.SIGTERM)
        assert outer.wait(30) == 0


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_lines_longer_than_there_is_room_for(kind: str) -> None:
    """Writing never waits. A line that was begun is completed before any other is written."""
    if kind == "pipe":
        reads, writes = os.pipe()
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    else:
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reads, writes = ours.detach(), theirs.detach()
    lines = Lines(writes)
    try:
        assert not lines.write(b"x" * 200_000 + b"\nsecond\nthird\n")
        assert lines.dropped == 2
        told = b""
        os.set_blocking(reads, False)
        while not lines.write(b"more\n"):
            told += os.read(reads, 1 << 20)
        told += os.read(reads, 1 << 20)
        with contextlib.suppress(BlockingIOError):
            while True:
                told += os.read(reads, 1 << 20)
        assert told == b"x" * 200_000 + b"\nmore\n"
    finally:
        os.close(reads)
        os.close(writes)
        os.close(lines.fileno())
