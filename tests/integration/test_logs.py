"""The log: its formats, its files, which can be opened again, and lines that no client forges."""

import base64
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import Client, get
from support.client import connect, receive_all
from support.service import Service, one_line, run, until

Serve = Callable[..., Service]


@pytest.fixture
def loop() -> str:
    """One loop is enough: these tests do not depend on it."""
    return "uvloop"


FORGED = 'x" 200 "\\ \x01\x7f\xe9 {"status": 1}'


def send(service: Service, *requests: bytes) -> None:
    for request in requests:
        with connect(service.address) as sock:
            sock.sendall(request)
            receive_all(sock)


def lines_of(path: Path, count: int) -> list[str]:
    until(lambda: path.exists() and path.read_text().count("\n") >= count, f"{count} lines")
    return path.read_text().splitlines()


def opened_to_all(folder: Path) -> None:
    """Let other users enter the folder."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            os.chmod(path, path.stat().st_mode | 0o011)


@pytest.mark.parametrize("kind", ["asgi3", "wsgi"])
def test_gunicorns_words(kind: str, serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "access"
    words = "%(h)s %(l)s %(u)s %(t)s|%(r)s|%(m)s %(U)s %(q)s %(H)s|%(s)s %(b)s %(B)s|%(f)s|%(a)s|"
    words += "%(T)s %(M)s %(D)s %(L)s %(p)s|%({X-Request-Id}i)s|%({content-type}o)s|100%%|%(queue)s"
    target = "web:app" if kind == "asgi3" else "old:app"
    options = ["--workers", "1", "--access-log-file", str(log), "--access-log-format", words]
    service = serve(target, "--interface", kind, *options)
    user = base64.b64encode(b"some one:secret").decode()
    send(
        service,
        get(
            '/hello?a="b"',
            "Connection: close",
            f"Authorization: Basic {user}",
            "Referer: http://before/",
            "User-Agent: test",
            "X-Request-Id: 17",
        ),
        b"nonsense\r\n\r\n",
    )
    first, second = lines_of(log, 2)
    found = re.fullmatch(
        r"127\.0\.0\.1 - some one \[[^\]]+\]\|GET /hello\?a=\\x22b\\x22 HTTP/1\.1\|GET /hello "
        r"a=\\x22b\\x22 HTTP/1\.1\|200 5 5\|http://before/\|test\|"
        r"0 \d+ \d+ 0\.\d{6} <\d+>\|17\|text/plain\|100%\|\d+\.\d{6}",
        first,
    )
    assert found, first
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[[^\]]+\]\|-\|- - - -\|400 - -\|-\|-\|- - - - <\d+>\|-\|-\|100%\|-",
        second,
    ), second


def test_json(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "access"
    options = ["--workers", "1", "--access-log-file", str(log), "--access-log-format", "json"]
    service = serve("web:app", *options, "--log-format", "json")
    send(
        service,
        get("/hello?a=1", "Connection: close", "User-Agent: te\xe9st"),  # sent as UTF-8
        b"GET http:/nowhere HTTP/1.1\r\n\r\n",
    )
    first, second = map(json.loads, lines_of(log, 2))
    assert 0 <= first.pop("seconds") < 30
    assert 0 <= first.pop("queue_seconds") < 30
    assert first.pop("pid") in service.owners()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "client": "127.0.0.1",
        "status": 200,
        "method": "GET",
        "path": "/hello",
        "query": "a=1",
        "protocol": "HTTP/1.1",
        "scheme": "http",
        "host": "a",
        "bytes": 5,
        "referer": None,
        "user_agent": "te\xc3\xa9st",
    }
    assert second.pop("time")
    assert (second.pop("client"), second.pop("status")) == ("127.0.0.1", 400)
    assert second.pop("pid") in service.owners()
    assert second == dict.fromkeys([*set(first) - {"client", "status"}, "seconds", "queue_seconds"])
    own = [json.loads(line) for line in service.log().splitlines()]
    assert [line["level"] for line in own] == ["info"]
    assert own[0]["message"].startswith("serving web:app")
    assert own[0]["pid"] == service.pid


@pytest.mark.parametrize("form", ['"%(a)s" %({x}i)s %(r)s %(f)s %(u)s', "json", None])
def test_nobody_forges_a_line(form: str | None, serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "access"
    more = [] if form is None else ["--access-log-format", form]
    service = serve("web:app", "--workers", "1", "--access-log-file", str(log), *more)
    forged = FORGED.encode("latin-1").replace(b"\x01", b"\t").replace(b"\x7f", b"")
    user = base64.b64encode(b'evil"\n127.0.0.1:x').decode()
    request = b'GET /hello?"{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: ' + forged
    request += b"\r\nX: " + forged + b"\r\nReferer: " + forged
    send(service, request + f"\r\nAuthorization: Basic {user}\r\n\r\n".encode())
    send(service, get("/hello", "Connection: close"))
    lines = lines_of(log, 2)
    assert len(lines) == 2
    assert lines[0].isascii()
    if form == "json":
        assert json.loads(lines[0])["status"] == 200
        assert json.loads(lines[0])["user_agent"] == forged.decode("latin-1").strip()
    else:
        assert lines[0].count('"') == 2
        assert "\\x0a127" in lines[0] or form is None


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("%(x)s", "%(x)s is not known; use h, l, u,"),
        ("%({x}e)s", "%({x}e)s is not known"),
        ("50% of it", "does not begin a known atom"),
        ("a\nb", "must not contain line breaks"),
    ],
)
def test_bad_formats(form: str, says: str, tmp_path: Path) -> None:
    out = run("serve", "--access-log-format", form, cwd=tmp_path)
    one_line(out, 2, "--access-log-format", says)


def test_files_are_opened_again(serve: Serve, tmp_path: Path) -> None:
    """USR1 opens the files again in every process, of any user; new workers use them, too."""
    folder = tmp_path / "logs"
    folder.mkdir()
    opened_to_all(tmp_path)
    os.chown(folder, 65534, 65534)
    access, own = folder / "access", folder / "own"
    files = ["--access-log-file", str(access), "--log-file", str(own)]
    service = serve("web:app", "--workers", "2", *files, "--user", "nobody", wait=False, bind=True)
    until(lambda: own.exists() and "serving" in own.read_text(), "it serves")
    found = re.search(r"on 127\.0\.0\.1:(\d+)", own.read_text())
    assert found
    address = ("127.0.0.1", int(found[1]))

    def ask(count: int) -> None:
        for _ in range(count):
            with Client(address) as client:
                client.send(get("/hello", "Connection: close"))
                assert client.answer().status == 200

    ask(20)
    assert len(lines_of(access, 20)) == 20
    assert os.stat(access).st_uid == os.stat(own).st_uid == 65534
    access.rename(folder / "access.1")
    own.rename(folder / "own.1")
    os.kill(service.pid, signal.SIGUSR1)
    until(lambda: own.exists() and f"log file {own} is reopened" in own.read_text(), "again")

    def anew() -> bool:
        ask(4)
        old = (folder / "access.1").read_text().count("\n")
        ask(8)
        return (folder / "access.1").read_text().count("\n") == old

    until(anew, "both workers have opened it again")
    os.kill(service.pid, signal.SIGHUP)
    until(lambda: "reloaded" in own.read_text(), "reloaded")
    before = access.read_text().count("\n")
    ask(20)
    until(lambda: access.read_text().count("\n") >= before + 20, "new workers write there, too")
    assert service.log() == ""


def test_links_do_not_make_root_write_elsewhere(serve: Serve, tmp_path: Path) -> None:
    """The folder's user may put links there. They are followed with that user's rights."""
    folder, secret = tmp_path / "logs", tmp_path / "secret"
    folder.mkdir()
    opened_to_all(tmp_path)
    os.chown(folder, 65534, 65534)
    secret.write_text("root's own\n")
    secret.chmod(0o600)
    access, own = folder / "access", folder / "own"
    files = ["--access-log-file", str(access), "--log-file", str(own), "--user", "nobody"]
    service = serve("web:app", "--workers", "1", *files, wait=False)
    until(lambda: own.exists() and "serving" in own.read_text(), "it serves")
    own.rename(folder / "own.1")
    access.rename(folder / "access.1")
    own.symlink_to(secret)
    access.symlink_to(tmp_path / "made")
    os.kill(service.pid, signal.SIGUSR1)
    until(lambda: (folder / "own.1").read_text().count("cannot be reopened") >= 4, "logged")
    assert secret.read_text() == "root's own\n"
    assert not (tmp_path / "made").exists()
    out = run("serve", "--log-file", str(own), "--user", "nobody", cwd=tmp_path)
    one_line(out, 1, "Permission denied")


def test_files_are_opened_again_while_it_stops(serve: Serve, tmp_path: Path) -> None:
    own = tmp_path / "own"
    service = serve("web:app", "--workers", "1", "--log-file", str(own), wait=False)
    until(lambda: own.exists() and "serving" in own.read_text(), "it serves")
    found = re.search(r"on 127\.0\.0\.1:(\d+)", own.read_text())
    assert found
    with Client(("127.0.0.1", int(found[1]))) as client:
        client.send(get(f"/wait?{tmp_path}/told"))
        until(lambda: sum(slot.open or 0 for slot in service.slots()) == 1, "it is served")
        os.kill(service.pid, signal.SIGTERM)
        until(lambda: "stopping" in own.read_text(), "it stops")
        own.rename(tmp_path / "own.1")
        os.kill(service.pid, signal.SIGUSR1)
        until(own.exists, "it is reopened")
    assert service.process.wait(30) == 0


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for option in ("--log-file", "--access-log-file"):
        out = run("serve", option, str(tmp_path / "no" / "log"), cwd=tmp_path)
        one_line(out, 1, option, "No such file or directory")
        (tmp_path / "c.json").write_text('{"version": 1, "root": {}}')
        out = run("serve", option, "x", "--log-config", "c.json", cwd=tmp_path)
        one_line(out, 2, option, "cannot be used with --log-config")


def test_health(serve: Serve) -> None:
    """The server answers, not the application; no log line; 503 while the service stops."""
    service = serve("web:app", "--workers", "1", "--health-path", "/healthy")
    with Client(service.address) as client, Client(service.address) as slow:
        for _ in range(2):
            client.send(get("/healthy"))
            assert (client.answer().status, client.sock.fileno() >= 0) == (200, True)
        client.send(get("/hello"))
        assert client.answer().status == 200
        slow.send(get("/slow"))
        client.send(get("/healthy")[:10])
        until(lambda: "/hello" in service.log(), "it is logged")
        os.kill(service.pid, signal.SIGTERM)
        service.wait_log("stopping")
        client.send(get("/healthy")[10:])
        assert client.answer().status == 503
    assert "healthy" not in service.log()
    out = run("serve", "--health-path", "healthy", cwd=Path("/"))
    one_line(out, 2, "--health-path", "begin it with /")
