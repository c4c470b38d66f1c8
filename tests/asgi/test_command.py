"""The command does what people expect: reload, logs, WSGI, and the same from Python."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import Client
from support.over_tls import not_over_tls
from support.service import Service, program, run, until

from aiofastsocket import UsageError
from aiofastsocket.server.arguments import from_python

Serve = Callable[..., Service]

UVICORN = Path(__file__).parents[2] / "docs" / "uvicorn.md"

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": b"{text}"}})
"""


def save(source: Path, text: str) -> None:
    """Replace the file at once: half of it is not a valid program."""
    new = source.with_suffix(".new")
    new.write_text(text)
    new.replace(source)


def body_of(service: Service) -> bytes:
    with Client(service.address) as client:
        client.send(HELLO)
        return client.answer().body


@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
def test_what_reload_watches(serve: Serve, tmp_path: Path) -> None:
    save(tmp_path / "changing.py", APP.format(text="one"))
    folder = tmp_path / "pages"
    folder.mkdir()
    (tmp_path / "away" / "pages").mkdir(parents=True)
    options = ["--app-dir", str(tmp_path), "--workers", "1", "--reload", "--reload-delay", "0.2"]
    options += ["--reload-include", "pages/*.html", "--reload-exclude", "old*"]
    options += ["--reload-exclude", "away", "--reload-exclude", "b.py"]
    service = serve("changing:app", *options)

    def changed() -> bool:  # repeat the change: the watcher may not watch yet
        for name in ("old.html", "a.txt", "b.py", "new.html"):
            save(folder / name, "x")
            save(tmp_path / name, "x")
            save(tmp_path / "away" / "pages" / name, "x")
        return "changed" in service.log()

    until(changed, "the change is noticed")
    service.wait_log("reloaded: 1 new worker")
    told = re.findall(r"INFO (.*) changed", service.log())
    assert set(told) == {"new.html"}


def test_reload_when_a_file_changes(serve: Serve, tmp_path: Path) -> None:
    source = tmp_path / "changing.py"
    save(source, APP.format(text="one"))
    service = serve("changing:app", "--app-dir", str(tmp_path), "--reload", "--workers", "2")
    assert body_of(service) == b"one"
    tries = 0

    def changed() -> bool:  # repeat the change: the watcher may not watch yet
        nonlocal tries
        tries += 1
        save(source, APP.format(text=f"two{tries}"))
        return service.log().count("changing.py changed") > 0

    until(changed, "the change is noticed")
    service.wait_log("reloaded: 2 new workers serve")
    until(lambda: body_of(service).startswith(b"two"), "the new program serves")
    save(source, "this is no Python\n")
    service.wait_log("the old workers continue to serve")
    until(lambda: body_of(service).startswith(b"two"), "none of the first program is left")
    # The text has another length: Python knows compiled files by their length and second.
    save(source, APP.format(text="the third"))
    until(lambda: body_of(service) == b"the third", "the third program serves")
    assert service.stop() == 0


def test_reload_waits_for_a_program_that_starts(tmp_path: Path) -> None:
    source = tmp_path / "broken.py"
    save(source, "def x(:\n")
    service = Service(
        *("broken:app", "--app-dir", str(tmp_path), "--reload", "--workers", "2"),
        cwd=tmp_path,
        wait=False,
    )
    try:
        service.wait_log("SyntaxError")

        def saved() -> bool:  # repeat the change, as above
            save(source, "def x(:\n")
            return service.log().count("SyntaxError") > 1

        until(saved, "the error is logged again")

        save(source, APP.format(text="mended"))
        service.wait_log("serving broken:app")
        assert body_of(service) == b"mended"
        assert service.stop() == 0
    finally:
        service.close()


def test_workers_as_the_environment_says(serve: Serve) -> None:
    env = {"WEB_CONCURRENCY": "3"}
    assert "3 workers" in serve("web:app", env=env).log()
    assert "1 worker " in serve("web:app", "--workers", "1", env=env).log()


def test_one_worker_says_that_there_is_no_lifespan(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(APP.format(text="x"))
    service = serve("plain:app", "--app-dir", str(tmp_path), "--workers", "2")
    assert service.log().count("no lifespan (startup raised AssertionError())") == 1


def test_reload_needs_the_program_anew(tmp_path: Path) -> None:
    done = run("serve", "web:app", "--reload", "--preload", cwd=tmp_path)
    assert done.returncode == 2
    assert "--reload cannot be used with --preload" in done.stderr


def test_wsgi(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(
        "def app(environ, start_response):\n"
        "    body = environ['wsgi.input'].read()\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [environ['REQUEST_METHOD'].encode(), b' ', body]\n"
    )
    for interface in ("auto", "wsgi"):
        service = serve("old:app", "--app-dir", str(tmp_path), "--interface", interface)
        with Client(service.address) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            assert client.answer().body == b"POST abc"
        assert service.stop() == 0


def test_log_config(serve: Serve, tmp_path: Path) -> None:
    file = {"class": "logging.FileHandler", "formatter": "own"}
    config = {
        "version": 1,
        "formatters": {"own": {"format": "%(name)s|%(message)s"}},
        "handlers": {
            "all": {**file, "filename": str(tmp_path / "all.log")},
            "access": {**file, "filename": str(tmp_path / "access.log")},
        },
        "loggers": {
            "aiofastsocket": {"handlers": ["all"]},
            "aiofastsocket.access": {"handlers": ["access"], "propagate": False},
        },
    }
    path = tmp_path / "logging.json"
    path.write_text(json.dumps(config))
    service = serve("web:app", "--log-config", str(path), "--workers", "1", wait=False)
    log, access = tmp_path / "all.log", tmp_path / "access.log"
    until(lambda: log.exists() and "serving" in log.read_text(), "it serves")
    port = int(log.read_text().partition("127.0.0.1:")[2].partition(":")[0])
    with Client(("127.0.0.1", port)) as client:
        client.send(HELLO)
        assert client.answer().body == b"hello"
    until(lambda: "GET /hello" in access.read_text(), "the access is in its file")
    assert access.read_text().startswith("aiofastsocket.access|127.0.0.1 - - [")
    assert service.stop() == 0
    assert service.log() == ""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("log.json", "{", "Expecting property name"),
        ("log.json", '{"version": 2}', "Unsupported version"),
        ("log.ini", "nothing", "log.ini"),
        ("log.conf", "", ".json or .ini"),
        ("missing.json", None, "No such file"),
    ],
)
def test_bad_log_configs(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    done = run("serve", "--log-config", str(path), "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@not_over_tls("it is given its options by itself")
def test_from_python(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    (example,) = re.findall(r"```python\n(.*?)```", UVICORN.read_text(), re.DOTALL)
    call = "aiofastsocket.serve(app, port=8000, workers=2)"
    assert call in example
    more = f"{call[:-1].replace('8000', str(port))}, headers=[(b'x-a', b'1')], http='httptools', "
    more += "log_config={'version': 1, 'handlers': {'h': {'class': 'logging.StreamHandler'}}, "
    more += "'root': {'level': 'INFO', 'handlers': ['h']}})"  # all logs go there, ours too
    (tmp_path / "main.py").write_text(example.replace(call, f"{more}\n    print('over')"))
    with subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        given = False
        line = process.stderr.readline()
        while "serving __main__" not in line:  # an earlier line says that it has no lifespan
            assert line, "it ended"
            line = process.stderr.readline()
        assert "app on 127.0.0.1" in line
        with Client(("127.0.0.1", port)) as client:
            client.send(HELLO)
            answer = client.answer()
        assert (answer.body, answer.headers["x-a"]) == (b"Hello, world!\n", "1")
        process.send_signal(signal.SIGHUP)
        while "new workers serve" not in (line := process.stderr.readline()):
            assert line, "it ended"
            given = given or "not reloaded (given as an object, not by name)" in line
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert out.endswith("over\n")
    assert given
    assert "Traceback" not in err


def test_from_python_a_failed_start_is_an_exit_code(tmp_path: Path) -> None:
    code = (
        "import aiofastsocket\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
        "aiofastsocket.serve(app, port=0, workers=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.count(b"no database") == 1
    assert b"Traceback" not in done.stderr


def test_the_page_for_those_who_come_from_uvicorn(tmp_path: Path) -> None:
    """Each option that the page calls the same exists here and in uvicorn."""
    same = re.search(r"## The same\n(.*?)\n## Different", UVICORN.read_text(), re.DOTALL)
    assert same
    options = set(re.findall(r"--[a-z-]+", same[1].partition("`pip")[0]))
    assert len(options) > 30
    ours = run("serve", "--help", cwd=tmp_path).stdout
    command = [sys.executable, "-m", "uvicorn", "--help"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    for option in options:
        assert f"{option} " in ours or f"{option}\n" in ours or f"{option}," in ours, option
        assert option in theirs, option


def test_what_is_natural_in_python() -> None:
    said = program(
        "from pathlib import Path\n"
        "from aiofastsocket.server.arguments import from_python\n"
        "config, _ = from_python('app:app', {'workers': 'auto', 'app_dir': Path('.'),\n"
        "    'reload_dirs': '.', 'forwarded_allow_ips': ['10.0.0.1', '::1'],\n"
        "    'headers': {'x-a': '1'}})\n"
        "assert config.http.headers == ((b'x-a', b'1'),)\n"
        "print(config.workers, config.app_dir, config.reload_dirs, config.http.trusted)\n"
    )
    assert said == "None . ('.',) 10.0.0.1,::1"


def test_none_from_python_is_not_given() -> None:
    said = program(
        "import os\n"
        "from aiofastsocket.server.arguments import from_python\n"
        "os.environ['WEB_CONCURRENCY'] = '3'\n"
        "names = 'bind host port uds fd reload_dirs defer_accept workers slots backend '\n"
        "names += 'user group '\n"
        "names += 'pid_file log_config headers ssl_certfile ssl_cert_reqs limit_max_requests '\n"
        "names += 'ws_max_size timeout_keep_alive proxy_headers forwarded_allow_ips'\n"
        "config, _ = from_python('app:app', dict.fromkeys(names.split()))\n"
        "assert config == from_python('app:app', {})[0]\n"
        "os.environ['FORWARDED_ALLOW_IPS'] = '10.0.0.1'  # by the program, when it is imported\n"
        "print(config.workers, config.http.trusted, config.http.behind_a_proxy)\n"
    )
    assert said == "3 10.0.0.1 True"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": True}, "--workers"),
        ({"port": "9" * 5000}, "--port (too long to show): use a whole number, 0 to 65535"),
        ({"timeout_keep_alive": 10**400}, "--timeout-keep-alive"),
        ({"timeout_keep_alive": "soon"}, "--timeout-keep-alive soon: use more than 0 seconds"),
        ({"user": "a\0b"}, "an option has an invalid value"),
        ({"host": ["a", "b"]}, "--host ['a', 'b'] has the wrong type: use text"),
        ({"access_log": "maybe"}, "--access-log maybe: use true or false"),
        ({"headers": ["X"]}, "write it as NAME:VALUE"),
        ({"headers": [5]}, "a pair of name and value"),
        ({"backlog": 2**31}, "--backlog 2147483648: use 1 to 2147483647"),
    ],
)
def test_a_wrong_value_from_python_is_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_python("app:app", options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"access_log": 0}, "access_log", False),
        ({"proxy_headers": 1}, "proxy_headers", True),
        ({"date_header": "no"}, "date_header", False),
        ({"ws_max_size": 2**32}, "ws_max_size", 2**32),
        ({"timeout_keep_alive": "2.5"}, "timeout_keep_alive", 2.5),
        ({"headers": [("x", "1"), (b"y", b"2")]}, "headers", ((b"x", b"1"), (b"y", b"2"))),
    ],
)
def test_values_from_python(options: dict[str, object], field: str, value: object) -> None:
    assert getattr(from_python("app:app", options)[0].http, field) == value


def test_wrong_options_from_python(tmp_path: Path) -> None:
    code = (
        "import aiofastsocket\n"
        "for options in ({'prot': 1}, {'reload': True}, {'port': 70000}, {'backlog': None},\n"
        "    {'log_config': 5, 'port': 0}):\n"
        "    try:\n"
        "        aiofastsocket.serve(lambda: None, **options)\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second, third, fourth, fifth = done.stderr.splitlines()
    assert "no option prot" in first
    assert "by name" in second
    assert "70000" in third
    assert "has the wrong type" in fourth
    assert "--log-config: " in fifth
    assert os.listdir(tmp_path) == []
