"""Demands of HTTP's specifications where parsers commonly differ: RFC 9110, 9112, 6455, 8297.

The expected answers are ours; uvicorn gives other answers to some of these requests.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.by_hand import Client, ask, get, scope_of
from support.service import Service

Serve = Callable[..., Service]

pytestmark = pytest.mark.parametrize("server", ["ours-uvloop", "ours-asyncio"], indirect=True)

LINE = b"GET /scope HTTP/1.1\r\n"


def test_white_space_at_the_end_of_a_value_is_not_part_of_it(server: Any) -> None:
    """RFC 9110, 5.5: it is not part of values that the server itself reads, either."""
    scope = scope_of(server, get("/scope", "X-A:  b \t ", "X-Empty: \t"))
    assert dict(scope["headers"])["x-a"] == "b"
    assert dict(scope["headers"])["x-empty"] == ""
    with Client(server.address) as client:
        head = get("/echo", "Transfer-Encoding: chunked ", method="POST")
        client.send(head + b"3\r\nabc\r\n0\r\n\r\n")
        assert client.answer().body == b"abc"
        head = get("/echo", "Content-Length: 3 ", "Expect: 100-continue\t", method="POST")
        client.send(head)
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc"
        fields = ("Connection: Upgrade ", "Upgrade: websocket ", "Sec-WebSocket-Version: 13 ")
        client.send(get("/echo", *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ== "))
        assert client.answer().status == 101


@pytest.mark.parametrize(
    "host",
    ["", "user@a", "a/b", "a, b", "a b", "[::1", "[::1]x", "a:x", "a:80:81", "a?b", "a#b", "\xe4"],
)
def test_an_invalid_host(server: Any, host: str) -> None:
    request = f"GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
    assert ask(server, request).status == 400


@pytest.mark.parametrize("host", ["a", "a.b:80", "127.0.0.1", "[::1]:80", "a_b", "a:", "ex%41mple"])
def test_a_host(server: Any, host: str) -> None:
    assert ask(server, f"GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status == 200


@pytest.mark.parametrize(
    "target", ["http:///p", "http://[::1/p", "http://u@a/p", "http://", "http://a:x/", "ftp://a/"]
)
def test_an_invalid_authority(server: Any, target: str) -> None:
    assert ask(server, get(target)).status == 400


def test_an_absolute_target_of_http_1_0_keeps_its_authority(server: Any) -> None:
    scope = scope_of(server, b"GET http://b:81/scope HTTP/1.0\r\n\r\n")
    assert scope["headers"] == [["host", "b:81"]]


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: keep-alive, close",),
        ("Connection: close, keep-alive",),
        ("Connection: keep-alive", "Connection: close"),
        ("Connection: close", "Connection: keep-alive"),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_close_wins(server: Any, fields: tuple[str, ...], version: str) -> None:
    with Client(server.address) as client:
        client.send(get("/hello", *fields, version=version) + get("/hello"))
        assert client.answer().headers["connection"] == "close"
        assert client.closed()


def test_expect_with_the_body_already_there(server: Any) -> None:
    """The client did not wait for 100 Continue: the connection goes on with the next request."""
    fields = ("Content-Length: 3", "Expect: 100-continue")
    with Client(server.address) as client:
        client.send(get("/echo", *fields, method="POST") + b"abc" + get("/hello"))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"abc")
        assert client.answer().body == b"hello"
        client.send(get("/early", *fields, method="POST") + b"abc" + get("/hello"))
        assert client.answer().status == 413
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("method", ["FOO", "get", "M-SEARCH", "QUERY", "SOURCE", "x" * 32])
def test_methods_are_the_applications_business(server: Any, method: str) -> None:
    """RFC 9110, 9.1: only the application knows whether it implements a method."""
    assert scope_of(server, get("/scope", method=method))["method"] == method


def test_a_method_that_is_too_long(server: Any) -> None:
    assert ask(server, get("/scope", method="x" * 33)).status == 400


def test_a_later_minor_version_is_served_as_the_latest_known(server: Any) -> None:
    """RFC 9110, 2.5."""
    assert scope_of(server, get("/scope", version="1.2"))["http_version"] == "1.1"


def test_empty_lines_before_a_request(server: Any) -> None:
    """RFC 9112, 2.2: some clients send an empty line after a body."""
    with Client(server.address) as client:
        client.send(b"\r\n\r\n" + get("/echo", "Content-Length: 1", method="POST") + b"x\r\n")
        assert client.answer().body == b"x"
        client.send(b"\r\n")
        time.sleep(0.05)
        client.send(get("/hello"))
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("size", [4000, 65536])
def test_chunk_extensions_have_a_limit(server: Any, size: int) -> None:
    request = get("/echo", "Transfer-Encoding: chunked", method="POST")
    request += b"3;" + b"x" * size + b"\r\nabc\r\n0\r\n\r\n"
    answer = ask(server, request)
    assert (answer.status, answer.body) == (200, b"abc") if size < 4096 else answer.status == 431


@pytest.mark.parametrize("field", ["Content-Length: 3", "Transfer-Encoding: chunked"])
def test_trailers_do_not_frame(server: Any, field: str) -> None:
    request = get("/echo", "Transfer-Encoding: chunked", method="POST")
    assert ask(server, request + f"0\r\n{field}\r\n\r\n".encode()).status == 400


def test_trailers_of_a_response(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/trailers", "TE: trailers"))
        head = client.until(b"\r\n\r\n")
        assert b"transfer-encoding: chunked\r\n" in head
        body = client.until(b"\r\n\r\n")
        assert body == b"4\r\nbody\r\n0\r\nx-sum: 1\r\nx-last: 2\r\n\r\n"
        client.send(get("/trailers") + get("/trailers", method="HEAD") + get("/hello"))
        assert client.answer().body == b"body"  # trailers are ignored without TE
        assert client.answer(to="HEAD").body == b""
        assert client.answer().body == b"hello"
    extensions = [
        scope_of(server, get("/scope", f))["extensions"] for f in ("TE: trailers", "X: y")
    ]
    assert ["http.response.trailers" in e for e in extensions] == [True, False]


def test_early_hints(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/hints"))
        hints = client.until(b"\r\n\r\n")
        assert hints == (
            b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>\r\n\r\n"
        )
        assert client.answer().body == b"hello"
        client.send(get("/hints", version="1.0"))  # HTTP/1.0 has no 1xx
        assert client.answer().body == b"hello"


def test_a_close_before_the_date_is_still_dated(server: Any) -> None:
    assert re.search(r"GMT$", ask(server, get("/close")).headers["date"])


def test_data_behind_the_last_request_while_the_client_does_not_read(server: Any) -> None:
    """RFC 9112, 9.6: a reset may discard data that the client has not read yet."""
    with Client(server.address) as client:
        client.send(get("/megabytes?30", "Connection: close"))
        time.sleep(0.2)  # until the buffers of the sockets are full
        client.send(b"behind")
        size = 0
        while more := client.sock.recv(1 << 20):  # no ConnectionResetError
            size += len(more)
        assert size > 30 << 20


@pytest.mark.parametrize(
    ("path", "at_once", "meanwhile"),
    [("/hello", b"behind", b""), ("/slow", b"behind", b""), ("/slow", b"", b"behind")],
)
def test_data_behind_the_last_request(
    server: Any, path: str, at_once: bytes, meanwhile: bytes
) -> None:
    with Client(server.address) as client:
        client.send(get(path, "Connection: close") + at_once)
        client.send(meanwhile)
        assert client.answer().status == 200
        for _ in range(2):
            client.send(b"later")  # no BrokenPipeError: nothing was reset
            time.sleep(0.1)
        assert client.sock.recv(1) == b""
