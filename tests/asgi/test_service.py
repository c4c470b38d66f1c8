"""`serve` with an ASGI application: logs, fields of the server, proxies, addresses."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support import over_tls
from support.by_hand import Client, get, scope_of
from support.client import connect
from support.service import Service, until

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_access_log(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(get('/hello?a="b"') + get("/status?404"))
        for _ in range(2):
            client.answer()
        client.send(get("/hello") * 100)  # more lines than there is room for at first
        for _ in range(100):
            client.answer()
        client.send(b"nonsense\r\n\r\n")
        assert client.answer().status == 400
    service.wait_log('"-" 400 0')
    lines = [line for line in service.log().splitlines() if " - - [" in line]
    stamp = r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    assert re.fullmatch(stamp + r' "GET /hello\?a=%22b%22 HTTP/1\.1" 200 5', lines[0])
    assert re.fullmatch(stamp + r' "GET /status\?404 HTTP/1\.1" 404 0', lines[1])
    assert all(re.fullmatch(stamp + r' "GET /hello HTTP/1\.1" 200 5', line) for line in lines[2:-1])
    assert len(lines) == 103
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
    assert service.log().count("exception in the application: GET /raises\n") == 1
    with Client(service.address) as client:
        client.send(get("/raises%0aforged%1b[31m"))
        client.answer()
    service.wait_log("GET /raises%0aforged%1b[31m\n")


def test_fields_of_the_server(serve: Serve) -> None:
    service = serve("web:app", "--header", "X-One: 1", "--header", "x-two:2", "--workers", "1")
    with Client(service.address) as client:
        client.send(HELLO)
        headers = client.answer().headers
    assert (headers["x-one"], headers["x-two"], headers["server"]) == ("1", "2", "aiofastsocket")
    instead = ("--header", "Server: mine", "--header", "Date: never")
    other = serve("web:app", *instead, "--workers", "1")
    for request in (HELLO, b"nonsense\r\n\r\n"):  # Client.answer refuses a field that comes twice
        with Client(other.address) as client:
            client.send(request)
            headers = client.answer().headers
        assert (headers["server"], headers["date"]) == ("mine", "never")
    bare = serve("web:app", "--no-server-header", "--no-date-header", "--workers", "1")
    with Client(bare.address) as client:
        client.send(HELLO)
        assert not {"server", "date"} & client.answer().headers.keys()


FORWARDED = ("X-Forwarded-For: 10.1.1.1, 192.0.2.7, 10.9.9.9", "X-Forwarded-Proto: https")


@pytest.mark.parametrize(
    ("arguments", "client", "scheme"),
    [
        ((), "10.9.9.9", "https"),
        (("--no-proxy-headers",), "127.0.0.1", over_tls.scheme()),
        (("--forwarded-allow-ips", "192.0.2.1"), "127.0.0.1", over_tls.scheme()),
        (("--forwarded-allow-ips", "127.0.0.0/8, 10.0.0.0/8"), "192.0.2.7", "https"),
        (("--forwarded-allow-ips", "*"), "10.1.1.1", "https"),
    ],
)
def test_the_client_behind_a_proxy(
    serve: Serve, arguments: tuple[str, ...], client: str, scheme: str
) -> None:
    scope = scope_of(serve("web:app", "--workers", "1", *arguments), get("/scope", *FORWARDED))
    assert (scope["client"][0], scope["scheme"]) == (client, scheme)


def test_a_root_path(serve: Serve) -> None:
    scope = scope_of(serve("web:app", "--workers", "1", "--root-path", "/api"), get("/scope"))
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/scope")


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [((), 1), (("--no-defer-accept",), 2), (("--forwarded-allow-ips", "127.0.0.1"), 2)],
)
def test_defer_accept_is_off_behind_a_proxy(
    serve: Serve, arguments: tuple[str, ...], accepted: int
) -> None:
    service = serve("web:app", "--workers", "1", *arguments)
    with connect(service.address), Client(service.address) as client:  # one client is silent
        client.send(HELLO)
        assert client.answer().status == 200
        until(lambda: service.accepted() >= accepted, "all are accepted")
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
