"""Each limit of a request, a connection and a worker, and the answer when it is exceeded."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from support.by_hand import Client, get
from support.service import Service, memory

Serve = Callable[..., Service]

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


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
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 400, 431),  # the head does not end
        (b"GET /" + b"y" * 400, 414),
    ]
    for request, status in cases:
        with Client(service.address) as client:
            client.send(request)
            assert client.answer().status == status, request
            assert (status == 200) or client.closed()
    # Heads in pieces, the first piece behind another request: that piece counts, too.
    first, last = b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 150 + b"\r\n", b"\r\n"
    for more, status in ((b"", 200), (b"Y: " + b"y" * 50 + b"\r\n", 431)):
        with Client(service.address) as client:
            client.send(get("/hello") + first)
            assert client.answer().status == 200
            client.send(more + last)
            assert client.answer().status == status


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
    with Client(service.address) as client:  # no body: not the time between requests
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
    with Client(service.address) as client:  # none of these times limits the application
        client.send(get("/slow"))
        assert client.answer().body == b"slow"


def test_time_in_which_we_do_not_read_does_not_count(serve: Serve, tmp_path: Path) -> None:
    times = ("--timeout-request-head", "0.15", "--timeout-request-body", "0.3")
    service = serve("web:app", *times, "--workers", "1", "--no-defer-accept")
    half, rest = HELLO[:20], HELLO[20:]
    with Client(service.address) as client:
        client.send(get("/slow"))
        time.sleep(0.05)
        client.send(HELLO + half)
        time.sleep(0.05)
        client.send(rest)
        assert [client.answer().body for _ in range(3)] == [b"slow", b"hello", b"hello"]
    path = tmp_path / "large"
    path.write_bytes(bytes(30 << 20))
    with Client(service.address) as client:  # the body comes while the file is sent
        client.send(get(f"/file?{path}", "Content-Length: 3", method="POST"))
        time.sleep(0.1)
        client.send(b"abc" + HELLO)
        time.sleep(0.7)
        assert len(client.answer().body) == 30 << 20
        assert client.answer().body == b"hello"
    with Client(service.address) as client:  # but a body that does not come times out
        client.send(get("/part-first", "Content-Length: 3", "Expect: 100-continue"))
        assert client.rest().endswith(b"a part\r\n")


def test_the_next_head_has_its_own_time(serve: Serve) -> None:
    service = serve("web:app", "--timeout-keep-alive", "0.2", "--workers", "1")
    with Client(service.address) as client, Client(service.address) as slow:
        for one in (client, slow):
            one.send(HELLO + HELLO[:20])
            assert one.answer().body == b"hello"
        time.sleep(0.6)
        client.send(HELLO[20:])
        assert client.answer().body == b"hello"
        time.sleep(0.6)
        service.send(signal.SIGTERM)
        service.wait_log("stopping")
        time.sleep(0.2)
        slow.send(HELLO[20:])
        assert slow.answer().body == b"hello"


def test_a_slow_reader_is_waited_for(serve: Serve) -> None:
    """The time between requests begins when the client has the answer."""
    service = serve("web:app", "--workers", "1", "--timeout-keep-alive", "0.3")
    with Client(service.address) as client:
        client.send(get("/megabytes?30"))
        time.sleep(0.8)
        client.send(HELLO)
        time.sleep(0.8)
        assert len(client.answer().body) == 30 << 20
        assert client.answer().body == b"hello"


def test_a_client_that_does_not_read_costs_no_memory(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(get("/megabytes?1") * 150)
        time.sleep(1)
        assert memory(service) < 100 * 1024
        for _ in range(150):
            assert len(client.answer().body) == 1 << 20
    assert memory(service) < 100 * 1024


def test_a_large_body_is_kept_once(serve: Serve) -> None:
    """The application's body is not copied while a slow client reads it."""
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(HELLO)
        assert client.answer().body == b"hello"
        before = memory(service)
        client.send(get("/huge?100"))
        time.sleep(0.5)
        assert len(client.answer().body) == 100 << 20
    assert memory(service) - before < 120 * 1024


def test_another_connections_disconnection_is_an_error(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "from aiofastsocket.errors import ClientDisconnected\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    raise ClientDisconnected('of another connection')\n"
    )
    service = serve("other:app", "--app-dir", str(tmp_path), "--workers", "1")
    with Client(service.address) as client:
        client.send(HELLO)
        assert client.answer().status == 500
    assert service.log().count("ClientDisconnected: of another connection") == 1


def test_fields_are_counted_as_they_come(serve: Serve) -> None:
    """A short field takes much more room in memory than on the wire."""
    service = serve("web:app", "--workers", "1")
    with Client(service.address) as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 101)
        assert client.answer().status == 431


def test_in_a_groups_task_a_client_that_is_gone_is_no_error(serve: Serve) -> None:
    service = serve("web:app", "--workers", "1")
    for query in ("", "?fails"):
        with Client(service.address) as client:
            client.send(get(f"/group{query}"))
            client.exactly(15)
    service.wait_log("ValueError: its own")
    assert service.log().count("exception in the application") == 1


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
