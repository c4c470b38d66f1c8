"""A service meets the troubles of production, one at a time: it goes on, or ends cleanly."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client import ask, connect, receive_all
from support.service import APP, COMMAND, Service, until

Serve = Callable[..., Service]

SLOW = """
import time, pathlib
while not pathlib.Path(__file__).with_suffix(".go").exists():
    time.sleep(0.02)
from targets import Who
"""


def slow_app(folder: Path) -> Path:
    """A target whose import waits for a file; returns that file's path."""
    (folder / "slow.py").write_text(SLOW)
    return folder / "slow.go"


def serve_slow(serve: Serve, folder: Path, *arguments: str, wait: bool = True) -> Service:
    env = {"PYTHONPATH": str(APP)}
    return serve("slow:Who", "--app-dir", str(folder), *arguments, env=env, wait=wait)


def test_no_descriptors_for_new_workers(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2")
    old = service.owners()
    limits = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{service.pid}/fd"))
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    service.send(signal.SIGHUP)
    service.wait_log("Too many open files")
    service.wait_log("reload failed")
    assert ask(service.address)
    assert service.owners() == old
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, limits)
    service.send(signal.SIGHUP)
    service.wait_log("reloaded")
    until(lambda: service.settled(2), "the new workers are in charge")


def test_no_descriptors_for_connections(serve: Serve) -> None:
    """A worker without free descriptors pauses; TERM meanwhile loses no waiting client."""
    service = serve("targets:Who", "--workers", "1")
    (worker,) = service.owners()
    used = max(int(name) for name in os.listdir(f"/proc/{worker}/fd"))
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 10, limits[1]))
    clients = [connect(service.address) for _ in range(30)]
    service.wait_log("accepting pauses")
    assert service.accepted() < 30
    service.send(signal.SIGTERM)
    for client in clients:
        client.sendall(b"who\n")
    assert all(receive_all(client) for client in clients)
    for client in clients:
        client.close()
    assert service.process.wait(20) == 0
    assert service.log().count("accepting pauses") == 1


def test_a_service_manager_that_is_gone(serve: Serve, tmp_path: Path) -> None:
    service = serve(
        *("targets:Who", "--workers", "1"), env={"NOTIFY_SOCKET": str(tmp_path / "gone")}
    )
    service.wait_log("NOTIFY_SOCKET")
    assert service.stop() == 0


def test_closed_standard_streams(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    service = subprocess.Popen(
        [
            "sh",
            "-c",
            'exec "$0" serve --port "$1" --workers 1 >&- 2>&- <&-',
            COMMAND,
            str(address[1]),
        ],
        cwd=tmp_path,
    )

    def answers() -> bool:
        try:
            return ask(address, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
        except ConnectionRefusedError:
            return False

    until(answers, "it serves")
    service.terminate()
    assert service.wait(20) == 0


def test_a_retired_worker_that_does_not_end_is_killed(serve: Serve) -> None:
    arguments = ["--workers", "2", "--steer", "spread", "--timeout-graceful-shutdown", "0"]
    arguments += ["--timeout-disconnect", "0", "--timeout-lifespan-shutdown", "0"]
    service = serve("targets:Who", *arguments)
    victim = service.slots()[1].pid
    os.kill(victim, signal.SIGSTOP)
    clients = [connect(service.address) for _ in range(20)]
    for client in clients:
        client.sendall(b"who\n")
    service.send(signal.SIGTTOU)
    assert all(receive_all(client) for client in clients)
    for client in clients:
        client.close()
    until(lambda: service.settled(1), "one worker is left")
    assert f"worker {victim} does not stop" in service.log()


def test_an_endless_grace_time_is_no_trouble(serve: Serve) -> None:
    service = serve("targets:Later", "--timeout-graceful-shutdown", "1e12", "--workers", "1")
    with connect(service.address) as client:
        client.sendall(b"who\n")
        until(lambda: service.accepted() == 1, "it is accepted")
        service.send(signal.SIGTERM)
        assert receive_all(client)
    assert service.process.wait(20) == 0


def test_term_while_the_only_worker_starts_answers_its_queue(serve: Serve, tmp_path: Path) -> None:
    go = slow_app(tmp_path)
    go.touch()
    service = serve_slow(serve, tmp_path, "--workers", "1")
    go.unlink()
    os.kill(service.owners()[0], signal.SIGKILL)
    service.wait_log("replaced")
    clients = [connect(service.address) for _ in range(5)]
    for client in clients:
        client.sendall(b"who\n")
    service.send(signal.SIGTERM)
    service.wait_log("stopping")
    go.touch()
    assert all(receive_all(client) for client in clients)
    for client in clients:
        client.close()
    assert service.process.wait(20) == 0


def test_term_before_it_serves_ends_at_once(serve: Serve, tmp_path: Path) -> None:
    slow_app(tmp_path)
    for more in ((), ("--preload",)):
        service = serve_slow(
            serve,
            tmp_path,
            *("--workers", "2", "--bind", f"unix:{tmp_path}/sock"),
            *("--pid-file", str(tmp_path / "serve.pid"), *more),
            wait=False,
        )
        until((tmp_path / "serve.pid").exists, "the supervisor has started")
        time.sleep(0.1)
        assert service.stop() == 0
        assert not (tmp_path / "serve.pid").exists()
        assert "Traceback" not in service.log()


def test_reload_twice_keeps_every_slot_live(serve: Serve, tmp_path: Path) -> None:
    go = slow_app(tmp_path)
    go.touch()
    service = serve_slow(serve, tmp_path, "--workers", "2", "--steer", "spread")
    old = service.owners()
    go.unlink()
    for _ in range(2):
        service.send(signal.SIGHUP)
        until(lambda: len(service.workers()) == 4, "the new workers start")
    assert service.owners() == old
    assert all(ask(service.address) for _ in range(20))
    go.touch()
    service.wait_log("reloaded: 2 new workers serve")
    until(lambda: service.settled(2), "only the new workers are left")
    assert not set(old) & set(service.owners())


def test_a_stale_start_does_not_end_a_reload(serve: Serve, tmp_path: Path) -> None:
    """The old code's last failure comes after HUP has brought code that works."""
    app, fail = tmp_path / "turns.py", tmp_path / "fail"
    app.write_text("from targets import Who\n")
    service = serve(
        *("turns:Who", "--workers", "1", "--app-dir", str(tmp_path)), env={"PYTHONPATH": str(APP)}
    )
    app.write_text(
        f"import os, time\nwhile not os.path.exists({str(fail)!r}):\n    time.sleep(0.02)\n"
        "raise RuntimeError('the old code')\n"
    )
    os.kill(service.owners()[0], signal.SIGKILL)
    service.wait_log("replaced")
    until(lambda: service.workers(), "the successor imports")
    time.sleep(0.3)
    app.write_text("import time\ntime.sleep(0.5)\nfrom targets import Who\n")
    service.send(signal.SIGHUP)
    service.wait_log("HUP")
    fail.touch()
    service.wait_log("reloaded: 1 new worker serves")
    assert ask(service.address)


@pytest.mark.parametrize("target", ["Raises", "make_target"])
def test_connections_that_could_not_be_served_do_not_count(serve: Serve, target: str) -> None:
    grace = ("--timeout-graceful-shutdown", "3600")
    service = serve(f"targets:{target}", "--workers", "1", *grace)
    for _ in range(20):
        with connect(service.address) as client:
            client.sendall(b"who\n")
    until(lambda: service.accepted() == 20, "all are accepted")
    assert service.stop() == 0
    assert ("not today" if target == "Raises" else "use --factory") in service.log()


def test_quick_stop_cancels_handlers_quietly(serve: Serve) -> None:
    service = serve("targets:forever", "--workers", "1")
    with connect(service.address):
        until(lambda: service.accepted() == 1, "it is accepted")
        assert service.stop(signal.SIGINT) == 0
    assert len(service.log().splitlines()) == 2, service.log()


def test_once_drained_the_port_is_free(serve: Serve) -> None:
    """A long answer holds up the end of the old server, not the start of the next."""
    service = serve("targets:forever", "--workers", "2", "--timeout-graceful-shutdown", "60")
    host, port = service.address
    with connect(service.address):
        until(lambda: service.accepted() == 1, "it is accepted")
        service.send(signal.SIGTERM)

        def refused() -> bool:
            try:
                with socket.create_connection((host, port), timeout=0.2):
                    return False
            except TimeoutError:
                return False
            except ConnectionRefusedError:
                return True

        until(refused, "newcomers are refused")
        successor = serve("targets:Who", "--bind", f"{host}:{port}")
        assert ask(successor.address)
        service.send(signal.SIGINT)
        assert service.process.wait(20) == 0
    # No loop watches the listeners that were shut down: they are always "readable".
    assert "Traceback" not in service.log()
