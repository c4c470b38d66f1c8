"""HTTP/1.x as applications and clients see it; the same on uvicorn, unless noted."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from support import over_tls
from support.by_hand import Client, ask, get, scope_of
from support.service import until

HOST = b"Host: a\r\n"
OURS = ["ours-uvloop", "ours-asyncio"]


def test_one_answer_after_another(server: Any) -> None:
    with Client(server.address) as client:
        for _ in range(3):
            client.send(get("/hello"))
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"hello")
            assert answer.headers["content-type"] == "text/plain"
            assert "connection" not in answer.headers
            assert re.fullmatch(
                r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"]
            )


def test_pipelined_answers_come_in_order(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/slow") + get("/hello") + get("/parts") + get("/hello"))
        bodies = [client.answer().body for _ in range(4)]
        assert bodies == [b"slow", b"hello", b"one,two,three", b"hello"]


def test_a_head_byte_by_byte(server: Any) -> None:
    with Client(server.address) as client:
        for byte in get("/echo", "Content-Length: 3", method="POST") + b"abc":
            client.send(bytes([byte]))
        assert client.answer().body == b"abc"


def test_close_is_agreed_on(server: Any, ours: bool) -> None:
    for request in (
        get("/hello", "Connection: close"),
        get("/close"),
        get("/hello", version="1.0"),
    ):
        with Client(server.address) as client:
            client.send(request)
            answer = client.answer()
            assert answer.status == 200
            if ours or b"1.0" not in request:  # uvicorn does not send it there
                assert answer.headers["connection"] == "close"
            assert client.closed()


def test_http_1_0_goes_on_if_asked(server: Any, ours: bool) -> None:
    if not ours:
        pytest.skip("uvicorn always closes HTTP/1.0")
    with Client(server.address) as client:
        for _ in range(2):
            client.send(get("/hello", "Connection: keep-alive", version="1.0"))
            answer = client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "keep-alive")
        client.send(get("/parts", "Connection: keep-alive", version="1.0"))
        answer = client.answer()  # it ends with the connection: HTTP/1.0 has no chunks
        assert (answer.body, answer.headers["connection"]) == (b"one,two,three", "close")


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_requests(server: Any, size: int, chunked: bool) -> None:
    body = bytes(i % 251 for i in range(size))
    if chunked:
        parts = [body[i : i + 1000] for i in range(0, size, 1000)]
        sent = b"".join(b"%x;x=y\r\n%b\r\n" % (len(p), p) for p in parts)
        request = get("/echo", "Transfer-Encoding: chunked", method="POST")
        request += sent + b"0\r\nX-Trailer: a\r\n\r\n"
    else:
        request = get("/echo", f"Content-Length: {size}", method="POST") + body
    with Client(server.address) as client:
        client.send(request + get("/hello"))
        assert client.answer().body == body
        assert client.answer().body == b"hello"


def test_a_head_that_begins_behind_a_long_body(server: Any) -> None:
    """The part of the body that is read with a head does not count for the head's length."""
    with Client(server.address) as client:
        body = bytes(1 << 20)
        head = get("/hello")
        client.send(get("/count", f"Content-Length: {len(body)}", method="POST") + body + head[:9])
        assert client.answer().body == b"%d" % len(body)
        client.send(head[9:])
        assert client.answer().body == b"hello"


@pytest.mark.parametrize("start", [b"3;", b"0\r\nX: "], ids=["extension", "trailer"])
def test_what_the_parser_keeps_has_a_limit(server: Any, ours: bool, start: bytes) -> None:
    if not ours:
        pytest.skip("uvicorn has no such limit")
    with Client(server.address) as client:
        request = get("/count", "Transfer-Encoding: chunked", method="POST")
        client.send(request + start + b"x" * 1_000_000)
        assert client.answer().status == 431
        assert client.closed()


def test_trailers_are_not_header_fields(server: Any, ours: bool) -> None:
    request = get("/scope", "Transfer-Encoding: chunked", method="POST")
    scope = scope_of(server, request + b"0\r\nX-Trailer: a\r\n\r\n")
    assert ("x-trailer" in dict(scope["headers"])) == (not ours)  # RFC 9110, 6.5.1


def test_expect_100_continue(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/echo", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc"
        client.send(get("/hello"))
        assert client.answer().body == b"hello"


def test_an_early_answer_to_a_client_that_expects_100(server: Any, ours: bool) -> None:
    with Client(server.address) as client:
        client.send(get("/early", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        answer = client.answer()
        assert answer.status == 413
        if ours:  # the client may or may not send the body: RFC 9110, 10.1.1
            assert answer.headers["connection"] == "close"
            assert client.closed()


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/scope", "/scope", "/scope", ""),
        ("/scope?a=b&c=%20?d", "/scope", "/scope", "a=b&c=%20?d"),
        ("/scope/a%20b%2Fc", "/scope/a b/c", "/scope/a%20b%2Fc", ""),
        ("/scope/%C3%A9%E2%82%AC", "/scope/é€", "/scope/%C3%A9%E2%82%AC", ""),
        ("/scope/%ff", "/scope/\ufffd", "/scope/%ff", ""),
        ("/scope//a/../b", "/scope//a/../b", "/scope//a/../b", ""),
        ("http://other.org:81/scope?x", "/scope", "/scope", "x"),
    ],
)
def test_targets_of_requests(
    server: Any, target: str, path: str, raw_path: str, query: str
) -> None:
    scope = scope_of(server, get(target))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


def test_an_absolute_target_names_the_host(server: Any, ours: bool) -> None:
    scope = scope_of(server, get("http://other.org:81/scope"))
    host = dict(scope["headers"])["host"]
    assert host == ("other.org:81" if ours else "a")  # RFC 9112, 3.2.2


def test_the_scope(server: Any) -> None:
    with Client(server.address) as client:
        name = client.sock.getsockname()
        client.send(get("/scope?q", "X-A: 1", "x-a: \xe9".encode("latin-1").decode("latin-1")))
        scope = json.loads(client.answer().body)
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}
    assert scope["http_version"] == "1.1"
    assert (scope["method"], scope["scheme"], scope["root_path"]) == ("GET", over_tls.scheme(), "")
    assert scope["client"] == list(name)
    assert scope["server"] == list(server.address)
    assert scope["headers"][:2] == [["host", "a"], ["x-a", "1"]]
    assert scope["headers"][2][0] == "x-a"
    assert len(scope["state"]["started"]) == 1


def test_the_state_is_each_requests_own_copy(server: Any) -> None:
    first, second = scope_of(server, get("/scope")), scope_of(server, get("/scope"))
    assert first["state"] == second["state"]


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "websocket2"])
def test_other_protocols_are_not_heeded(server: Any, ours: bool, protocol: str) -> None:
    fields = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AA")
    with Client(server.address) as client:
        client.send(get("/hello", *fields) + get("/hello"))
        assert client.answer().body == b"hello"
        if ours:  # uvicorn drops the request behind it
            assert client.answer().body == b"hello"
    if ours:  # uvicorn answers a POST without its body
        answer = ask(server, get("/echo", *fields, "Content-Length: 3", method="POST") + b"abc")
        assert answer.body == b"abc"


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_however_many_ask_for_another_protocol_at_once(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/hello", "Connection: Upgrade", "Upgrade: h2c") * 1200)
        for _ in range(1200):
            assert client.answer().body == b"hello"


def test_a_client_that_leaves_is_noticed(server: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    with Client(server.address) as client:
        client.send(get(f"/wait?{told}"))
        client.send(b"")
    until(told.exists, "the application hears of it")
    until(told.read_text, "the application writes it down")
    assert told.read_text() == "http.disconnect"


def test_a_client_that_closes_its_half_is_answered(server: Any, ours: bool) -> None:
    if not ours:
        pytest.skip("uvicorn takes it for a disconnection")
    with Client(server.address) as client:
        client.send(get("/slow"))
        client.half_close()
        assert client.answer().body == b"slow"
        assert client.closed()


def test_an_early_answer_is_not_lost_by_the_upload(server: Any, ours: bool) -> None:
    """A close while the client still sends would reset the connection, and the answer with it."""
    if not ours:
        pytest.skip("uvicorn closes at once: whether the answer arrives is chance")
    with Client(server.address) as client:
        client.send(get("/early", "Content-Length: 100000000", "Connection: close", method="POST"))
        for _ in range(10):
            client.send(bytes(65536))
        assert client.answer().status == 413


REFUSED = [
    (get("/leaves", "Transfer-Encoding: chunked"), b"no size\r\n"),
    (b"POST /echo HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n",),
    (get("/echo", "Content-Length: 1", "Content-Length: 2"),),
]


@pytest.mark.parametrize("parts", REFUSED, ids=["its body", "its host", "its length"])
@pytest.mark.parametrize("server", OURS, indirect=True)
def test_a_refusal_is_not_lost_by_the_upload(server: Any, parts: tuple[bytes, ...]) -> None:
    with Client(server.address) as client:
        for part in parts:
            client.send(part)
            time.sleep(0.1)
        for _ in range(10):
            client.send(bytes(65536))
        assert client.answer().status == 400


def test_tasks_are_what_asyncio_says(server: Any) -> None:
    assert ask(server, get("/task")).body == b"Task"


def test_nothing_of_a_request_is_in_the_next(server: Any, ours: bool) -> None:
    with Client(server.address) as client:
        client.send(get("/context") * 3)
        found = {client.answer().body for _ in range(3)}
    with Client(server.address) as client:
        client.send(get("/context"))
        found.add(client.answer().body)
    if ours:  # uvicorn's next request has the context of the one before
        assert len(found) == 1
        assert found.pop().startswith(b"nothing [")


def test_the_scope_is_the_applications_own(server: Any, ours: bool) -> None:
    if not ours:
        pytest.skip("uvicorn needs it for its log")
    with Client(server.address) as client:
        client.send(get("/forgets") + get("/forgets", "Connection: close", method="HEAD"))
        assert client.answer().body == b"forgotten"
        assert client.answer(to="HEAD").status == 200
        assert client.closed()


def test_all_waiting_tasks_are_told(server: Any, ours: bool, tmp_path: Path) -> None:
    if not ours:
        pytest.skip("uvicorn tells one of them")
    told = tmp_path / "told"
    with Client(server.address) as client:
        client.send(get(f"/two-wait?{told}"))
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
    until(lambda: told.exists() and told.read_text(), "both hear of it")
    assert told.read_text() == "http.disconnect http.disconnect"


def test_a_send_that_gives_up_leaves_the_others_alone(server: Any) -> None:
    with Client(server.address) as client:
        client.send(get("/impatient"))
        time.sleep(0.3)
        body = client.answer().body
        assert len(body) >= (30 << 20) + 3
        assert body[-3:] == b"end"


def test_many_early_answers_on_one_connection(server: Any) -> None:
    with Client(server.address) as client:
        for _ in range(30):
            client.send(get("/early", "Content-Length: 50000", method="POST") + bytes(50000))
            assert client.answer().status == 413
