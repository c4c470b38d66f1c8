"""ASGI over TLS, where closes, halves of connections and files are not what they are without."""

import os
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

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
    curl = ["curl", "-sSf", "--cacert", str(cert), "--resolve", f"localhost:{port}:{host}"]
    url = f"https://localhost:{port}"
    out = subprocess.run([*curl, f"{url}/scope"], capture_output=True, text=True, check=True)
    assert '"scheme": "https"' in out.stdout
    body = os.urandom(1 << 20)
    echo = [*curl, "--data-binary", "@-", f"{url}/echo"]
    assert subprocess.run(echo, input=body, capture_output=True, check=True).stdout == body
    with websocket(f"wss://localhost:{port}/echo", ssl=context) as client:
        client.send("over TLS")
        assert client.recv(timeout=20) == "over TLS"
    assert "Traceback" not in service.log()
    assert service.stop() == 0


def test_files_are_not_offered(service: Service, context: ssl.SSLContext, tmp_path: Path) -> None:
    """sendfile(2) does not encrypt."""
    with Client(service.address, context) as client:
        client.send(get("/scope"))
        assert b'"extensions": {}' in client.answer().body
        client.send(get(f"/file?{tmp_path}"))
        assert client.answer().status == 500
    service.wait_log("'http.response.pathsend' is not offered")


def test_who_is_not_read_is_missed_all_the_same(
    service: Service, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Reading stops for the request behind; the client's end is told to the one in front."""
    told = tmp_path / "told"
    with Client(service.address, context) as client:
        client.send(get(f"/ticks?{told}") * 2)
        client.exactly(200)
    until(told.exists, "it is told")
    assert service.stop() == 0
    assert "SSL connection is closed" not in service.log()
    assert "Traceback" not in service.log()


def test_an_early_answer_is_whole(service: Service, context: ssl.SSLContext) -> None:
    """The client still sends when we are done."""
    with Client(service.address, context) as client:
        fields = ("Content-Length: 300000", "Connection: close")
        client.send(get("/megabytes?2", *fields, method="POST") + b"x" * 3000)
        time.sleep(0.05)
        for _ in range(3):
            client.send(b"x" * 50_000)
            time.sleep(0.005)
        assert len(client.answer().body) == 2 << 20
    assert "Traceback" not in service.log()
