"""`aiofastsocket exec`, `preload-path` and `stats`, as a user calls them."""

import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.client import OnCore, ask, connect, free_port
from support.service import COMMAND, Service, let_everybody_in, run, stand_still, until
from support.workers import fork

from aiofastsocket import SlotInfo
from aiofastsocket.elf import Elf
from aiofastsocket.errors import SetupError
from aiofastsocket.preload import check_program, preload_path
from aiofastsocket.proc import family
from aiofastsocket.stats.command import collect, select

from .conftest import PROGRAMS, cc

Serve = Callable[..., Service]

# A server as simple as can be, for the library to help: two workers, each with its epoll set.
SERVER = """
import os, select, socket, sys
listener = socket.create_server((*sys.argv[2:], "127.0.0.1")[:1] + (int(sys.argv[1]),))
listener.setblocking(False)
children = []
while len(children) < 2:
    pid = os.fork()
    if pid == 0:
        break
    children.append(pid)
if len(children) == 2:
    os.waitpid(children[0], 0)
else:
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    while True:
        poll.poll()
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        connection.setblocking(True)
        connection.recv(100)
        connection.send(b"%d" % os.getpid())
        connection.close()
"""


@contextmanager
def started(tmp_path: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a forking server with two workers, started by `exec`."""
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    port = free_port()
    log = f"info:{tmp_path}/log"
    server = ["--", sys.executable, str(program), str(port)]
    command = [str(COMMAND), "exec", "--slots", "4", "--log", log, *options, *server]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    try:
        until(lambda: len(owners(process.pid)) == 2, "two workers have slots")
        yield process.pid, port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def owners(pid: int) -> list[SlotInfo]:
    return [s for t in collect([pid]) for s in t.slots if s.live]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    with started(tmp_path, "--steer", "spread") as found:
        yield found


@pytest.mark.parametrize("pin", ["on", "auto"])
def test_pin(tmp_path: Path, pin: str) -> None:
    """Each worker runs on its slot's core, one of those that the program may use."""
    with started(tmp_path, "--pin", pin, "--steer", "cpu") as (pid, port):
        for slot in owners(pid):
            until(lambda s=slot: os.sched_getaffinity(s.pid) == {s.cpu}, "the worker is pinned")  # type: ignore[misc]
        assert len({slot.cpu for slot in owners(pid)}) == min(2, len(os.sched_getaffinity(0)))
        # Connections from a core arrive at its slot, even if an idle worker takes them from there.
        before = owners(pid)[1]
        with OnCore(before.cpu):
            for _ in range(100):
                ask(("127.0.0.1", port), b"x")
        assert owners(pid)[1].arrived - before.arrived >= 95


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: pinned or not is the same")
@pytest.mark.parametrize("options", [("--pin", "auto"), ("--pin", "off", "--steer", "cpu"), ()])
def test_not_pinned(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Workers are not pinned by default; auto pins only with steering by core, unlike here."""
    with started(tmp_path, *options) as (pid, port):
        for _ in range(20):
            ask(("127.0.0.1", port), b"x")
        assert all(len(os.sched_getaffinity(slot.pid)) > 1 for slot in owners(pid))


UNPINNED = """
import os, signal, subprocess, sys
sys.path.insert(0, sys.argv[1])
from support.client import OnCore, ask
from support.service import until
from aiofastsocket.stats.command import collect

process = subprocess.Popen(sys.argv[2:], start_new_session=True)
try:
    def owners():
        return [s for t in collect([process.pid]) for s in t.slots if s.live]
    until(lambda: len(owners()) == 2, "two workers have slots")
    info = collect([process.pid])[0].info
    assert (info.wanted, info.steer) == ("auto", "cpu"), info
    until(lambda: all(os.sched_getaffinity(s.pid) == {s.cpu} for s in owners()), "they are pinned")
    with OnCore(owners()[0].cpu):  # one core receives all
        for _ in range(3000):  # each of the two looks at every 1024th that it accepts
            ask(("10.98.97.1", 8000), b"x")
    info = collect([process.pid])[0].info
    assert info.steer == "spread", info
    until(lambda: all(len(os.sched_getaffinity(s.pid)) > 1 for s in owners()), "none is")
finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: pinned or not is the same")
def test_pinned_only_while_steering_is_by_core(tmp_path: Path) -> None:
    """Workers are unpinned when steering by core ends: one of a network card's two receive queues
    gets everything. The card is a veth pair in a network namespace of its own."""
    assert os.geteuid() == 0, "needs root"
    inside = (
        "mount -t sysfs none /sys && ip link set lo up"
        " && ip link add fs0 numrxqueues 2 numtxqueues 2 type veth peer name fs1"
        " && ip addr add 10.98.97.1/24 dev fs0 && ip link set fs0 up && ip link set fs1 up"
        ' && exec "$@"'
    )
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "inner.py").write_text(UNPINNED)
    server = [sys.executable, str(tmp_path / "server.py"), "8000", "10.98.97.1"]
    preloaded = [str(COMMAND), "exec", "--slots", "2", "--pin", "auto", "--", *server]
    inner = [sys.executable, str(tmp_path / "inner.py"), str(Path(__file__).parents[1])]
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", inside, "sh", *inner, *preloaded],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr


def test_defer_accept_under_the_library(tmp_path: Path) -> None:
    """A client that sends nothing is not accepted; a client that sends data is accepted at once."""
    with started(tmp_path, "--defer-accept") as (pid, port):
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.settimeout(0.3)
            with pytest.raises(TimeoutError):
                silent.recv(10)
        assert int(ask(("127.0.0.1", port), b"hello")) in [s.pid for s in owners(pid)]


def test_exec_and_stats(server: tuple[int, int], tmp_path: Path) -> None:
    pid, port = server
    served: dict[int, int] = {}
    for _ in range(200):
        worker = int(ask(("127.0.0.1", port), b"x"))
        served[worker] = served.get(worker, 0) + 1
    assert len(served) == 2
    for which in (port, pid, f"127.0.0.1:{port}", os.getpid()):
        found = json.loads(run("stats", "--json", str(which), cwd=tmp_path).stdout)
        if which == os.getpid():  # other tests' services may be children of this process, too
            found = [table for table in found if table["pid"] == pid]
        (table,) = found
        assert (table["address"], table["pid"]) == (f"127.0.0.1:{port}", pid)
        assert (table["steering"], table["why"], table["queue"]) == ("spread", "requested", 0)
        slots = {s["pid"]: s for s in table["slots"] if s["pid"]}
        assert {p: s["own"] + s["stolen"] for p, s in slots.items()} == served
        assert all(s["queue"] == 0 and s["live"] for s in slots.values())
        assert len(table["slots"]) == 4
    text = run("stats", str(port), cwd=tmp_path).stdout.splitlines()
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    assert text[0] == f"127.0.0.1:{port}  {name} (process {pid})"
    assert text[1] == "  4 slots, steering spread: requested"
    assert text[2].split() == [
        "slot",
        "core",
        "owner",
        "own",
        "stolen",
        "orphan",
        "global",
        "queue",
        "open",
        "busy",
        "late",
        *("wait", "p50", "wait", "p99"),
    ]
    assert len(text) == 6
    assert text[-1].startswith("  2 slots not used yet; 0 accepted without a slot; 0 waiting")


def test_queue_of_a_stopped_worker(server: tuple[int, int]) -> None:
    """Waiting connections are seen from outside, while all workers are stopped and none accepts."""
    pid, port = server
    os.killpg(pid, signal.SIGSTOP)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(7)]
    (table,) = select(str(port)).tables
    assert sum(q for q in [table.queue, *table.queues] if q) == 7
    os.killpg(pid, signal.SIGCONT)
    for client in clients:
        client.sendall(b"x")
        assert client.recv(100)
        client.close()


def test_watch(server: tuple[int, int], tmp_path: Path) -> None:
    command = [str(COMMAND), "stats", "--watch", "--json", str(server[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert lines[0][0]["pid"] == lines[1][0]["pid"] == server[0]


def test_stats_of_serve(serve: Serve, tmp_path: Path) -> None:
    service = serve("targets:Who", "--workers", "2", "--steer", "spread")
    for _ in range(50):
        ask(service.address)
    (table,) = json.loads(run("stats", "--json", str(service.pid), cwd=tmp_path).stdout)
    owners = [s for s in table["slots"] if s["pid"]]
    assert {s["pid"] for s in owners} == set(service.owners())
    assert sum(s["own"] + s["stolen"] for s in owners) == 50
    assert all(s["queue"] == 0 for s in owners)


def test_a_waiting_connection_is_shown_once(serve: Serve, tmp_path: Path) -> None:
    """Slot 0 of `serve` is the program's own socket."""
    service = serve("targets:Who", "--workers", "1", "--steer", "spread", "--no-defer-accept")
    stand_still(service.owners()[0])
    clients = [connect(service.address) for _ in range(3)]
    (table,) = json.loads(run("stats", "--json", str(service.pid), cwd=tmp_path).stdout)
    assert table["queue"] + sum(s["queue"] for s in table["slots"]) == 3
    for client in clients:
        client.close()
    os.kill(service.owners()[0], signal.SIGCONT)


def test_processes_that_end_while_they_are_looked_at() -> None:
    """Ended processes are skipped: `stats` of a program whose workers come and go succeeds."""

    def forks() -> None:
        while os.getppid() == tester:
            os.waitpid(fork(lambda: None), 0)

    tester = os.getpid()
    parent = fork(forks)
    try:
        for _ in range(3000):
            assert family(parent)[0] == parent
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)


def test_stats_into_a_closed_pipe(server: tuple[int, int], tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{COMMAND} stats {server[1]} | true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_stats_of_nothing(tmp_path: Path) -> None:
    for arguments, said in (
        ([str(free_port())], "no listen table found for"),
        (["x"], "neither a port, a process id nor host:port"),
    ):
        done = run("stats", *arguments, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_preload_path(tmp_path: Path) -> None:
    done = run("preload-path", cwd=tmp_path)
    assert done.stdout.strip() == preload_path()
    shown = subprocess.run(
        ["cat", "/proc/self/maps"],
        env=os.environ | {"LD_PRELOAD": done.stdout.strip()},
        capture_output=True,
        text=True,
    )
    assert "libfsocket.so" in shown.stdout


def test_exec_keeps_what_was_preloaded(tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    (tmp_path / "other.c").write_text("int other;")
    cc("-shared", "-fPIC", "-o", other, tmp_path / "other.c")
    env = {"LD_PRELOAD": str(other)}
    settings = ["--backend", "off", "--pin", "--defer-accept", "--ports", "80"]
    done = run("exec", *settings, "--", "env", cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert f"LD_PRELOAD={preload_path()}:{other}" in done.stdout.splitlines()
    wanted = {"BACKEND=off", "PIN=on", "DEFER_ACCEPT=1", "PORTS=80"}
    assert {f"FSOCKET_{s}" for s in wanted} <= set(done.stdout.splitlines())
    assert "FSOCKET_STEER" not in done.stdout


def test_exec_of_a_program_with_address_sanitizer(tmp_path: Path) -> None:
    """AddressSanitizer's runtime ends a program in which it is not the first library."""
    cc("-fsanitize=address", "-o", tmp_path / "program", PROGRAMS / "epoll_calls.c")
    plain = subprocess.run([tmp_path / "program"], capture_output=True, text=True)
    log = f"info:{tmp_path}/log"
    # Leaks of libc and of the program are not tested.
    env = {"ASAN_OPTIONS": "detect_leaks=0"}
    ours = run("exec", "--log", log, "--", str(tmp_path / "program"), cwd=tmp_path, env=env)
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0), ours.stderr
    assert "has slot" in (tmp_path / "log").read_text()


def test_old_names_of_exec_go_on_working_with_a_line(tmp_path: Path) -> None:
    settings = ["--pin", "--steer", "cpu", "--log", f"info:{tmp_path}/log"]
    done = run("exec", *settings, "--", "env", cwd=tmp_path)
    first, second = done.stderr.splitlines()
    assert first == "aiofastsocket exec: --pin is an old name: write --pin on"
    assert second == "aiofastsocket exec: --log is an old name: write --log-level and --log-file"
    new = ["--pin", "on", "--steer", "cpu", "--log-level", "info", "--log-file", f"{tmp_path}/log"]
    again = run("exec", *new, "--", "env", cwd=tmp_path)
    assert again.stderr == ""

    def set_by(out: "subprocess.CompletedProcess[str]") -> set[str]:
        return {line for line in out.stdout.splitlines() if line.startswith("FSOCKET_")}

    assert len(set_by(done)) == 3
    assert set_by(again) == set_by(done)
    # Words after the program's name belong to the program.
    ours = run("exec", "echo", "--pin", "--log", "x", cwd=tmp_path)
    assert (ours.stdout, ours.stderr) == ("--pin --log x\n", "")


def test_the_libc_of_a_library() -> None:
    for name, libc in (
        ("libc.so.6", "glibc"),
        ("libc.musl-x86_64.so.1", "musl"),
        ("libc.so", "musl"),
    ):
        assert Elf((2, 62), needed=("libm.so", name)).libc == libc


def test_exec_says_what_cannot_be_helped(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 7; }")
    cc("-static", "-o", tmp_path / "static", tmp_path / "main.c")
    cc("-o", tmp_path / "dynamic", tmp_path / "main.c")
    setuid = Path(shutil.copy(tmp_path / "dynamic", tmp_path / "setuid"))
    shutil.chown(setuid, "nobody")
    setuid.chmod(0o755 | stat.S_ISUID)
    cc(
        "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1",
        "-o",
        tmp_path / "musl",
        tmp_path / "main.c",
    )
    script = tmp_path / "script"
    script.write_text(f"#!{tmp_path}/static\n")
    script.chmod(0o755)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "text").chmod(0o755)
    go = shutil.which("gosu", path="/usr/sbin:/usr/bin")
    assert go is not None, "a Go program: make test-python installs gosu"
    for program, said in (
        ("static", "is statically linked"),
        ("setuid", "is set-user-ID or set-group-ID"),
        ("script", "which is statically linked"),
        ("musl", "is linked to musl, but libfsocket.so to glibc"),
        ("text", "is neither an ELF program nor a script"),
        (go, "is a Go program"),
        ("missing", "no such program"),
        ("main.c", "not an executable file"),
    ):
        done = run("exec", "--", str(tmp_path / program), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("aiofastsocket exec: error: ")
        assert said in line
    assert run("exec", str(tmp_path / "dynamic"), cwd=tmp_path).returncode == 7
    assert run("exec", "--", "env", "true", cwd=tmp_path).returncode == 0
    # vfs_cap_data of linux/capability.h: CAP_NET_BIND_SERVICE, permitted and effective.
    os.setxattr(
        tmp_path / "dynamic", "security.capability", struct.pack("<5I", 0x2000001, 1024, *[0] * 3)
    )
    assert (
        run("exec", str(tmp_path / "dynamic"), cwd=tmp_path).returncode == 7
    )  # root gains nothing

    def as_nobody() -> None:
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(SetupError, match="has file capabilities: ld"):
            check_program(str(tmp_path / "dynamic"))

    let_everybody_in(tmp_path)
    assert os.waitpid(fork(as_nobody), 0)[1] == 0
    for arguments, said in (
        ([], "missing program"),
        (["--steer", "x"], "invalid choice"),
        (["--slots", "0", "true"], "use 1 to 512"),
        (["--ports", "80-", "true"], "use ports and ranges"),
        (["--log", "loud", "true"], "use off, error, info or debug"),
    ):
        done = run("exec", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
