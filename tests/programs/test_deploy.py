"""The programs that read the files of deploy/ and .github, or checkers of their rules, accept
them."""

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client import ask, free_port, receive_all
from support.programs import accepts, which
from support.service import Service, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
Serve = Callable[..., Service]

pytestmark = pytest.mark.programs
ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)  # independent of the loop


def output(*command: object) -> str:
    """The output of a command that succeeds."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -- systemd --


def test_the_units(tmp_path: Path) -> None:
    for name in ("app.service", "app.socket"):
        text = (DEPLOY / "systemd" / name).read_text()
        # The user and the virtual environment do not exist here.
        text = text.replace("User=app\nGroup=app\n", "").replace(
            "/srv/app/venv/bin/aiofastsocket", str(Path(sys.executable).with_name("aiofastsocket"))
        )
        (tmp_path / name).write_text(text)
    told = output("systemd-analyze", "verify", tmp_path / "app.service", tmp_path / "app.socket")
    # The output may mention other units of this machine.
    assert not [line for line in told.splitlines() if "app.service" in line or "app.socket" in line]


@ON_ONE_LOOP
def test_the_command_of_the_unit(serve: Serve, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "app.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S+ serve app:app --bind :80 (.*)$", text, re.MULTILINE)
    shutil.copy(DEPLOY / "docker" / "app.py", tmp_path)
    service = serve("app:app", "--app-dir", str(tmp_path), *command.split())
    assert ask(service.address, GET).endswith(b"Hello, world!\n")


# -- containers --


def test_the_dockerfile() -> None:
    output(Path(sys.executable).with_name("hadolint"), DEPLOY / "docker" / "Dockerfile")


@ON_ONE_LOOP
def test_the_command_of_the_image(serve: Serve, tmp_path: Path) -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    metrics = free_port()
    words = [
        word.replace("0.0.0.0:9100", f"0.0.0.0:{metrics}").replace("0.0.0.0:8000", "127.0.0.1:0")
        for word in json.loads(command)
    ]
    shutil.copy(DEPLOY / "docker" / "app.py", tmp_path)
    service = serve(*words, "--app-dir", str(tmp_path))
    assert ask(service.address, GET).endswith(b"Hello, world!\n")
    assert ask(service.address, GET.replace(b"/", b"/healthz", 1)).startswith(b"HTTP/1.1 200 ")
    assert b"aiofastsocket_workers" in ask(
        ("127.0.0.1", metrics), GET.replace(b"/", b"/metrics", 1)
    )


def objects() -> Iterator[dict[str, object]]:
    import yaml  # not of the test group: make test-programs installs it

    for file in ("kubernetes/app.yaml", "observe/hpa.yaml"):
        yield from yaml.safe_load_all((DEPLOY / file).read_text())


def test_the_kubernetes_objects() -> None:
    import kubernetes_validate

    kinds = []
    for found in objects():
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
        kinds.append(found["kind"])
    assert kinds == ["Deployment", "Service", "HorizontalPodAutoscaler"]


@ON_ONE_LOOP
def test_the_arguments_of_the_pod(serve: Serve, tmp_path: Path) -> None:
    deployment = next(objects())
    text = (DEPLOY / "kubernetes" / "app.yaml").read_text()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]  # type: ignore[index]
    arguments = [word for word in container["args"] if not word.startswith(("--bind", "--metrics"))]
    shutil.copy(DEPLOY / "docker" / "app.py", tmp_path)
    service = serve(*arguments, "--app-dir", str(tmp_path))
    assert ask(service.address, GET.replace(b"/", b"/healthz", 1)).startswith(b"HTTP/1.1 200 ")
    delay = float(next(a for a in arguments if "drain-delay" in a).partition("=")[2])
    grace = int(re.findall(r"terminationGracePeriodSeconds: (\d+)", text)[0])
    assert grace > delay + 30 + 3 + 10
    service.send(signal.SIGTERM)
    until(
        lambda: ask(service.address, GET.replace(b"/", b"/healthz", 1)).startswith(b"HTTP/1.1 503"),
        "the health check says that it stops",
    )
    assert ask(service.address, GET).endswith(b"Hello, world!\n")


# -- proxies in front --


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(DEPLOY / "docker" / "app.py", tmp_path)
    return tmp_path


@ON_ONE_LOOP
def test_nginx_in_front(serve: Serve, folder: Path) -> None:
    port = free_port()
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    text = text.replace("/run/app/app.sock", str(folder / "app.sock"))
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}} "
        f"user root; http {{ access_log off; {text} }}"
    )
    options = ("--forwarded-allow-ips", "*", "--access-log-format", "%(h)s %({host}i)s %(s)s")
    where = ("-b", "unix:app.sock", "--app-dir", str(folder))
    service = serve("app:app", *where, *options, wait=False)
    until((folder / "app.sock").exists, "the service listens")
    with subprocess.Popen([which("nginx"), "-c", folder / "nginx.conf"]) as nginx:
        try:
            until(lambda: accepts(port), "nginx listens")
            assert ask(("127.0.0.1", port), GET).endswith(b"Hello, world!\n")
            service.wait_log("127.0.0.1 example.com 200")
        finally:
            nginx.terminate()


@ON_ONE_LOOP
def test_haproxy_in_front(serve: Serve, folder: Path, certificate: Path) -> None:
    options = ("--proxy-protocol", "--ssl-certfile", str(certificate))
    log = ("--access-log-format", "%(h)s %(s)s")
    service = serve("app:app", "--app-dir", str(folder), *options, *log, bind=True)
    port = free_port()
    text = (DEPLOY / "proxy" / "haproxy.cfg").read_text()
    text = text.replace("127.0.0.1:8443", f"127.0.0.1:{service.address[1]}")
    (folder / "haproxy.cfg").write_text(text.replace("bind :443", f"bind 127.0.0.1:{port}"))
    context = ssl.create_default_context(cafile=str(certificate))
    with subprocess.Popen([which("haproxy"), "-db", "-f", folder / "haproxy.cfg"]) as haproxy:
        try:
            until(lambda: accepts(port), "HAProxy listens")
            # The client's address is not HAProxy's own: only the PROXY header can carry it.
            sock = socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.2", 0))
            with sock, context.wrap_socket(sock, server_hostname="localhost") as client:
                client.sendall(GET)
                assert receive_all(client).endswith(b"Hello, world!\n")
        finally:
            haproxy.terminate()
    service.wait_log("127.0.0.2 200")
    assert "was closed: a trusted proxy" not in service.log()


# -- the place of the sources --


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", "workflows/*.yml"),
        ("vendor.github-issue-forms", "ISSUE_TEMPLATE/*.yml"),
    ],
)
def test_the_files_of_github(schema: str, files: str) -> None:
    found = list((ROOT / ".github").glob(files))
    assert found
    output(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *found)


def test_the_workflows_call_targets_that_are_there() -> None:
    text = "".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    called = set(re.findall(r"\bmake ([a-z-]+)", text)) - {"gcc"}
    called |= set(re.findall(r"\[(test-[a-z-, ]+)\]", text)[0].split(", "))
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert called
    assert called <= there
