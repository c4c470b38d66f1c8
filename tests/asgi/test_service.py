"""`serve` with an ASGI application: start and end, workers, limits, files of log, TLS, proxies."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client
from support.client import Load, connect
from support.service import Service, run, until
from websockets.sync.client import connect as websocket

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *fields)).encode() + b"\r\n\r\n"


def scope_of(service: Service, *fields: str) -> Any:
    with Client(service.address) as client:
        client.send(get("/scope", *fields))
        return json.loads(client.answer().body)


# -- lifespan --

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


# -- under load --

SHORT = (
    b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    re.compile(rb"HTTP/1\.1 200 OK\r\n.*\r\n\r\nhello", re.DOTALL),
)


def test_a_reload_under_load_loses_no_request(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2", "--no-access-log")
    with Load(service.address, kind=SHORT) as load:
        load.more(200)
        for count in (1, 2):
            service.send(signal.SIGHUP)
            service.wait_log("reloaded: 2 new workers serve", count)
            load.more(200)
    assert set(load.outcomes) == {"answered"}


def test_kept_connections_lose_no_request_in_a_reload(serve: Serve) -> None:
    """Each asks for as long as its connection is kept, and connects again when told to."""
    service = serve("web:app", "--workers", "2", "--no-access-log")
    for _ in range(2):
        clients = [Client(service.address) for _ in range(20)]
        told = 0
        service.send(signal.SIGHUP)
        while clients:
            for client in list(clients):
                client.send(HELLO)
                answer = client.answer()
                assert answer.body == b"hello"
                if answer.headers.get("connection") == "close":
                    assert client.closed()
                    client.sock.close()
                    clients.remove(client)
                    told += 1
        assert told == 20
        until(lambda: service.settled(2), "the new workers alone")


@pytest.mark.parametrize("path", ["/slow", "/parts"])
def test_term_answers_what_is_under_way(serve: Serve, path: str) -> None:
    service = serve("web:app", "--workers", "2", "--no-access-log")
    clients = [Client(service.address) for _ in range(20)]
    for client in clients:
        client.send(get(path))
    service.send(signal.SIGTERM)
    for client in clients:
        with client:
            assert client.answer().status == 200
    assert service.process.wait(60) == 0
    assert "cut off" not in service.log()


def test_no_request_outlives_the_grace_time(serve: Serve, tmp_path: Path) -> None:
    service = serve("web:app", "--workers", "1", "--timeout-graceful-shutdown", "0.3")
    told = tmp_path / "told"
    with Client(service.address) as client:
        client.send(get(f"/stuck?{told}"))
        client.send(HELLO)  # which stands behind it
        until(lambda: service.accepted() == 1, "it is there")
        assert service.stop() == 0
        assert client.closed()
    assert told.read_text() == "ended"
    assert "connections cut off after the grace time: 1" in service.log()
    assert "Traceback" not in service.log()


def test_both_workers_answer(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2")
    seen = set()

    def asked() -> bool:
        seen.update(scope_of(service)["state"]["started"])
        return len(seen) == 2

    until(asked, "both answer")
    assert seen == set(service.workers())
    assert service.info().steer in ("cpu", "spread")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_gigabyte_in_constant_memory(serve: Serve, direction: str) -> None:
    service = serve("web:app", "--workers", "1")
    host, port = service.address
    url = f"http://{host}:{port}"
    if direction == "down":
        command = f"curl -sSf -o /dev/null -w %{{size_download}} {url}/megabytes?1024"
        done = subprocess.run(command.split(), capture_output=True, check=True)
        assert int(done.stdout) == 1 << 30
    else:
        command = f"head -c {1 << 30} /dev/zero | curl -sSf -T - {url}/count"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        assert int(done.stdout) == 1 << 30
    assert memory(service) < 100 * 1024


# -- limits --


def test_lengths_of_heads(serve: Serve) -> None:
    limits = ("--limit-request-line", "100", "--limit-request-fields", "5")
    service = serve("web:app", *limits, "--limit-request-head", "200")
    cases = [
        (get("/hello?" + "x" * 93), 200),
        (get("/hello?" + "x" * 94), 414),
        (get("/hello", *("X: y",) * 4), 200),
        (get("/hello", *("X: y",) * 5), 431),
        (get("/hello", "X: " + "y" * 190), 200),
        (get("/hello", "X: " + "y" * 200), 431),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 400, 431),  # it does not end
        (b"GET /" + b"y" * 400, 414),
    ]
    for request, status in cases:
        with Client(service.address) as client:
            client.send(request)
            assert client.answer().status == status, request
            assert (status == 200) or client.closed()


def test_times_of_heads_bodies_and_between(serve: Serve) -> None:
    times = ("--timeout-request-head", "0.3", "--timeout-request-body", "0.3")
    service = serve("web:app", *times, "--timeout-keep-alive", "0.3", "--no-defer-accept")
    with Client(service.address) as silent, Client(service.address) as slow:
        slow.send(b"GET /hello HT")
        assert silent.closed()
        assert slow.answer().status == 408
        assert slow.closed()
    with Client(service.address) as client:
        client.send(get("/echo", "Content-Length: 10") + b"a part")
        assert client.answer().status == 408
        assert client.closed()
    with Client(service.address) as client:  # nothing of the body: not the time between requests
        client.send(get("/echo", "Content-Length: 10"))
        assert client.answer().status == 408
    with Client(service.address) as client:
        client.send(get("/echo", "Content-Length: 3", "Expect: 100-continue"))
        assert client.answer().status == 100
        assert client.answer().status == 408
    with Client(service.address) as client:  # HTTP/1.0 has no 100 Continue
        client.send(b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert client.answer().status == 408
    with Client(service.address) as client:  # answered, but the body never comes
        client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        assert client.answer().status == 413
        assert client.closed()
    with Client(service.address) as client:
        client.send(HELLO)
        assert client.answer().body == b"hello"
        assert client.closed()
    with Client(service.address) as client:  # none of them is for the application
        client.send(get("/slow"))
        assert client.answer().body == b"slow"


def test_a_slow_reader_is_waited_for(serve: Serve) -> None:
    """The time between requests begins when the answer is with the client."""
    service = serve("web:app", "--workers", "1", "--timeout-keep-alive", "0.3")
    with Client(service.address) as client:
        client.send(get("/megabytes?30"))
        time.sleep(0.8)
        client.send(HELLO)
        time.sleep(0.8)
        assert len(client.answer().body) == 30 << 20
        assert client.answer().body == b"hello"


def memory(service: Service) -> int:
    """What its one worker has had at most, in KiB."""
    (worker,) = service.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    highest = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert highest
    return int(highest[1])


def test_who_does_not_read_costs_no_memory(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(get("/megabytes?1") * 150)
        time.sleep(1)
        assert memory(service) < 100 * 1024
        for _ in range(150):
            assert len(client.answer().body) == 1 << 20
    assert memory(service) < 100 * 1024


def test_somebody_elses_disconnection_is_an_error(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "from aiofastsocket.serve.asgi.response import ClientDisconnected\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    raise ClientDisconnected('of another connection')\n"
    )
    service = serve("other:app", "--app-dir", str(tmp_path), "--workers", "1")
    with Client(service.address) as client:
        client.send(HELLO)
        assert client.answer().status == 500
    assert service.log().count("ClientDisconnected: of another connection") == 1


def test_concurrency(serve: Serve) -> None:
    service = serve("web:app", "--limit-concurrency", "2", "--workers", "1")
    with Client(service.address) as first, Client(service.address) as second:
        first.send(HELLO)
        second.send(HELLO)
        assert (first.answer().status, second.answer().status) == (200, 200)
        with Client(service.address) as third:
            third.send(HELLO)
            assert third.answer().status == 503
            assert third.closed()
        first.send(HELLO)
        assert first.answer().status == 200


def test_a_worker_is_replaced_after_so_many_requests(serve: Serve) -> None:
    service = serve("web:app", "--limit-max-requests", "50", "--workers", "1", "--no-access-log")
    (before,) = service.workers()
    with Load(service.address, threads=2, kind=SHORT) as load:
        load.more(200)
    assert set(load.outcomes) == {"answered"}
    assert f"worker {before} (slot 0) stops: replaced" in service.log()


# -- who asks, and what is written down --


def test_the_access_log(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(get('/hello?a="b"') + get("/status?404"))
        client.answer()
        client.answer()
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
    service.wait_log('"-" 400 0')
    lines = [line for line in service.log().splitlines() if " - - [" in line]
    stamp = r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    assert re.fullmatch(stamp + r' "GET /hello\?a=%22b%22 HTTP/1\.1" 200 5', lines[0])
    assert re.fullmatch(stamp + r' "GET /status\?404 HTTP/1\.1" 404 0', lines[1])
    quiet = serve("web:app", "--workers", "1", "--no-access-log")
    with Client(quiet.address) as client:
        client.send(HELLO)
        client.answer()
    assert quiet.stop() == 0
    assert "/hello" not in quiet.log()


def test_an_exception_is_logged_once_with_its_traceback(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(get("/raises"))
        assert client.answer().status == 500
    assert service.log().count("RuntimeError: not today") == 1
    assert service.log().count("exception in the application: GET /raises") == 1


def test_fields_of_the_server(serve: Serve) -> None:
    service = serve("web:app", "--header", "X-One: 1", "--header", "x-two:2", "--workers", "1")
    with Client(service.address) as client:
        client.send(HELLO)
        headers = client.answer().headers
    assert (headers["x-one"], headers["x-two"], headers["server"]) == ("1", "2", "aiofastsocket")
    bare = serve("web:app", "--no-server-header", "--no-date-header", "--workers", "1")
    with Client(bare.address) as client:
        client.send(HELLO)
        assert not {"server", "date"} & client.answer().headers.keys()


FORWARDED = ("X-Forwarded-For: 10.1.1.1, 192.0.2.7, 10.9.9.9", "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("arguments", "client", "scheme"),
    [
        ((), "10.9.9.9", "https"),
        (("--no-proxy-headers",), "127.0.0.1", "http"),
        (("--forwarded-allow-ips", "192.0.2.1"), "127.0.0.1", "http"),
        (("--forwarded-allow-ips", "127.0.0.0/8, 10.0.0.0/8"), "192.0.2.7", "https"),
        (("--forwarded-allow-ips", "*"), "10.1.1.1", "https"),
    ],
)
def test_who_is_behind_a_proxy(
    serve: Serve, arguments: tuple[str, ...], client: str, scheme: str
) -> None:
    scope = scope_of(serve("web:app", "--workers", "1", *arguments), *FORWARDED)
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)


def test_a_root_path(serve: Serve) -> None:
    scope = scope_of(serve("web:app", "--workers", "1", "--root-path", "/api"))
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/scope")


# -- addresses --


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [((), 1), (("--no-defer-accept",), 2), (("--forwarded-allow-ips", "127.0.0.1"), 2)],
)
def test_defer_accept_is_for_who_is_asked_first(
    serve: Serve, arguments: tuple[str, ...], accepted: int
) -> None:
    service = serve("web:app", "--workers", "1", *arguments)
    with connect(service.address), Client(service.address) as client:  # the first says nothing
        client.send(HELLO)
        assert client.answer().status == 200
        until(lambda: service.accepted() >= accepted, "all are there")
        assert service.accepted() == accepted


def test_unix_sockets_and_descriptors(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    service = serve("web:app", "--bind", f"unix:{path}", "--bind", "127.0.0.1:0", "--workers", "1")
    with Client(path) as client:
        client.send(get("/scope"))
        scope = client.answer().body
    assert b'"client": null' in scope
    assert f'"server": ["{path}", null]'.encode() in scope
    assert service.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        fd = str(sock.fileno())
        inherited = serve("web:app", "--fd", fd, "--workers", "1", pass_fds=(sock.fileno(),))
        with Client(("127.0.0.1", port)) as client:
            client.send(HELLO)
            assert client.answer().body == b"hello"
        assert inherited.stop() == 0


def test_tls(serve: Serve, tmp_path: Path, certificate: Path) -> None:
    cert, key = certificate, certificate.with_name("key.pem")
    files = ("--ssl-certfile", str(cert), "--ssl-keyfile", str(key))
    service = serve("web:app", "--workers", "2", *files)
    host, port = service.address
    curl = ["curl", "-sSf", "--cacert", str(cert), "--resolve", f"localhost:{port}:{host}"]
    url = f"https://localhost:{port}"
    out = subprocess.run([*curl, f"{url}/scope"], capture_output=True, text=True, check=True)
    assert '"scheme": "https"' in out.stdout
    body = os.urandom(1 << 20)
    echo = [*curl, "--data-binary", "@-", f"{url}/echo"]
    assert subprocess.run(echo, input=body, capture_output=True, check=True).stdout == body
    big = tmp_path / "big"
    big.write_bytes(body)
    out_bytes = subprocess.run([*curl, f"{url}/file?{big}"], capture_output=True, check=True).stdout
    assert out_bytes == body
    context = ssl.create_default_context(cafile=str(cert))
    with websocket(f"wss://localhost:{port}/echo", ssl=context) as client:
        client.send("over TLS")
        assert client.recv(timeout=20) == "over TLS"
    assert "Traceback" not in service.log()
    assert service.stop() == 0
