"""WSGI (PEP 3333) as applications and clients see it, in threads and on the loop's own."""

import gzip
import json
import os
import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import over_tls
from support.by_hand import Client, ask, get
from support.service import Service, memory, until

from aiofastsocket.proc import children

Serve = Callable[..., Service]


def switches(pid: int) -> int:
    """The number of context switches of all threads of the process (proc(5))."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", "".join(texts))))


ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"])  # the loop does not matter


@pytest.fixture(params=["10", "0"], ids=lambda n: f"{n}-threads")
def threads(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def service(serve: Serve, threads: str) -> Service:
    return serve("old:app", "--workers", "1", "--wsgi-threads", threads)


@pytest.fixture(scope="module", params=["10-uvloop", "10-asyncio", "0-uvloop", "0-asyncio"])
def common(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One service for all tests that leave no trace: with 10 threads and with 0, on both loops."""
    threads, loop = request.param.split("-")
    made = Service(
        *("old:app", "--workers", "1", "--wsgi-threads", threads, "--loop", loop),
        cwd=tmp_path_factory.mktemp("common"),
    )
    yield made
    made.close()


def test_one_answer_after_another(common: Service) -> None:
    with Client(common.address) as client:
        client.send(get("/hello") + get("/parts") + get("/several") + get("/hello"))
        answers = [client.answer() for _ in range(4)]
        assert [a.body for a in answers] == [b"hello", b"one,two", b"one,two", b"hello"]
        assert answers[0].headers["content-length"] == "5"
        assert answers[1].headers["transfer-encoding"] == "chunked"
        client.send(get("/hello", method="HEAD"))
        assert client.answer(to="HEAD").headers["content-length"] == "5"
        client.send(get("/hello", version="1.0"))
        assert client.answer().body == b"hello"
        assert client.closed()


def test_the_environment(common: Service) -> None:
    fields = ("X-Two: a", "X-Two: b", "Cookie: c=1", "Cookie: d=2", "Content-Type: text/x")
    with Client(common.address) as client:
        name = client.sock.getsockname()
        client.send(get("/environ/a%20b%C3%A9?q=%20", *fields, "Content-Length: 1") + b"x")
        environ = json.loads(client.answer().body)
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/environ/a b\xc3\xa9"  # bytes, as Latin-1
    assert environ["QUERY_STRING"] == "q=%20"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/environ/a%20b%C3%A9?q=%20"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert [environ["SERVER_NAME"], int(environ["SERVER_PORT"])] == list(common.address)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (name[0], str(name[1]))
    assert (environ["HTTP_HOST"], environ["HTTP_X_TWO"]) == ("a", "a,b")
    assert environ["HTTP_COOKIE"] == "c=1; d=2"
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/x", "1")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == over_tls.scheme()
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.run_once"] is False


def test_a_mounted_application(serve: Serve) -> None:
    service = serve("old:app", "--workers", "1", "--root-path", "/api")
    environ = json.loads(ask(service, get("/environ")).body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/environ")


def test_behind_a_proxy(serve: Serve) -> None:
    fields = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    service = serve("old:app", "--workers", "1")
    environ = json.loads(ask(service, get("/environ", *fields)).body)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("192.0.2.7", "https")
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.7"


def test_names_with_underscores_are_not_handed_on(serve: Serve) -> None:
    """X_Forwarded_For and X-Forwarded-For would be one variable."""
    fields = ("X_Forwarded_For: 192.0.2.1", "X-Forwarded-For: 192.0.2.7", "X_Remote_User: root")
    service = serve("old:app", "--workers", "1")
    environ = json.loads(ask(service, get("/environ", *fields)).body)
    assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.7"
    assert "HTTP_X_REMOTE_USER" not in environ
    service = serve("old:app", "--workers", "1", "--wsgi-underscores")
    environ = json.loads(ask(service, get("/environ", *fields)).body)
    assert environ["HTTP_X_REMOTE_USER"] == "root"


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies(common: Service, size: int, chunked: bool) -> None:
    body = bytes(i % 251 for i in range(size))
    if chunked:
        request = get("/echo", "Transfer-Encoding: chunked", method="POST")
        request += b"%x\r\n%b\r\n" % (size, body) if size else b""
        request += b"0\r\n\r\n"
    else:
        request = get("/echo", f"Content-Length: {size}", method="POST") + body
    with Client(common.address) as client:
        client.send(request + get("/hello"))
        assert client.answer().body == body
        assert client.answer().body == b"hello"


def test_lines(common: Service) -> None:
    body = b"first\nsecond\nthird\n\nlast"
    for cut in (0, 3, 6, 15):  # where the parts of the body meet
        with Client(common.address) as client:
            client.send(get("/lines", f"Content-Length: {len(body)}", method="POST") + body[:cut])
            time.sleep(0.02)
            client.send(body[cut:])
            rest = [b"ond\n", b"third\n", b"\n", b"last"]
            assert (
                client.answer().body
                == repr([b"first\n", b"sec", rest, [b"", b"", [], []]]).encode()
            )
            client.send(get("/iterates", f"Content-Length: {len(body)}", method="POST") + body)
            assert client.answer().body == repr(body.splitlines(keepends=True)).encode()


def test_expect_100_continue(common: Service) -> None:
    with Client(common.address) as client:
        client.send(get("/echo", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc"


@ON_ONE_LOOP
def test_an_upload_is_not_kept_in_memory(service: Service) -> None:
    size = 300 << 20
    with Client(service.address) as client:
        client.send(get("/count", f"Content-Length: {size}", method="POST"))
        part = bytes(1 << 20)
        for _ in range(size >> 20):
            client.send(part)
        assert client.answer().body == b"%d" % size
    assert memory(service) < 100 * 1024


@ON_ONE_LOOP
def test_a_download_is_not_kept_in_memory(service: Service) -> None:
    with Client(service.address) as client:
        client.send(get("/megabytes?200"))
        time.sleep(0.3)
        assert memory(service) < 100 * 1024
        assert len(client.answer().body) == 200 << 20


@pytest.mark.parametrize("path", ["/waits", "/pause"])
def test_parts_are_sent_as_they_are_made(common: Service, tmp_path: Path, path: str) -> None:
    go_on = tmp_path / "go-on"
    with Client(common.address) as client:
        client.send(get(f"{path}?{go_on}"))
        assert client.until(b"first\r\n")
        go_on.touch()
        assert client.until(b"second\r\n")


def test_clients_that_leave_cost_no_thread(serve: Serve, tmp_path: Path) -> None:
    """The iterables for such clients are closed: PEP 3333."""
    told = tmp_path / "told"
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "2")
    for _ in range(5):
        with Client(service.address) as client:
            client.send(get(f"/long?{told}"))
            client.exactly(1000)
    until(lambda: told.exists() and told.read_text().count("closed") == 5, "all are closed")
    assert ask(service, get("/hello")).body == b"hello"
    for _ in range(5):  # clients leave in the middle of their body
        with Client(service.address) as client:
            client.send(get("/count", "Content-Length: 1000000", method="POST") + bytes(100_000))
    assert ask(service, get("/hello")).body == b"hello"
    assert service.stop() == 0
    assert "Traceback" not in service.log()


def test_files(common: Service, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12" + bytes(range(256)) * 4096)
    with Client(common.address) as client:
        client.send(get(f"/file?{path}") + get("/no-file") + get("/hello"))
        answer = client.answer()
        assert answer.body == bytes(range(256)) * 4096
        assert client.answer().body == b"no file"
        assert client.answer().body == b"hello"
    (worker,) = children(common.pid)
    until(lambda: str(path) not in _open_files(worker), "the file is closed")


def _open_files(pid: int) -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_files_that_are_no_more_than_files(common: Service, tmp_path: Path) -> None:
    """The body has already begun, is decoded on the way, or has a size that the kernel hides."""
    plain, coded = tmp_path / "plain", tmp_path / "coded"
    plain.write_bytes(b"in the file")
    coded.write_bytes(gzip.compress(b"in the file" * 1000))
    assert ask(common, get(f"/writes-then-file?{plain}")).body == b"written,in the file"
    assert ask(common, get(f"/coded-file?{coded}")).body == b"in the file" * 1000
    assert b"pid" in ask(common, get("/file?/proc/self/status")).body.lower()


@ON_ONE_LOOP
def test_clients_that_close_their_half_get_their_files(service: Service, tmp_path: Path) -> None:
    """Other events for a call, while its file is sent, do not end the file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(4 << 20))
    for _ in range(20):
        with Client(service.address) as client:
            client.send(get(f"/file?{path}"))
            client.half_close()
            assert len(client.answer().body) == (4 << 20) - 2
    assert ask(service, get("/hello")).body == b"hello"
    assert "Traceback" not in service.log()


@ON_ONE_LOOP
@pytest.mark.parametrize("blocked", ["sleeps", "stalled upload", "slow reader"])
def test_a_call_that_waits_holds_no_other_up(serve: Serve, blocked: str) -> None:
    """A single call comes while a thread is already occupied by another."""
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "2")
    for _ in range(3):
        with Client(service.address) as slow:
            if blocked == "sleeps":
                slow.send(get("/sleep?1"))
            elif blocked == "stalled upload":
                slow.send(get("/count", "Content-Length: 200000", method="POST") + bytes(100_000))
            else:
                slow.send(get("/megabytes?100"))
            time.sleep(0.15)
            with Client(service.address) as client:
                client.sock.settimeout(0.8 if blocked == "sleeps" else 10)
                client.send(get("/hello"))
                assert client.answer().body == b"hello"


@ON_ONE_LOOP
def test_bursts_lose_no_call(serve: Serve) -> None:
    """Threads are woken by the loop, by a follower, or by both at once."""
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "2", "--no-access-log")
    clients = [Client(service.address) for _ in range(16)]
    chance = random.Random(1)
    for _ in range(60):
        for client in clients:
            client.send(get("/hello") * 3)
        for client in clients:
            assert [client.answer().body for _ in range(3)] == [b"hello"] * 3
        time.sleep(chance.choice([0, 0.001, 0.002, 0.12]))
    for client in clients:
        client.sock.close()


def test_an_answer_that_is_over_reads_no_more(serve: Serve) -> None:
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "2")
    head = get("/too-much-then-reads", "Content-Length: 200000", method="POST")
    for _ in range(3):
        with Client(service.address) as client:
            client.send(head + bytes(100_000))
            client.rest()
    assert ask(service, get("/hello")).body == b"hello"
    assert service.stop() == 0


@ON_ONE_LOOP
def test_what_is_said_while_a_part_is_sent_is_not_lost(serve: Serve) -> None:
    """A large part is sent without the GIL: meanwhile its thread may go on, and end."""
    service = serve("old:app", "--workers", "1")

    def asks(pause: int) -> list[int]:
        sizes = []
        for _ in range(50):
            with Client(service.address) as client:
                client.send(get(f"/large-parts?{pause}", "Connection: close"))
                sizes.append(len(client.answer().body))
        return sizes

    with ThreadPoolExecutor(4) as pool:
        for sizes in pool.map(asks, [10, 20, 50, 100]):
            assert sizes == [60000] * 50
    assert "ERROR" not in service.log()


@ON_ONE_LOOP
@pytest.mark.parametrize("waits", ["continue", "body", "file", "room"])
def test_a_thread_that_waits_for_its_client_sleeps(
    serve: Serve, tmp_path: Path, waits: str
) -> None:
    """The loop sleeps, too: neither wakes the other again and again."""
    large = tmp_path / "large"
    large.write_bytes(bytes(30 << 20))
    request = {
        "continue": get("/echo", "Expect: 100-continue", "Content-Length: 10", method="POST"),
        "body": get("/echo", "Content-Length: 200010", method="POST") + bytes(200000),
        "file": get(f"/file?{large}"),
        "room": get("/megabytes?30"),
    }[waits]
    service = serve("old:app", "--workers", "1")
    (worker,) = service.owners()
    with Client(service.address) as client:
        client.send(request)
        client.sock.recv(1 if waits in ("file", "room") else 0)
        time.sleep(0.5)  # until all work is done
        before = switches(worker)
        time.sleep(0.5)
        # One thread checks the others: about a hundred switches. Spinning would make thousands.
        assert switches(worker) - before < 400


def test_two_threads_of_one_call_may_wait(serve: Serve) -> None:
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "2")
    with Client(service.address) as client:
        client.send(get("/two-wait", "Content-Length: 200000", method="POST") + bytes(100_000))
        time.sleep(0.2)
        client.send(bytes(100_000))
        assert client.answer().body.endswith(b"joined")


def test_writes_and_another_head(common: Service) -> None:
    assert ask(common, get("/writes")).body == b"written,returned"
    answer = ask(common, get("/another-head"))
    assert (answer.status, answer.body, answer.headers["x-own"]) == (503, b"sorry", "yes")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/raises", "RuntimeError: not today"),
        ("/start-twice", "start_response was called twice"),
        ("/no-start", "before it called start_response"),
        ("/text", "a WSGI application sent 'str'"),
        ("/splits", "control characters"),
        ("/status?OK", "status 'OK': write it as '200 OK'"),
        ("/status?100%20Continue", "use 200 to 599"),
        ("/length?2", "longer than its content-length"),
        ("/length?20", "shorter than its content-length"),
    ],
)
def test_what_is_wrong_is_500_and_told_once(common: Service, path: str, told: str) -> None:
    before = common.log()
    with Client(common.address) as client:
        client.send(get(path))
        assert client.answer().status == 500
    until(lambda: told in common.log()[len(before) :], "the error is logged")
    assert common.log()[len(before) :].count("exception in the application") == 1
    assert ask(common, get("/hello")).body == b"hello"


@over_tls.not_over_tls("the client sees it by the end that is not said")
@pytest.mark.parametrize("path", ["/raises-late", "/too-late"])
def test_what_is_wrong_in_a_body_ends_it_unfinished(common: Service, path: str) -> None:
    with Client(common.address) as client:
        client.send(get(path))
        assert client.rest().endswith(b"a part\r\n")
    assert ask(common, get("/hello")).body == b"hello"


def test_threads_are_as_many_as_are_needed(serve: Serve) -> None:
    """One thread is enough as long as it gets on; others start when it waits."""
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "4")
    names = set()
    for _ in range(20):
        names.add(ask(service, get("/thread")).body)
    assert names <= {b"wsgi-1", b"wsgi-2"}
    clients = [Client(service.address) for _ in range(5)]
    for client in clients:
        client.send(get("/slow"))
    began = time.monotonic()
    assert [client.answer().body for client in clients] == [b"slow"] * 5
    took = time.monotonic() - began
    for client in clients:
        client.sock.close()
    (worker,) = children(service.pid)
    wsgi = [t for t in os.listdir(f"/proc/{worker}/task")]
    assert 4 <= len(wsgi) - 1 <= 6, took


@ON_ONE_LOOP
def test_one_thread_alone(serve: Serve) -> None:
    """No thread follows it: it tells the loop of each answer."""
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "1")
    with Client(service.address) as slow, Client(service.address) as client:
        client.send(get("/hello") + get("/parts") + get("/hello"))
        assert [client.answer().body for _ in range(3)] == [b"hello", b"one,two", b"hello"]
        slow.send(get("/slow"))
        client.send(get("/thread"))
        assert slow.answer().body == b"slow"
        assert client.answer().body == b"wsgi-1"


def test_on_the_loops_own_thread(serve: Serve) -> None:
    service = serve("old:app", "--workers", "1", "--wsgi-threads", "0")
    assert ask(service, get("/thread")).body == b"MainThread"


def test_a_worker_that_waits_is_helped(serve: Serve) -> None:
    """Without threads, its siblings take the connections that come meanwhile."""
    service = serve("old:app", "--workers", "2", "--wsgi-threads", "0")
    with Client(service.address) as slow:
        slow.send(get("/slow"))
        for _ in range(10):
            assert ask(service, get("/hello")).body == b"hello"
        assert slow.answer().body == b"slow"


def test_requests_in_progress_are_answered_at_the_end(service: Service) -> None:
    with Client(service.address) as client:
        client.send(get("/slow"))
        time.sleep(0.1)
        assert service.stop() == 0
        assert client.answer().body == b"slow"
