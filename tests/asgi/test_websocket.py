"""WebSockets as applications and clients see them; the same on uvicorn, unless noted."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support import over_tls
from support.by_hand import Client
from support.client import ask
from support.service import Service, memory, until
from websockets.exceptions import ConnectionClosed, InvalidStatus


def open_to(server: Any, path: str, **options: Any) -> Any:
    """A context manager for a client's connection."""
    return over_tls.websocket(over_tls.url(server.address, "ws") + path, **options)


def test_messages_both_ways(server: Any) -> None:
    with open_to(server, "/echo") as client:
        for message in ("text", "é€", b"bytes", b"", "", b"x" * 100_000, "y" * 100_000):
            client.send(message)
            assert client.recv(timeout=20) == message


def test_without_compression(server: Any) -> None:
    with open_to(server, "/echo", compression=None) as client:
        client.send("plain")
        assert client.recv(timeout=20) == "plain"
        assert client.response is not None
        assert "sec-websocket-extensions" not in client.response.headers


def test_fragments_become_one_message(server: Any) -> None:
    with open_to(server, "/echo") as client:
        client.send(["one", "two", "three"])
        assert client.recv(timeout=20) == "onetwothree"


def test_many_messages_at_once(server: Any) -> None:
    with open_to(server, "/echo") as client:
        for i in range(500):
            client.send(str(i))
        assert [client.recv(timeout=20) for _ in range(500)] == [str(i) for i in range(500)]


def test_pings_are_answered(server: Any) -> None:
    with open_to(server, "/echo") as client:
        assert client.ping(b"are you there?").wait(20)


def test_the_first_subprotocol(server: Any) -> None:
    with open_to(server, "/echo", subprotocols=["chat", "other"]) as client:
        assert client.subprotocol == "chat"


def test_the_scope_and_an_end_by_the_server(server: Any) -> None:
    with open_to(server, "/scope?a=b", subprotocols=["x", "y"]) as client:
        scope = json.loads(client.recv(timeout=20))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert client.response is not None
        assert client.response.headers["x-own"] == "yes"
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "told")
    assert (scope["type"], scope["scheme"], scope["path"]) == (
        "websocket",
        over_tls.scheme("ws"),
        "/scope",
    )
    assert (scope["query_string"], scope["subprotocols"]) == ("a=b", ["x", "y"])
    assert len(scope["state"]["started"]) == 1
    assert "method" not in scope


def test_a_refusal_is_403(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_to(server, "/refuse").__enter__()
    assert refused.value.response.status_code == 403


def test_a_denial_is_what_the_application_says(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_to(server, "/deny").__enter__()
    assert refused.value.response.status_code == 401
    assert refused.value.response.body == b"who are you?"


def test_an_exception_before_the_handshake_is_500(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_to(server, "/raises").__enter__()
    assert refused.value.response.status_code == 500


def test_an_exception_later_is_1011(server: Any, ours: bool) -> None:
    with open_to(server, "/raises-late") as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=20)
    if ours:  # uvicorn closes without a frame
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "enough"), (None, "")])
def test_the_clients_end_is_told(
    server: Any, ours: bool, tmp_path: Path, code: int | None, reason: str
) -> None:
    told = tmp_path / "told"
    with open_to(server, f"/last?{told}") as client:
        if code is None:
            client.socket.shutdown(socket.SHUT_RDWR)
        else:
            client.close(code, reason)
    until(lambda: told.exists() and told.read_text(), "the application hears of it")
    message = json.loads(told.read_text())
    assert message["type"] == "websocket.disconnect"
    # RFC 6455, 7.1.5: 1006 without a frame; uvicorn says that there was one without a code.
    assert message["code"] == (code or (1006 if ours else 1005))
    if code is not None:
        assert message["reason"] == reason


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((VERSION,), 400),
        ((KEY,), 400),
        ((KEY, "Sec-WebSocket-Version: 12"), 426),
        (("Sec-WebSocket-Key: short", VERSION), 400),
        ((KEY, KEY, VERSION), 400),
    ],
)
def test_bad_handshakes(server: Any, ours: bool, fields: tuple[str, ...], status: int) -> None:
    with Client(server.address) as client:
        head = ("GET /echo HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
        client.send("\r\n".join((*head, *fields)).encode() + b"\r\n\r\n")
        answer = client.answer()
        assert answer.status in ((status,) if ours else (400, 426))
        if status == 426 and ours:  # RFC 6455, 4.2.2
            assert answer.headers["sec-websocket-version"] == "13"
        assert client.closed()


def raw(server: Any, path: str = "/echo") -> Client:
    """A client after the handshake, which sends frames by hand."""
    client = Client(server.address)
    head = (f"GET {path} HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
    client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
    assert client.answer().status == 101
    return client


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01a", 1002),  # not masked
        (b"\x83\x80\0\0\0\0", 1002),  # an invalid opcode
        (b"\xc1\x80\0\0\0\0", 1002),  # compressed without an agreement
        (b"\x80\x80\0\0\0\0", 1002),  # continues a message that did not begin
        (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),  # a long ping
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in parts
        (b"\x88\x81\0\0\0\0a", 1002),  # an end with half a code
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # text that is not UTF-8
        (b"\x82\xff\0\0\0\1\0\0\0\0\0\0\0\0", 1009),  # 4 GiB
    ],
)
def test_bad_frames_are_an_end_with_a_code(server: Any, frame: bytes, code: int) -> None:
    with raw(server) as client:
        client.send(frame)
        rest = client.rest()
        assert rest[0] == 0x88
        assert int.from_bytes(rest[2:4], "big") == code


Serve = Callable[..., Service]


def test_messages_have_a_limit(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1", "--ws-max-size", "1000")
    with open_to(service, "/echo") as client:
        client.send(b"x" * 1000)
        assert client.recv(timeout=20) == b"x" * 1000
        with suppress(ConnectionClosed):  # the first part and the second's size are enough
            client.send([b"x" * 600, b"x" * 600])
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_a_client_that_does_not_answer_pings_is_dropped(serve: Serve) -> None:
    limits = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "1")
    service = serve("web:app", "--workers", "1", *limits)
    with raw(service) as client:
        rest = client.rest()  # a ping, an end, and nothing more
    assert rest.startswith(b"\x89\x00")
    with open_to(service, "/echo") as lively:
        time.sleep(2)
        lively.send("still here")
        assert lively.recv(timeout=20) == "still here"


def test_a_client_that_still_reads_is_not_dropped(serve: Serve) -> None:
    """A pong cannot come before the client has read the data ahead of the ping."""
    limits = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.2")
    service = serve("web:app", "--workers", "1", *limits)
    with raw(service, "/large") as client:
        time.sleep(1)
        assert len(client.exactly(10 + (30 << 20))) == 10 + (30 << 20)


def test_limits_and_the_log_count_them(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1", "--limit-concurrency", "2")
    with raw(service), raw(service), Client(service.address) as client:
        head = ("GET /echo HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
        client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
        assert client.answer().status == 503
        assert client.closed()
    service.wait_log('"GET /echo HTTP/1.1" 101 0', 2)
    service.wait_log('"GET /echo HTTP/1.1" 503 20')
    few = serve("web:app", "--workers", "1", "--limit-max-requests", "2")
    for _ in range(2):
        raw(few).sock.close()
    few.wait_log("reached --limit-max-requests; starting its successor")


def test_a_client_that_leaves_before_the_answer_is_noticed(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    head = ("GET /unanswered HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
    with Client(service.address) as client:
        client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
        until(lambda: service.accepted() == 1, "it is accepted")
    service.wait_log("then websocket.disconnect 1006")
    assert service.stop() == 0


def test_what_comes_before_the_answer_costs_no_memory(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    head = ("GET /unanswered HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
    with Client(service.address) as client:
        client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
        client.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            client.send(bytes(64 << 20))
    assert memory(service) < 100 * 1024


def test_a_denial_that_was_only_begun_is_500(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with pytest.raises(InvalidStatus) as refused:
        open_to(service, "/deny-raises").__enter__()
    assert refused.value.response.status_code == 500
    service.wait_log('"GET /deny-raises HTTP/1.1" 500 22')


@pytest.mark.parametrize("name", ["HUP", "TERM"])
def test_no_reload_or_stop_without_an_end(serve: Serve, name: str) -> None:
    service = serve("web:app", "--workers", "2", "--timeout-graceful-shutdown", "2")
    with ExitStack() as stack:
        clients = [stack.enter_context(open_to(service, "/echo")) for _ in range(20)]
        for client in clients:
            client.send("there")
            assert client.recv(timeout=20) == "there"
        os.kill(service.pid, getattr(signal, f"SIG{name}"))
        for client in clients:
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    if name == "HUP":
        service.wait_log("reloaded: 2 new workers serve")
        assert b"hello" in ask(service.address, b"GET /hello HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    "lines",
    [
        ("POST /echo HTTP/1.1", "Host: a"),
        ("GET /echo HTTP/1.0", "Host: a"),
        ("GET /echo HTTP/1.1",),
        ("GET /echo HTTP/1.1", "Host: a", "Host: b"),
        ("GET /echo HTTP/1.1", "Host: a", "Content-Length: 0", "Transfer-Encoding: chunked"),
    ],
)
def test_requests_that_are_not_a_handshake(serve: Serve, lines: tuple[str, ...]) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        fields = ("Connection: Upgrade", "Upgrade: websocket", KEY, VERSION)
        client.send("\r\n".join((*lines, *fields)).encode() + b"\r\n\r\n")
        client.half_close()
        assert not client.rest().startswith(b"HTTP/1.1 101")


def test_a_handshake_in_the_last_moment_has_its_end(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().body == b"hello"
        os.kill(service.pid, signal.SIGTERM)
        service.wait_log("stopping")
        time.sleep(0.2)
        head = ("GET /echo HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
        client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
        assert client.answer().status == 101
        assert client.exactly(4) == b"\x88\x02" + (1012).to_bytes(2, "big")
    assert service.process.wait(60) == 0
    assert "connections closed after" not in service.log()


def test_a_client_that_waits_for_the_application_is_alive(serve: Serve) -> None:
    """Pongs that the server does not read are no reason to end the connection."""
    limits = ("--ws-ping-interval", "0.2", "--ws-ping-timeout", "0.2")
    service = serve("web:app", "--workers", "1", *limits)
    with open_to(service, "/busy") as client:
        for _ in range(1000):
            client.send("x" * 200)
        client.send("end")
        assert client.recv(timeout=20) == "1000"


@pytest.mark.parametrize("frame", [b"\x82\x80\0\0\0\0", b"\x89\x80\0\0\0\0"], ids=["empty", "ping"])
def test_small_frames_are_not_taken_without_end(serve: Serve, frame: bytes) -> None:
    service = serve("web:app", "--workers", "1")
    client = Client(service.address)
    with client:
        head = ("GET /silent HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket")
        client.send("\r\n".join((*head, KEY, VERSION)).encode() + b"\r\n\r\n")
        assert client.answer().status == 101
        client.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            client.send(frame * 10_000_000)
