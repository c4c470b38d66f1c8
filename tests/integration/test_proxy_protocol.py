"""`--proxy-protocol`: a trusted proxy names its client, ahead of TLS and requests.

Headers of other clients are not accepted.
"""

import json
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client, get
from support.certificates import certificate
from support.client import connect, free_port, receive_all
from support.metrics import scrape
from support.service import Service, until

Serve = Callable[..., Service]

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
MAGIC = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 56324, 1)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack(">HH", 9, 1)
V2 = MAGIC + b"\x21\x11" + struct.pack(">H", len(V4)) + V4
V2_V6 = MAGIC + b"\x21\x21" + struct.pack(">H", len(V6)) + V6
LOCAL = MAGIC + b"\x20\x00\0\0"
CLIENT = ["192.0.2.7", 56324]


def scope_after(service: Service, header: bytes, *, pieces: bool = False, **how: Any) -> Any:
    with connect(service.address) as sock:
        request = header + get("/scope", "Connection: close", "X-Forwarded-For: 10.9.8.7")
        if pieces:
            for byte in header[:20]:
                sock.sendall(bytes([byte]))
                time.sleep(0.005)
            request = request[20:]
        sock.sendall(request)
        head, _, body = receive_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return json.loads(body)


@pytest.mark.parametrize("defer", [True, False])
def test_the_header_names_the_client(defer: bool, serve: Serve) -> None:
    more = [] if defer else ["--no-defer-accept"]
    service = serve("web:app", "--workers", "1", "--proxy-protocol", *more)
    for header in (V1, V2):
        for pieces in (False, True):
            # The X-Forwarded-For of that client is ignored: the client is not a trusted proxy.
            assert scope_after(service, header, pieces=pieces)["client"] == CLIENT
    assert scope_after(service, V2_V6)["client"] == ["2001:db8::7", 9]
    for header in (LOCAL, b"PROXY UNKNOWN\r\n"):  # the proxy itself, which is trusted
        assert scope_after(service, header)["client"][0] == "10.9.8.7"
    until(lambda: service.log().count("192.0.2.7 - - ") == 4, "the log has the clients")


def test_requests_behind_one_another(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1", "--proxy-protocol")
    with Client(service.address) as client:
        client.send(V2 + get("/hello") * 3)
        assert [client.answer().body for _ in range(3)] == [b"hello"] * 3
        client.send(get("/scope"))
        assert json.loads(client.answer().body)["client"] == CLIENT


def test_others_are_not_heeded(serve: Serve) -> None:
    port = free_port()
    options = ["--proxy-protocol", "--forwarded-allow-ips", "10.0.0.1", "--metrics", str(port)]
    service = serve("web:app", "--workers", "1", *options)
    assert scope_after(service, b"")["client"][0] == "127.0.0.1"
    for header in (V1, V2):
        with connect(service.address) as sock:
            sock.sendall(header + get("/hello"))
            assert receive_all(sock).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert scrape(port)['requests_refused_total{reason="malformed"}'] == 2


@pytest.mark.parametrize("first", [get("/hello"), V1[:-2] + b"\n", b"", V2[:14] + b"\xff\xff"])
def test_a_proxy_that_does_not_say_it(first: bytes, serve: Serve) -> None:
    port = free_port()
    options = ["--proxy-protocol", "--no-defer-accept", "--metrics", str(port)]
    service = serve("web:app", "--workers", "1", *options)
    with connect(service.address) as sock:
        sock.sendall(first)
        with suppress(ConnectionResetError):
            assert receive_all(sock) == b""
    service.wait_log(
        "a connection from 127.0.0.1 was closed: a trusted proxy must begin with a header"
    )
    assert scrape(port)['requests_refused_total{reason="no_proxy"}'] == 1
    assert scrape(port)["connections_open"] == 0
    assert scope_after(service, V1)["client"] == CLIENT


def test_before_tls(serve: Serve, tmp_path: Path) -> None:
    path = certificate(tmp_path, "cert")
    service = serve(
        "web:app", "--workers", "1", "--proxy-protocol", "--ssl-certfile", str(path), "--queue-time"
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for header in (V1, V2):
        with connect(service.address) as sock:
            sock.sendall(header)
            with context.wrap_socket(sock) as secured:
                secured.sendall(get("/scope", "Connection: close"))
                scope = json.loads(receive_all(secured).partition(b"\r\n\r\n")[2])
        assert (scope["client"], scope["scheme"]) == (CLIENT, "https")
        assert scope["extensions"]["aiofastsocket.queue_time"]["seconds"] >= 0


def test_other_kinds(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text(
        "import asyncio\n"
        "async def handle(reader, writer):\n"
        "    line = await reader.readline()\n"
        "    writer.write(repr(writer.get_extra_info('peername')).encode() + line)\n"
        "    writer.close()\n"
    )
    service = serve("peer:handle", "--app-dir", str(tmp_path), "--workers", "1", "--proxy-protocol")
    with connect(service.address) as sock:
        sock.sendall(V1 + b"hello\n")
        assert receive_all(sock) == b"('192.0.2.7', 56324)hello\n"


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen one
    bind 127.0.0.1:{v1}
    server s 127.0.0.1:{port} send-proxy
listen two
    bind 127.0.0.1:{v2}
    server s 127.0.0.1:{port} send-proxy-v2 check
"""


@pytest.mark.programs
def test_haproxy(serve: Serve, tmp_path: Path) -> None:
    service = serve("web:app", "--workers", "2", "--proxy-protocol")
    v1, v2 = free_port(), free_port()
    path = tmp_path / "haproxy.cfg"
    path.write_text(HAPROXY.format(v1=v1, v2=v2, port=service.address[1]))
    with subprocess.Popen(["haproxy", "-f", path]) as haproxy:
        try:
            for port in (v1, v2):
                until(lambda at=port: _answers(at), "haproxy listens")  # type: ignore[misc]
                for _ in range(20):
                    with Client(("127.0.0.1", port)) as client:
                        mine = list(client.sock.getsockname())
                        client.send(get("/scope"))
                        assert json.loads(client.answer().body)["client"] == mine
        finally:
            haproxy.terminate()


def _answers(port: int) -> bool:
    try:
        connect(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
