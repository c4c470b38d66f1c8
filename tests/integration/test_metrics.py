"""`--metrics`: the numbers for Prometheus add up to the requests that clients sent.

They do so even when workers, or the metrics process, are replaced or killed.
"""

import itertools
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.by_hand import Client, get
from support.client import Load, connect, free_port, receive_all
from support.metrics import Metrics, scrape
from support.service import APP, ORDINARY, Service, one_line, run, stand_still, until

Serve = Callable[..., Service]


@pytest.fixture
def loop() -> str:
    """One loop is enough: these tests do not depend on it."""
    return "uvloop"


def owners(service: Service) -> list[int]:
    return [slot.pid for slot in service.slots() if slot.pid]


def teller(service: Service) -> int:
    """The process id of the metrics process."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = set(service.workers()) - set(owners(service))
        return len(found) == 1

    until(is_there, "there is one metrics process")
    return found[0]


def short(service: Service, path: str) -> None:
    with connect(service.address) as sock:
        sock.sendall(get(path, "Connection: close"))
        assert receive_all(sock).startswith(b"HTTP/1.1 ")


class Sent(Load):
    """A load that counts its connections, its answered requests and its failures."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.address, threads=4)
        self.connections = self.requests = self.not_found = self.failed = 0

    def __enter__(self) -> "Sent":
        super().__enter__()
        return self

    def _run(self) -> None:
        while not self._end.is_set():
            requests = missing = failed = 0
            try:
                with Client(self._address) as client:
                    for path in ("/hello", "/status?404", "/hello"):
                        client.send(get(path, *(("Connection: close",) if requests == 2 else ())))
                        answer = client.answer()
                        requests += 1
                        missing += answer.status == 404
                        if answer.headers.get("connection") == "close":
                            break
            except (OSError, EOFError):
                failed = 1
            with self._lock:
                self.connections += 1
                self.requests += requests
                self.not_found += missing
                self.failed += failed

    def more(self, count: int) -> None:
        goal = self.requests + count
        until(lambda: self.requests >= goal, f"{count} requests more")


def settled(service: Service, workers: int) -> bool:
    return len(owners(service)) == workers == len(service.workers()) - 1


def never_back(before: Metrics, now: Metrics) -> None:
    for name, value in before.items():
        if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket")):
            assert now[name] >= value, name


def test_they_add_up(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "4", "--metrics", str(port), "--no-access-log")
    seen = [scrape(port)]
    with Sent(service) as sent:
        for signals, workers in (("HUP", 4), ("TTIN", 5), ("HUP", 5), ("TTOU", 4), ("TTOU", 3)):
            sent.more(200)
            os.kill(service.pid, getattr(signal, f"SIG{signals}"))
            until(lambda count=workers: settled(service, count), f"{workers} workers")  # type: ignore[misc]
            seen.append(scrape(port))
        sent.more(200)
    assert sent.failed == 0
    told = scrape(port)
    seen.append(told)
    assert told['requests_total{code="2xx"}'] == sent.requests - sent.not_found
    assert told['requests_total{code="4xx"}'] == sent.not_found
    assert told.of("requests_total") == sent.requests
    assert told["request_seconds_count"] == sent.requests
    assert told.of("connections_accepted_total") == sent.connections
    assert told["queue_seconds_count"] == sent.connections
    assert told["connections_open"] == 0
    assert told["reloads_total"] == 2
    assert told.of("worker_restarts_total") == 0
    assert told["workers"] == told["workers_wanted"] == 3
    assert told["busy_seconds_total"] > 0
    assert all(v > 10e6 for k, v in told.items() if k.startswith("worker_resident_bytes"))
    for before, now in itertools.pairwise(seen):
        never_back(before, now)


@pytest.mark.long
def test_a_killed_worker_takes_nothing_along(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "4", "--metrics", str(port), "--no-access-log")
    seen = [scrape(port)]
    with Sent(service) as sent:
        for _ in range(4):
            sent.more(200)
            killed = service.kill_an_owner()
            until(lambda pid=killed: pid not in owners(service), "it is replaced")  # type: ignore[misc]
            until(lambda: settled(service, 4), "four again")
            seen.append(scrape(port))
    told = scrape(port)
    seen.append(told)
    # Requests that the killed workers had in progress: from four clients at most, each time.
    assert abs(told.of("requests_total") - sent.requests) <= 16
    assert told['worker_restarts_total{reason="crash"}'] == 4
    for before, now in itertools.pairwise(seen):
        never_back(before, now)


def test_it_answers_whatever_workers_do(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "2", "--metrics", str(port))
    for _ in range(3):
        short(service, "/hello")
    for pid in owners(service):
        stand_still(pid)
    waiting = [connect(service.address) for _ in range(3)]
    for client in waiting:
        client.sendall(get("/hello", "Connection: close"))
    until(lambda: scrape(port).of("queue_length") == 3, "three wait")
    assert scrape(port).of("queue_limit") == 2 * 2048
    assert scrape(port)['requests_total{code="2xx"}'] == 3
    for pid in owners(service):
        os.kill(pid, signal.SIGCONT)
    for client in waiting:
        assert receive_all(client).startswith(b"HTTP/1.1 200")
        client.close()
    assert scrape(port)['requests_total{code="2xx"}'] == 6


def test_the_process_is_replaced_and_counters_go_on(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "2", "--metrics", str(port))
    short(service, "/hello")
    os.kill(service.pid, signal.SIGHUP)
    service.wait_log("reloaded")
    until(lambda: settled(service, 2), "the old workers are gone")
    first = teller(service)
    os.kill(first, signal.SIGKILL)
    service.wait_log("metrics process killed by SIGKILL: another is started")

    def again() -> bool:
        with suppress(OSError):
            return scrape(port)['requests_total{code="2xx"}'] == 1
        return False

    until(again, "it answers again")
    assert teller(service) != first
    short(service, "/hello")
    assert scrape(port)['requests_total{code="2xx"}'] == 2
    assert len(owners(service)) == 2


def test_it_holds_nothing_of_the_service(serve: Serve) -> None:
    """The metrics process has only its own listener open, and runs as the workers' user."""
    port = free_port()
    service = serve("web:app", "--workers", "2", "--metrics", str(port), "--user", "nobody")
    scrape(port)
    pid = teller(service)
    inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {
        int(fields[1].partition(":")[2], 16)
        for fields in listening
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    }
    assert ports == {port}
    uid = Path(f"/proc/{pid}/status").read_text().partition("Uid:\t")[2].split()[0]
    assert uid == str(os.stat(f"/proc/{owners(service)[0]}").st_uid) != "0"
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    pages = [line for line in maps if "fastsocket-table" in line or "aiofastsocket-work" in line]
    assert len(pages) == 2
    assert {line.split()[1] for line in pages} == {"r--s"}
    # Without VM_MAYWRITE ("mw": proc(5), smaps) the process cannot make them writable.
    areas = Path(f"/proc/{pid}/smaps").read_text()
    for line in pages:
        flags = areas[areas.index(line) :].partition("VmFlags: ")[2].partition("\n")[0].split()
        assert "mw" not in flags


def test_what_was_refused_and_how_much_went_by(serve: Serve) -> None:
    port = free_port()
    options = ["--workers", "1", "--limit-request-line", "100", "--timeout-request-head", "0.2"]
    service = serve("web:app", *options, "--limit-concurrency", "2", "--metrics", str(port))

    def raw(data: bytes) -> bytes:
        with connect(service.address) as sock:
            sock.sendall(data)
            return receive_all(sock)

    size = len(raw(b"nonsense\r\n\r\n")) + len(raw(get("/" + "x" * 200)))
    size += len(raw(b"GET / HTTP/1.1\r\nho"))
    with Client(service.address) as one, Client(service.address) as two:
        for client in (one, two):
            client.send(get("/hello"))
            assert client.answer().status == 200
        assert raw(get("/hello")).startswith(b"HTTP/1.1 503")
    told = scrape(port)
    refused = {k: v for k, v in told.items() if k.startswith("requests_refused") and v}
    reasons = ("malformed", "too_large", "timeout", "concurrency")
    assert refused == {f'requests_refused_total{{reason="{reason}"}}': 1 for reason in reasons}
    assert told['requests_total{code="4xx"}'] == 3
    assert told['requests_total{code="5xx"}'] == 1
    assert told['requests_total{code="2xx"}'] == 2
    assert told["received_bytes_total"] >= 12 + 200 + 18
    assert told["sent_bytes_total"] >= size


def test_handshakes_that_the_server_refuses(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    upgrade = ("Connection: upgrade", "Upgrade: websocket")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for fields, status in (
        ((*upgrade, "Sec-WebSocket-Version: 13"), 400),
        ((*upgrade, key, "Sec-WebSocket-Version: 12"), 426),
    ):
        with Client(service.address) as client:
            client.send(get("/ws", *fields))
            assert client.answer().status == status
    told = scrape(port)
    assert told['requests_refused_total{reason="malformed"}'] == 2
    assert told['requests_total{code="4xx"}'] == 2


def test_a_client_that_leaves_and_a_websocket(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port), "--no-access-log")
    with Client(service.address) as client:
        client.send(get(f"/wait?{tmp_path}/told"))
        until(lambda: sum(slot.open or 0 for slot in service.slots()) == 1, "it is served")
    until(lambda: scrape(port)['requests_total{code="none"}'] == 1, "it has left")
    fields = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    with Client(service.address) as client:
        client.send(get("/echo", *fields, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="))
        assert client.answer().status == 101
        told = scrape(port)
        assert told["websockets_open"] == 1
        assert told['requests_total{code="1xx"}'] == 1
    until(lambda: scrape(port)["websockets_open"] == 0, "it is closed")
    assert scrape(port)["websockets_opened_total"] == 1


def test_files_are_counted(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    with Client(service.address) as client:
        client.send(get(f"/file?{tmp_path / 'file'}"))
        assert len(client.answer().body) == 1 << 20
    # Counted when sendfile(2) has returned: the client may have all of it by then.
    until(lambda: scrape(port)["sent_bytes_total"] >= 1 << 20, "they are counted")
    assert scrape(port)["sent_bytes_total"] < (1 << 20) + 1000


def test_a_file_that_is_not_sent_to_its_end(serve: Serve, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 28)
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    with Client(service.address) as client:
        client.send(get(f"/file?{tmp_path / 'file'}"))
        client.exactly(4 << 20)
        client.reset()
    until(lambda: scrape(port)["connections_open"] == 0, "it has left")
    sent = scrape(port)["sent_bytes_total"]
    assert 4 << 20 <= sent < 1 << 28
    service.wait_log('"GET /file')
    logged = int(service.log().split('HTTP/1.1" 200 ')[1].split()[0])
    assert 4 << 20 <= logged <= sent


def test_other_kinds_and_places(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    service = serve("targets:Who", "--workers", "1", "--metrics", f"unix:{path}")
    with connect(service.address) as sock:
        sock.sendall(b"who\n")
        assert receive_all(sock)
    out = subprocess.run(
        ["curl", "-s", "--unix-socket", str(path), "http://x/metrics"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'aiofastsocket_connections_accepted_total{source="own"} 1.0' in out
    assert not any(
        "requests_total{" in line and not line.endswith(" 0.0") for line in out.split("\n")
    )
    os.kill(service.pid, signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert not path.exists()


def test_openmetrics_and_other_paths(serve: Serve) -> None:
    port = free_port()
    serve("web:app", "--workers", "1", "--metrics", f":{port}")
    url = f"http://127.0.0.1:{port}"
    asked = urllib.request.Request(
        f"{url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/", timeout=30)
    with socket.socket() as sock:  # it listens on the loopback interface only
        sock.bind(("0.0.0.0", 0))
        address = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
        for host in address[:1]:
            with pytest.raises(ConnectionRefusedError):
                connect((host, port))


def test_it_is_there_until_the_service_is_gone(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    with Client(service.address) as client:
        client.send(get(f"/wait?{tmp_path}/told"))
        until(lambda: sum(slot.open or 0 for slot in service.slots()) == 1, "it is served")
        os.kill(service.pid, signal.SIGTERM)
        service.wait_log("stopping")
        assert scrape(port)["connections_open"] == 1
    assert service.process.wait(30) == 0
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("fd://3", "use PORT, HOST:PORT"),
        ("nowhere", "is not a valid address"),
        ("127.0.0.1:70000", "is not a valid address"),
        ("{bound}", "the application has the same address"),
        ("{busy}", "is in use"),
    ],
)
def test_bad_addresses(where: str, says: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        bound = f"127.0.0.1:{free_port()}"
        text = where.format(bound=bound, busy=busy.getsockname()[1])
        out = run("serve", "--bind", bound, "--metrics", text, cwd=tmp_path)
        one_line(out, 1 if "in use" in says else 2, says)


def test_a_signal_to_all_of_the_group(serve: Serve, tmp_path: Path) -> None:
    """As a service manager sends it: metrics are served until the last worker is gone."""
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    with Client(service.address) as client:
        client.send(get(f"/wait?{tmp_path}/told"))
        until(lambda: sum(slot.open or 0 for slot in service.slots()) == 1, "it is served")
        os.killpg(service.pid, signal.SIGTERM)
        service.wait_log("stopping")
        assert scrape(port)["connections_open"] == 1
    assert service.process.wait(30) == 0


def test_a_client_with_odd_wishes(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port))
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=abc"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200
    assert "Traceback" not in service.log()


LIES = """
import ctypes, os, re
from web import app

def write():
    (line,) = [l for l in open("/proc/self/maps") if "aiofastsocket-work" in l]
    begin, end = (int(x, 16) for x in line.split()[0].split("-"))
    ctypes.memmove(begin + 64, (2**60 - 1).to_bytes(8, "little") * 200, 1600)

async def lies(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/lie":
        write()
        os._exit(1)
    await app(scope, receive, send)
"""


def test_a_worker_that_lies(serve: Serve, tmp_path: Path) -> None:
    """A worker that writes false counters, however often, spoils only its own."""
    (tmp_path / "lying.py").write_text(LIES)
    port = free_port()
    options = ["--app-dir", str(tmp_path), "--workers", "1", "--metrics", str(port)]
    service = serve("lying:lies", *options, env={"PYTHONPATH": str(APP)})
    for number in range(20):
        with suppress(OSError), connect(service.address) as sock:
            sock.sendall(get("/lie", "Connection: close"))
            receive_all(sock)
        service.wait_log("exited with 1: replaced", number + 1)
        until(lambda: settled(service, 1), "its successor serves")
    short(service, "/hello")
    assert scrape(port)['worker_restarts_total{reason="crash"}'] == 20


def test_without_privileges(serve: Serve) -> None:
    port = free_port()
    service = serve("web:app", "--workers", "1", "--metrics", str(port), wrapper=ORDINARY)
    short(service, "/hello")
    assert scrape(port)['requests_total{code="2xx"}'] == 1
