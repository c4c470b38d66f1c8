"""Command lines, variables and files of people who come from gunicorn and uvicorn.

They work, or one line names the option that does. Each line of docs/gunicorn.md is tried.
"""

import grp
import os
import pwd
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from gunicorn.config import KNOWN_SETTINGS, Config
from support.client import connect
from support.service import Service, one_line, run, until

from aiofastsocket.server.elsewhere import OPTIONS as ELSEWHERE
from aiofastsocket.server.options import OPTIONS

Serve = Callable[..., Service]
ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)  # the loop does not matter

OURS = {name for option in OPTIONS for name in (option.flag, option.short) if name}
PAGE = (Path(__file__).parents[2] / "docs" / "gunicorn.md").read_text()
LINES = re.findall(r"^\| `([^`]+)` \| (.*) \|$", PAGE.partition("## Habits")[0], re.MULTILINE)
GRANIAN = re.findall(
    r"^\| `[^`]+` \| `([^`]+)` \|$",
    (Path(__file__).parents[2] / "docs" / "granian.md").read_text().partition("## Different")[0],
    re.MULTILINE,
)
WSGI = """
import atexit, os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi"]

application = app

def create_app():
    return app

atexit.register(lambda: os.write(1, b"the end of %d\\n" % os.getpid()))
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["type"].encode()})
"""


@pytest.fixture
def folder(certificate: Path) -> Iterator[Path]:
    """A folder with the programs and files that the page names; any user may read it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "app.py").write_text(WSGI)
        (folder / "asgi.py").write_text(ASGI)
        for package, module in (("mysite", "wsgi.py"), ("project", "app.py")):
            (folder / package).mkdir()
            (folder / package / module).write_text(WSGI)
        (folder / "cert.pem").write_bytes(certificate.read_bytes())
        (folder / "key.pem").write_bytes(certificate.with_name("key.pem").read_bytes())
        (folder / "log.json").write_text(example("json"))
        yield folder


def example(language: str) -> str:
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0])


def listens(path: Path) -> bool:
    """Whether a connection is accepted: the file exists earlier, from bind(2) on."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def get(path: Path, scheme: str = "http") -> httpx.Response:
    transport = httpx.HTTPTransport(uds=str(path), verify=False)
    with httpx.Client(transport=transport) as client:
        return client.get(f"{scheme}://localhost/")


def flags_of_gunicorn() -> set[str]:
    return {flag for setting in KNOWN_SETTINGS for flag in setting.cli or ()}


def flags_of_uvicorn() -> set[str]:
    out = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--help"], capture_output=True, text=True, check=True
    )
    lines = re.findall(r"^  (--[a-z0-9-]+)(?: / (--[a-z0-9-]+))?", out.stdout, re.MULTILINE)
    return {flag for line in lines for flag in line if flag}


def test_each_option_of_the_others_is_known() -> None:
    gunicorn, uvicorn = flags_of_gunicorn(), flags_of_uvicorn()
    assert len(gunicorn) > 80
    assert len(uvicorn) > 40
    negated = {flag.replace("--", "--no-", 1) for flag in OURS}
    known = OURS | ELSEWHERE.keys() | negated | {"--version", "--help"}
    assert not (gunicorn | uvicorn) - known
    assert not ELSEWHERE.keys() & OURS
    assert not ELSEWHERE.keys() - gunicorn - uvicorn
    named = {flag for text in ELSEWHERE.values() for flag in re.findall(r"--[a-z-]+[a-z]", text)}
    assert named - {"--help", "--json"} <= OURS


@pytest.mark.programs  # one service per line: `make test-programs`
@pytest.mark.parametrize("line", LINES, ids=[line[0] for line in LINES])
def test_a_line_of_the_page(line: tuple[str, str], folder: Path) -> None:
    theirs, here = shlex.split(line[0]), line[1]
    parsed = Config().parser().parse_args(theirs)
    assert vars(parsed)["args"] or parsed.wsgi_app
    if not here.startswith("`"):
        one_line(run("serve", *theirs, cwd=folder), 2, "here: ")
        return
    prefix, _, ours = here.strip("`").rpartition("aiofastsocket serve ")
    # Another user may not be allowed to read this Python.
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    ours = ours.replace("nobody", user).replace("nogroup", group)
    if line[0] != here.strip("`"):
        flags = [word for word in shlex.split(ours) if word[0] == "-" and word not in theirs]
        one_line(run("serve", *theirs, cwd=folder), 2, "--factory" if "()" in here else "", *flags)
    # Run it as the shell would, but with the server in the place of the shell.
    shell = prefix.replace(";", "; exec") if ";" in prefix else f"exec {prefix}"
    service = Service(
        *shlex.split(ours),
        *("-b", "unix:it.sock", "--app-dir", str(folder))[: 2 if "--app-dir" in ours else 4],
        cwd=folder,
        wait=False,
        wrapper=("sh", "-c", f'{shell} "$@"', "sh") if prefix else (),
    )
    try:
        if "--check-config" in theirs:
            assert service.process.wait(30) == 0
            return
        until(lambda: listens(folder / "it.sock"), "it listens")
        scheme = "https" if "ssl" in ours else "http"
        assert get(folder / "it.sock", scheme).text in ("wsgi", "http")
        service.process.terminate()
        assert service.process.wait(30) == 0
    finally:
        service.close()


@pytest.mark.programs
@pytest.mark.parametrize("line", GRANIAN)
def test_a_line_of_granians_page(line: str, folder: Path) -> None:
    (folder / "ca.pem").write_bytes((folder / "cert.pem").read_bytes())
    (folder / "wsgi.py").write_text(WSGI)
    (folder / ".env").touch()
    names = "--app-dir", str(folder)
    words = [*shlex.split(line), *(names if "--app-dir" not in line else ())]
    done = run("serve", "--check-config", *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@ON_ONE_LOOP
def test_log_files_that_are_rotated(serve: Serve, folder: Path, tmp_path: Path) -> None:
    files = ("--log-config", str(folder / "log.json"), "--app-dir", str(folder))
    service = serve("app:app", "-b", "unix:it.sock", *files, wait=False)
    until(lambda: listens(tmp_path / "it.sock"), "it listens")
    until(lambda: "serving app:app" in (tmp_path / "error.log").read_text(), "it serves")
    access = tmp_path / "access.log"
    for number in range(2):
        assert get(tmp_path / "it.sock").text == "wsgi"
        until(lambda: access.read_text().count("GET") == 1, "the line is written")
        access.rename(tmp_path / f"access.log.{number}")
        access.touch()
    assert service.stop() == 0
    for file in tmp_path.glob("*.log*"):
        file.unlink()


def test_a_configuration_in_python(folder: Path) -> None:
    (folder / "conf.py").write_text(example("python"))
    with subprocess.Popen([sys.executable, "conf.py"], cwd=folder) as process:
        until(lambda: listens(folder / "app.sock"), "it listens")
        assert get(folder / "app.sock").text == "wsgi"
        process.terminate()
        assert process.wait(30) == 0


@ON_ONE_LOOP
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_programs_own_end(serve: Serve, folder: Path, preload: tuple[str, ...]) -> None:
    """atexit functions run only in the processes that registered them."""
    service = serve("app:app", "--workers", "2", "--app-dir", str(folder), *preload)
    workers = service.workers()
    assert service.stop() == 0
    ends = re.findall(r"^the end of (\d+)$", service.log(), re.MULTILINE)
    assert sorted(map(int, ends)) == ([service.pid] if preload else sorted(workers))


@ON_ONE_LOOP
def test_an_address_of_the_environment(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    service = serve("targets:asgi", "--fd", "0", env={"PORT": "x"}, wait=False)  # $PORT is not read
    assert service.process.wait(30) == 2
    assert "fd://0 is not a socket" in service.log()
    service = serve("targets:asgi", "--workers", "1", env={"PORT": str(port)}, bind=False)
    assert f"serving targets:asgi on 0.0.0.0:{port} ($PORT): 1 worker " in service.log()


@pytest.mark.parametrize("port", ["", "http", "65536", "-1"])
def test_an_invalid_port(tmp_path: Path, port: str) -> None:
    out = run("serve", cwd=tmp_path, env={"PORT": port})
    one_line(out, 2, f"$PORT {port}: use ", "0 to 65535")


@ON_ONE_LOOP
def test_settings_that_are_not_read_are_named(serve: Serve, tmp_path: Path) -> None:
    line = "ignored, give the options on the command line: "
    assert line not in serve("targets:asgi").log()
    (tmp_path / "gunicorn.conf.py").write_text("workers = 9\n")
    env = {"UVICORN_PORT": "1", "UVICORN_HOST": "x", "GUNICORN_CMD_ARGS": "-w 9"}
    names = "UVICORN_HOST, UVICORN_PORT, GUNICORN_CMD_ARGS and gunicorn.conf.py\n"
    assert serve("targets:asgi", env=env).log().count(line + names) == 1
    (tmp_path / "gunicorn.conf.py").unlink()


@pytest.mark.parametrize(
    "arguments", [("app:app",), ("mysite.wsgi", "-w", "4"), ("--workers", "2", "app:app")]
)
def test_a_command_that_is_missing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    out = run(*arguments, cwd=tmp_path)
    one_line(out, 2, f"did you mean aiofastsocket serve {' '.join(arguments)}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("app:app", "-t", "30"), "-t (here: --timeout-worker)"),
        (("app:app", "--keyfile=x"), "--keyfile (here: --ssl-keyfile)"),
        (("-kgevent", "app:app"), "-k (here: leave it out: the kind of program is detected"),
        (
            ("--http", "h11"),
            "--http h11: the server has its own HTTP parser; leave --http out",
        ),
        (("--ws", "wsproto"), "--ws wsproto: use websockets, or none"),
        (("--loop", "none"), "--loop none: use asyncio"),
        (("--log-level", "trace"), "--log-level trace: use debug"),
        (("--interface", "asgi2"), "--interface asgi2: ASGI 2 is not supported"),
        (("app.py",), "target 'app.py' is a file: write app:attribute"),
        (("app:make('x')",), "write app:make --factory, for a function without parameters"),
        (("json", "-b", "127.0.0.1:0"), "has neither 'application' nor 'app'"),
    ],
)
def test_other_servers_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    one_line(run("serve", *arguments, cwd=tmp_path), 2, words)


FORMS = """
from asgi import app

async def any_number(*args):
    await app(*args)

async def defaults(scope, receive=None, send=None):
    await app(scope, receive, send)

async def rest(scope, receive, *others):
    await app(scope, receive, *others)

def plain(scope, receive, send):
    return app(scope, receive, send)

class Called:
    async def __call__(self, scope, *rest):
        await app(scope, *rest)

called = Called()

class Awaited:
    def __init__(self, scope, receive, send):
        self.made = app(scope, receive, send)
    def __await__(self):
        return self.made.__await__()

def wsgi(environ, start_response=None):
    start_response("200 OK", [])
    return [b"wsgi"]

def any_wsgi(*args):
    return wsgi(*args)

class Iterated:
    def __init__(self, environ, start_response):
        start_response("200 OK", [])
    def __iter__(self):
        yield b"wsgi"
"""


@ON_ONE_LOOP
@pytest.mark.parametrize(
    ("name", "interface"),
    [(name, "auto") for name in ("any_number", "defaults", "rest", "plain", "called", "Awaited")]
    + [(name, "auto") for name in ("wsgi", "any_wsgi", "Iterated")]
    + [("any_number", "asgi3"), ("any_wsgi", "wsgi")],
)
def test_forms_of_an_application(serve: Serve, folder: Path, name: str, interface: str) -> None:
    (folder / "forms.py").write_text(FORMS)
    ways = ("--interface", interface, "--app-dir", str(folder), "--workers", "1")
    service = serve(f"forms:{name}", *ways)
    host, port = service.address
    answer = httpx.get(f"http://{host}:{port}/")
    assert answer.text == ("wsgi" if name in ("wsgi", "any_wsgi", "Iterated") else "http")


@ON_ONE_LOOP
def test_no_websockets(serve: Serve, folder: Path) -> None:
    """With --ws none, a request for a WebSocket is an ordinary request."""
    for ws, answer in (("none", b"200 OK"), ("auto", b"403 Forbidden")):
        service = serve("asgi:app", "--app-dir", str(folder), "--ws", ws, "--workers", "1")
        with connect(service.address) as sock:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert answer in sock.recv(1000)
