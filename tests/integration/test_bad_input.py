"""Mistakes of users, and machines that refuse: one line, an exit code, and nothing is left."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.service import APP, COMMAND, Service, one_line, run, until

IN_APP = ("--app-dir", str(APP))
FREE = ("--bind", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("targets", *FREE), 2, ["'targets'", "module:attribute"]),
        ((".targets:Who",), 2, ["'.targets:Who'", "module:attribute"]),
        (("targets:.",), 2, ["module:attribute"]),
        (("nothing_there:app", *FREE), 2, ["no module 'nothing_there' in /", "(--app-dir)"]),
        (("targets:nothing", *FREE), 2, ["'targets' has no 'nothing'"]),
        (
            ("targets:number", *FREE),
            2,
            ["is 5, not an ASGI or WSGI application", "(reader, writer)"],
        ),
        (("targets:Needs", *FREE), 2, ["it needs arguments"]),
        (("targets:handle", "--interface", "protocol", *FREE), 2, ["cannot serve"]),
        (("targets:Who", "--interface", "stream", *FREE), 2, ["cannot serve"]),
        (("targets:Who", "--interface", "asgi3", *FREE), 2, ["cannot serve"]),
        (("--uds", "/x", "--port", "1"), 2, ["exclude each other"]),
        (("--header", "X-One"), 2, ["NAME:VALUE"]),
        (("--header", "X One: 1"), 2, ["'X One' is not a valid header name"]),
        (("--header", "X: \x01"), 2, ["control characters"]),
        (("--forwarded-allow-ips", "proxy"), 2, ["'proxy' is neither an address"]),
        (("--lifespan", "maybe"), 2, ["maybe", "auto", "on", "off"]),
        (("--root-path", "api"), 2, ["begin it with /"]),
        (("--timeout-keep-alive", "0"), 2, ["more than 0 seconds"]),
        (("--limit-concurrency", "0"), 2, ["use 1 or more"]),
        (("--ws-max-size", "0"), 2, ["use 1 or more"]),
        (("targets:number", "--factory", *FREE), 2, ["--factory needs a callable target"]),
        (("--bind", "localhost"), 2, ["'localhost'", "HOST:PORT"]),
        (("--bind", "127.0.0.1:70000"), 2, ["port 0 to 65535"]),
        (("--bind", "::1:80"), 2, ["[::1]:80"]),
        (("--bind", "unix:"), 2, ["no path"]),
        (("--bind", "fd://x"), 2, ["no number"]),
        (("--bind", "fd://77"), 2, ["fd://77 is not a socket", "Bad file descriptor"]),
        (("--bind", "unix:" + "x" * 200), 2, ["too long"]),
        (("--bind", "fd://99999999999999999999"), 2, ["is not a socket"]),
        (("--bind", "fd://\u00b2"), 2, ["no number"]),
        (("--bind", "127.0.0.1:\u00b2"), 2, ["HOST:PORT"]),
        (("--bind", "a..b:80"), 2, ["a..b", "not a valid host name"]),
        (("--user", "\u00b2"), 2, ["there is no such user"]),
        (("--bind", "no.such.host.invalid:80"), 2, ["no.such.host.invalid"]),
        (("--bind", "127.0.0.1:0", "--port", "1"), 2, ["use one of these ways"]),
        (("--bind", "203.0.113.9:8000"), 1, ["203.0.113.9:8000", "Cannot assign"]),
        (("--bind", "unix:no/such/dir"), 1, ["unix:no/such/dir", "No such file"]),
        (("--workers", "many"), 2, ["auto or a number"]),
        (("--workers", "0"), 2, ["--workers 0"]),
        (("--workers", "3", "--slots", "2"), 2, ["--slots 2", "3 (workers)"]),
        (("--backlog", "0"), 2, ["--backlog 0"]),
        (("--backend", "magic"), 2, ["magic", "device", "reuseport", "off"]),
        (("--backend", "device", *FREE), 1, ["/dev/fastsocket does not exist"]),
        (("--steer", "left"), 2, ["auto", "cpu", "spread"]),
        (("--loop", "trio"), 2, ["auto", "uvloop", "asyncio"]),
        (("--http", "zttp"), 2, ["auto", "httptools"]),
        (("--ws", "some"), 2, ["auto", "websockets", "none"]),
        (("--work", "2"), 2, ["unrecognized arguments: --work; did you mean --workers?"]),
        (("--factory=no",), 2, ["error: --factory takes no value"]),
        (("--access-log=no",), 2, ["error: --access-log/--no-access-log takes no value"]),
        (("--user", "nobody-of-that-name"), 2, ["there is no such user"]),
        (("--group", "nogroup-of-that-name"), 2, ["there is no such group"]),
        (("--app-dir", "nowhere"), 2, ["--app-dir nowhere is not a directory"]),
        (("--ssl-keyfile", "key.pem"), 2, ["needs --ssl-certfile"]),
        (("--ssl-ciphers", "ALL"), 2, ["--ssl-ciphers needs --ssl-certfile"]),
        (("--ssl-certfile", "missing.pem"), 1, ["missing.pem", "No such file"]),
        (("--ssl-certfile", __file__), 1, ["cannot be used", "contains no certificate in PEM"]),
        (("--pid-file", "no/such/dir/pid", *FREE), 1, ["no/such/dir/pid", "No such file"]),
        (("--no-such-option",), 2, ["aiofastsocket serve: ", "--no-such-option"]),
    ],
)
def test_one_line(tmp_path: Path, arguments: tuple[str, ...], code: int, parts: list[str]) -> None:
    app = () if "--app-dir" in arguments else IN_APP
    pid_file = () if "--pid-file" in arguments else ("--pid-file", "serve.pid")
    one_line(run("serve", *arguments, *app, *pid_file, cwd=tmp_path), code, *parts)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("--ssl-cert-reqs", "3"), 2, ["--ssl-cert-reqs 3: use 0, 1 or 2"]),
        (("--ssl-cert-reqs", "2"), 2, ["--ssl-cert-reqs needs --ssl-ca-certs"]),
        (("--ssl-ca-certs", "CERT"), 2, ["add --ssl-cert-reqs, 1 (optional) or 2 (required)"]),
        (("--ssl-cert-reqs", "1", "--ssl-ca-certs", "no.pem"), 1, ["no.pem", "No such file"]),
        (("--ssl-ciphers", "ROT13"), 2, ["'ROT13': OpenSSL supports none of them"]),
        (("--ssl-keyfile", "LOCKED"), 1, ["the key is encrypted: --ssl-keyfile-password"]),
        (
            ("--ssl-keyfile", "LOCKED", "--ssl-keyfile-password", "x"),
            1,
            ["the key needs another password"],
        ),
        (
            ("--ssl-keyfile", "OTHER", "--ssl-keyfile-password", "secret"),
            1,
            ["cannot be used: the key belongs to another certificate"],
        ),
    ],
)
def test_one_line_about_tls(
    tmp_path: Path, certificate: Path, arguments: tuple[str, ...], code: int, parts: list[str]
) -> None:
    locked = certificate.with_name("locked.pem")
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(certificate)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    other = tmp_path / "other.pem"
    command = ["openssl", "genrsa", "-aes128", "-passout", "pass:secret", "-out", str(other)]
    subprocess.run(command, check=True, capture_output=True)
    files = {"CERT": str(certificate), "LOCKED": str(locked), "OTHER": str(other)}
    given = [files.get(argument, argument) for argument in arguments]
    out = run("serve", "--ssl-certfile", files["CERT"], *given, *FREE, *IN_APP, cwd=tmp_path)
    one_line(out, code, *parts)


def test_unknown_backend_in_the_environment(tmp_path: Path) -> None:
    out = run("serve", *FREE, cwd=tmp_path, env={"AIOFASTSOCKET_BACKEND": "magic"})
    one_line(out, 2, "AIOFASTSOCKET_BACKEND 'magic'", "auto, device, reuseport, off")


def test_unknown_workers_in_the_environment(tmp_path: Path) -> None:
    out = run("serve", *FREE, cwd=tmp_path, env={"WEB_CONCURRENCY": "many"})
    one_line(out, 2, "$WEB_CONCURRENCY is 'many': use auto or a number")


def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    command = [str(COMMAND), "serve", "--bind", f"unix:{folder}/sock"]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", *command]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    one_line(out, 1, f"unix:{folder}/sock cannot be bound: Permission denied")


def test_address_in_use(tmp_path: Path) -> None:
    service = Service(cwd=tmp_path)
    try:
        host, port = service.address
        out = run("serve", "--bind", f"{host}:{port}", *IN_APP, cwd=tmp_path)
        one_line(out, 1, f"{host}:{port} is in use")
    finally:
        service.close()


def test_one_bad_bind_of_two_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        out = run("serve", "--bind", "unix:first", "--bind", f"127.0.0.1:{port}", cwd=tmp_path)
    one_line(out, 1, f"127.0.0.1:{port} is in use")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_sockets_place_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("precious")
    one_line(run("serve", "--bind", "unix:data", cwd=tmp_path), 1, "the file is not a socket")
    assert (tmp_path / "data").read_text() == "precious"


def test_pid_file_of_a_running_service_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "serve.pid"
    service = Service("--pid-file", str(path), cwd=tmp_path)
    try:
        out = run("serve", *FREE, "--pid-file", str(path), cwd=tmp_path)
        one_line(out, 1, f"names process {service.pid}, which is running")
        assert path.read_text() == f"{service.pid}\n"
    finally:
        service.close()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as somebody else")
def test_port_refused(tmp_path: Path) -> None:
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    assert int(limit.read_text()) > 81
    out = subprocess.run(
        ["setpriv", "--bounding-set=-net_bind_service", COMMAND, "serve", "--bind", "127.0.0.1:81"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    one_line(out, 1, "127.0.0.1:81 is refused")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as somebody else")
def test_user_without_root(tmp_path: Path) -> None:
    # Only root may be able to read the interpreter: import all before becoming nobody.
    code = (
        "import os, sys, pwd, grp; from aiofastsocket import cli;"
        "cli._parser().parse_args(['serve']); os.setuid(65534); sys.exit(cli.main(sys.argv[1:]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, "serve", *FREE, "--user", "root"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    one_line(out, 1, "need root")


def test_a_target_that_raises_shows_its_traceback_once(tmp_path: Path) -> None:
    for preload in ((), ("--preload",)):
        out = run("serve", "raises:app", *FREE, *IN_APP, "--workers", "2", *preload, cwd=tmp_path)
        assert out.returncode == 1
        assert out.stderr.count("Traceback") == 1
        assert out.stderr.count("RuntimeError: as it happens") == 1
        if not preload:  # no frames of ours and of importlib come first
            assert out.stderr.partition("Traceback")[2].count('File "') == 1


def test_a_worker_that_never_starts_ends_the_service(tmp_path: Path) -> None:
    """Each worker dies before it is ready: after five starts of a slot the service gives up."""
    (tmp_path / "dies.py").write_text("import os\nos._exit(7)\n")
    out = run("serve", "dies:app", *FREE, "--workers", "2", cwd=tmp_path)
    assert out.returncode == 1
    assert "worker cannot start: exit 7" in out.stderr
    assert "5 starts failed and none succeeded: giving up" in out.stderr


def test_a_start_that_fails_now_and_then_succeeds(tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(
        "import os, pathlib\n"
        "mark = pathlib.Path(__file__).with_suffix('.mark')\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        "    os._exit(7)\n"
        "from targets import Who\n"
    )
    service = Service(
        *("flaky:Who", "--workers", "2", "--app-dir", str(tmp_path)),
        cwd=tmp_path,
        env={"PYTHONPATH": str(APP)},
    )
    try:
        until(lambda: service.settled(2), "both workers serve")
    finally:
        service.close()
