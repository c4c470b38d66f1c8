"""Options come from command line, environment, file and default, in this order.

--print-config and --check-config tell about them, and serve nothing.
"""

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import ask, get
from support.service import APP, Service, one_line, run

Serve = Callable[..., Service]


@pytest.fixture
def loop() -> str:
    """One loop is enough: these tests do not depend on it."""
    return "uvloop"


def printed(cwd: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """The value that --print-config prints for each option."""
    out = run("serve", *arguments, "--print-config", cwd=cwd, env=env)
    assert out.returncode == 0, out.stderr
    tomllib.loads(out.stdout)
    lines = [line for line in out.stdout.splitlines() if not line.startswith("#")]
    return {line.partition(" = ")[0]: line.partition(" = ")[2] for line in lines}


def test_the_order(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("workers = 3\nslots = 7\nbacklog = 99\nroot-path = '/f'\n")
    env = {
        "AIOFASTSOCKET_SERVE_WORKERS": "2",
        "WEB_CONCURRENCY": "5",
        "AIOFASTSOCKET_SERVE_SLOTS": "6",
        "AIOFASTSOCKET_SERVE_ACCESS_LOG": "false",
        "AIOFASTSOCKET_SERVE_HEADERS": "a: 1, 2\nb: 3",
    }
    said = printed(tmp_path, "web:app", "-c", "c.toml", "--workers", "1", env=env)
    assert said["target"] == '"web:app"  # command line'
    assert said["workers"] == "1  # command line"
    assert said["slots"] == "6  # environment"
    assert said["backlog"] == "99  # c.toml"
    assert said["root_path"] == '"/f"  # c.toml'
    assert said["access_log"] == "false  # environment"
    assert said["headers"] == '["a: 1, 2", "b: 3"]  # environment'
    assert said["date_header"] == "true  # default"
    assert printed(tmp_path, env={"WEB_CONCURRENCY": "5"})["workers"] == "5  # environment"


def test_what_is_printed_is_a_file(tmp_path: Path) -> None:
    odd = ("--limit-worker-lifetime", "inf", "--header", "z:\U0001f600\x7f"[:-1])
    first = run(
        "serve",
        *odd,
        "web:app",
        "--bind",
        "[::1]:0",
        "--header",
        "x:y",
        "--workers",
        "2",
        "--print-config",
        cwd=tmp_path,
    )
    (tmp_path / "aiofastsocket.toml").write_text(first.stdout)
    again = run("serve", "--print-config", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    values = [tomllib.loads(out.stdout) for out in (first, again)]
    assert values[0] == values[1]


def test_secrets_are_masked(certificate: Path, tmp_path: Path) -> None:
    options = ("--ssl-certfile", str(certificate), "--ssl-keyfile-password", "open sesame")
    said = printed(tmp_path, *options)
    assert said["ssl_keyfile_password"] == '"***"  # command line'


def test_files_that_are_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert printed(tmp_path)["backlog"] == "2048  # default"
    (tmp_path / "pyproject.toml").write_text("[tool.aiofastsocket]\nbacklog = 5\nbind = ':1'\n")
    assert printed(tmp_path)["backlog"] == "5  # pyproject.toml"
    assert printed(tmp_path)["bind"] == '[":1"]  # pyproject.toml'
    # An address given in another way replaces the one in the file.
    said = printed(tmp_path, "--port", "9")
    assert (said["port"], said.get("bind")) == ("9  # command line", None)
    (tmp_path / "pyproject.toml").write_text("[tool.aiofastsocket]\nhost = '::'\nport = 1\n")
    said = printed(tmp_path, "--port", "9", env={"AIOFASTSOCKET_SERVE_BIND": ""})
    assert said["port"] == "9  # command line"
    assert said["host"] == '"::"  # pyproject.toml'
    (tmp_path / "aiofastsocket.toml").write_text("backlog = 6\n")
    assert printed(tmp_path)["backlog"] == "6  # aiofastsocket.toml"


def test_serve_uses_the_configuration(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "aiofastsocket.toml").write_text(
        f"target = 'web:app'\napp-dir = '{APP}'\nworkers = 1\nheader = ['x-from: file']\n"
    )
    (tmp_path / "e").write_text("GREETING='hello there'\nAIOFASTSOCKET_SERVE_ROOT_PATH=/mounted\n")
    service = serve("--env-file", "e", "--app-dir", str(APP))
    answer = ask(service, get("/scope"))
    assert answer.headers["x-from"] == "file"
    assert json.loads(answer.body)["root_path"] == "/mounted"
    environ = Path(f"/proc/{service.owners()[0]}/environ").read_bytes()
    assert b"GREETING" not in environ  # it was not set at the exec


def test_what_is_checked(tmp_path: Path) -> None:
    where = ("--app-dir", str(APP), "--check-config")
    out = run("serve", "web:app", *where, cwd=tmp_path)
    assert (out.returncode, out.stdout) == (0, "the configuration is valid for web:app\n")
    one_line(run("serve", "web:nothing", *where, cwd=tmp_path), 2, "nothing")
    one_line(run("serve", "--hooks", "nope", *where, cwd=tmp_path), 2, "--hooks nope: there is no")
    one_line(run("serve", "--log-config", "x.json", *where, cwd=tmp_path), 2, "x.json")
    one_line(run("serve", "web:app", *where, "--ssl-certfile", "x", cwd=tmp_path), 1, "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("worker = 2", 2, "c.toml: worker is not an option; did you mean workers?"),
        ("check-config = true", 2, "c.toml: check-config is for the command line"),
        ("xyzzy = 2", 2, "c.toml: xyzzy is not an option"),
        ("workers = 'many'", 2, "c.toml: workers is 'many'"),
        ("backlog = 0", 2, "c.toml: backlog 0: use"),
        ("[serve]\nworkers = 2", 2, "c.toml: [serve] is a table; write options without a table"),
        ("metrics = 9100", 2, "c.toml: metrics 9100: use text, in quotes"),
        ("target = 7", 2, "target 7 is not text"),
        ("workers = ", 2, "c.toml is not valid TOML"),
        ('user = "a\\u0000b"', 2, "an option has an invalid value"),
        ("reload_dir = []\nreload-dirs = []", 2, "is given twice"),
        (None, 1, "there is no such file"),
    ],
)
def test_bad_files(text: str | None, code: int, says: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "c.toml").write_text(text)
    one_line(run("serve", "--config", "c.toml", cwd=tmp_path), code, says)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WORKER", "1", "is not an option's variable; did you mean $AIOFASTSOCKET_SERVE_WORKERS?"),
        ("WORKERS", "some", "$AIOFASTSOCKET_SERVE_WORKERS is 'some'"),
        ("ACCESS_LOG", "perhaps", "$AIOFASTSOCKET_SERVE_ACCESS_LOG perhaps: use true or false"),
    ],
)
def test_a_bad_environment(name: str, value: str, says: str, tmp_path: Path) -> None:
    env = {f"AIOFASTSOCKET_SERVE_{name}": value}
    one_line(run("serve", cwd=tmp_path, env=env), 2, says)


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\naiofastsocket = 'x'"])
def test_a_pyproject_without_a_valid_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    one_line(run("serve", cwd=tmp_path), 2, "[tool.aiofastsocket] is not a table")


def test_an_env_file_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("AIOFASTSOCKET_SERVE_WORKERS=3\n")
    assert (
        printed(tmp_path, env={"AIOFASTSOCKET_SERVE_ENV_FILE": "e"})["workers"]
        == "3  # environment"
    )
    (tmp_path / "e").write_bytes(b"X=\xff\n")
    one_line(run("serve", "--env-file", "e", cwd=tmp_path), 2, "--env-file e")
    env = {"FORWARDED_ALLOW_IPS": "*"}
    assert printed(tmp_path, env=env)["forwarded_allow_ips"] == '"*"  # environment'


def test_a_file_of_gunicorns(tmp_path: Path) -> None:
    one_line(run("serve", "-c", "gunicorn.conf.py", cwd=tmp_path), 2, "write it as TOML")
    one_line(run("serve", "--env-file", "none", cwd=tmp_path), 1, "there is no such file")
