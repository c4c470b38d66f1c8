"""ASGI over TLS, where closes, half-closes and files differ from those without TLS."""

import contextlib
import os
import random
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client, get
from support.service import Service, until
from websockets.sync.client import connect as websocket

Serve = Callable[..., Service]


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def service(serve: Serve, certificate: Path) -> Service:
    return serve("web:app", "--workers", "1", "--ssl-certfile", str(certificate))


def test_requests_and_websockets(serve: Serve, certificate: Path, context: ssl.SSLContext) -> None:
    cert, key = certificate, certificate.with_name("key.pem")
    files = ("--ssl-certfile", str(cert), "--ssl-keyfile", str(key))
    service = serve("web:app", "--workers", "2", *files)
    host, port = service.address
    # curl hangs under AddressSanitizer.
    curl = ["curl", "-sSf", "--cacert", str(cert), "--resolve", f"localhost:{port}:{host}"]
    url = f"https://localhost:{port}"
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    out = subprocess.run(
        [*curl, f"{url}/scope"], capture_output=True, text=True, check=True, env=env
    )
    assert '"scheme": "https"' in out.stdout
    body = os.urandom(1 << 20)
    echo = [*curl, "--data-binary", "@-", f"{url}/echo"]
    assert subprocess.run(echo, input=body, capture_output=True, check=True, env=env).stdout == body
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # see support.over_tls.websocket
    with websocket(f"wss://localhost:{port}/echo", ssl=context) as client:
        client.send("over TLS")
        assert client.recv(timeout=20) == "over TLS"
    assert "Traceback" not in service.log()
    assert service.stop() == 0


@pytest.mark.parametrize("size", [0, 1, 5_000_001])
def test_files(size: int, service: Service, context: ssl.SSLContext, tmp_path: Path) -> None:
    """sendfile(2) does not encrypt: files are sent part by part."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(size).randbytes(size))
    with Client(service.address, context) as client:
        for _ in range(2):
            client.send(get(f"/file?{file}"))
            assert client.answer().body == file.read_bytes()
        client.send(get(f"/file?{tmp_path}"))
        assert client.answer().status == 500
    service.wait_log("Is a directory")


def test_a_client_that_leaves_while_we_do_not_read_is_noticed(
    service: Service, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Reading stops at the second request; the first is still told that the client has left."""
    told = tmp_path / "told"
    with Client(service.address, context) as client:
        client.send(get(f"/ticks?{told}") * 2)
        client.exactly(200)
    until(told.exists, "the application is told")
    assert service.stop() == 0
    assert "SSL connection is closed" not in service.log()
    assert "Traceback" not in service.log()


def test_an_early_answer_is_whole(service: Service, context: ssl.SSLContext) -> None:
    """The client still sends when the answer is complete."""
    with Client(service.address, context) as client:
        fields = ("Content-Length: 300000", "Connection: close")
        client.send(get("/megabytes?2", *fields, method="POST") + b"x" * 3000)
        time.sleep(0.05)
        for _ in range(3):
            client.send(b"x" * 50_000)
            time.sleep(0.005)
        assert len(client.answer().body) == 2 << 20
    assert "Traceback" not in service.log()


# -- connections that do not complete the handshake --


def test_handshakes_that_stand_still(serve: Serve, certificate: Path) -> None:
    """They are closed after their timeout, and count as connections until then."""
    cert = ("--ssl-certfile", str(certificate))
    service = serve(
        *("web:app", "--workers", "1", *cert, "--no-defer-accept"),
        *("--timeout-tls-handshake", "1", "--limit-concurrency", "4"),
    )
    tls = ssl.create_default_context(cafile=str(certificate))
    with contextlib.ExitStack() as stack:
        still = [stack.enter_context(Client(service.address)) for _ in range(4)]
        for number, client in enumerate(still):
            client.send(b"\x16\x03\x01\x02\x00\x01\x00"[: 2 * number])
        until(lambda: sum(s.open or 0 for s in service.slots()) == 4, "they are accepted")
        with Client(service.address, tls) as client:
            client.send(get("/scope"))
            assert client.answer().status == 503
        for client in still:
            assert client.rest() == b""
        with Client(service.address, tls) as client:
            client.send(get("/scope"))
            assert client.answer().status == 200
    assert "Traceback" not in service.log()


def test_handshakes_do_not_hold_up_the_end(serve: Serve, certificate: Path) -> None:
    cert = ("--ssl-certfile", str(certificate))
    service = serve(
        *("web:app", "--workers", "1", *cert, "--no-defer-accept", "--timeout-tls-handshake", "90"),
        *("--timeout-graceful-shutdown", "20"),
    )
    with Client(service.address) as silent, Client(service.address) as half:
        half.send(b"\x16\x03\x01\x02\x00\x01")
        until(lambda: sum(s.open or 0 for s in service.slots()) == 2, "they are accepted")
        assert service.stop() == 0
        assert silent.rest() == half.rest() == b""
    assert "connections closed after" not in service.log()


def test_plain_http_where_tls_is_expected(serve: Serve, certificate: Path) -> None:
    service = serve("web:app", "--workers", "1", "--ssl-certfile", str(certificate))
    for piece in (1000, 1):
        with Client(service.address) as client:
            request = get("/")
            for at in range(0, len(request), piece):
                client.send(request[at : at + piece])
            answer = client.answer()
            assert answer.status == 400
            assert b"https://" in answer.body
            assert client.closed()
    with Client(service.address) as client:  # neither HTTP nor TLS
        client.send(b"\x80\x01\x02nonsense" * 10)
        assert b"HTTP" not in client.rest()
    assert "Traceback" not in service.log()
    service.wait_log('"-" 400')


def test_clients_cannot_renegotiate(service: Service) -> None:
    """RFC 5246, 7.2.2: no_renegotiation; each renegotiation would cost a handshake."""
    host, port = service.address
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}"]
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=60, env=env)
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stdout + done.stderr


def test_requests_in_records_of_their_own(service: Service, context: ssl.SSLContext) -> None:
    """All records come in one segment, and the client reads slowly: each request is answered."""
    with socket.create_connection(service.address, timeout=30) as plain:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    return step()
                plain.sendall(outgoing.read())
                data = plain.recv(65536)
                assert data
                incoming.write(data)

        until_done(tls.do_handshake)
        for _ in range(8):
            tls.write(get("/megabytes?1"))
        plain.sendall(outgoing.read())
        size = 0
        while size < 8 << 20:
            size += len(until_done(lambda: tls.read(65536)))


def test_plain_http_is_redirected(serve: Serve, certificate: Path) -> None:
    service = serve(
        *("web:app", "--workers", "2", "--ssl-certfile", str(certificate), "--hsts", "31536000"),
        *("--redirect-http", "127.0.0.1:0", "--redirect-http-except", "/scope"),
    )
    port = service.address[1]
    service.wait_log("is redirected to")
    found = re.search(r"plain HTTP at (\S+):(\d+) is", service.log())
    assert found
    plain = found[1], int(found[2])
    for host, name in ((b"a.test:80", "a.test"), (b"[::1]", "[::1]"), (b"a.test", "a.test")):
        with Client(plain) as client:
            client.send(b"GET /p%20a?q=1&r HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            answer = client.answer()
            assert answer.status == 308
            assert answer.headers["location"] == f"https://{name}:{port}/p%20a?q=1&r"
            assert "strict-transport-security" not in answer.headers
    for line in (b"Host: a@b\r\n", b"Host: a/b\r\n", b""):
        with Client(plain) as client:
            client.send(b"GET /p HTTP/1.1\r\n" + line + b"\r\n")
            assert client.answer().status == 400
    for request in (b"GET /p HTTP/1.0\r\n", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n"):
        with Client(plain) as client:
            client.send(request + b"\r\n")
            assert client.answer().status == 400
    for path in ("/scope/../p", "/scope/%2e%2E/p"):
        with Client(plain) as client:
            client.send(get(path))
            assert client.answer().status == 308
    with Client(plain) as client:
        client.send(get("/scope"))
        answer = client.answer()
        assert answer.status == 200
        assert b'"scheme": "http"' in answer.body
        assert "strict-transport-security" not in answer.headers
    context = ssl.create_default_context(cafile=str(certificate))
    with Client(service.address, context) as client:
        client.send(get("/scope"))
        assert client.answer().headers["strict-transport-security"] == "max-age=31536000"
    assert service.stop() == 0
