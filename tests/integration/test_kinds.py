"""Targets and addresses of every kind can be served."""

import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client import WHO, ask, connect, outcome, receive_all
from support.service import APP, Service, until

Serve = Callable[..., Service]


@pytest.mark.parametrize(
    "arguments",
    [
        ("targets:Who",),
        ("targets:make_who",),
        ("targets:handle",),
        ("targets:make_target", "--factory"),
        ("targets:handle", "--interface", "stream"),
        ("targets:Who", "--preload"),
    ],
)
def test_targets_of_every_kind(serve: Serve, arguments: tuple[str, ...], loop: str) -> None:
    service = serve(*arguments, "--workers", "2")
    seen = set()

    def asked() -> bool:
        seen.add(int(ask(service.address)))
        return len(seen) == 2

    # The number of requests is open: an idle worker helps one that has no core at the moment.
    until(asked, "both answer")
    assert seen == set(service.owners())
    assert f"loop {loop}" in service.log()


def test_demo_over_curl(serve: Serve) -> None:
    service = serve("--workers", "2")
    host, port = service.address
    url = f"http://{host}:{port}/"
    seen = set()

    def asked() -> bool:
        out = subprocess.run(["curl", "-sS", url], capture_output=True, text=True, check=True)
        seen.add(out.stdout.splitlines()[0])
        return len(seen) == 2

    until(asked, "both answer")
    expected = {f"worker {s.pid}, core {s.cpu}, slot {s.slot}" for s in service.slots() if s.live}
    assert seen == expected
    head = subprocess.run(["curl", "-sSI", url, url], capture_output=True, text=True, check=True)
    assert head.stdout.count("200 OK") == 2


def test_ipv6_and_dual_stack(serve: Serve) -> None:
    v6 = serve("targets:Who", "--bind", "[::1]:0")
    assert ask(v6.address)
    dual = serve("targets:Who", "--bind", "[::]:0")
    port = dual.address[1]
    assert ask(("::1", port))
    assert ask(("127.0.0.1", port))


def test_several_binds_each_with_its_table(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    service = serve(
        *("targets:Who", "--workers", "2"),
        *("--bind", "127.0.0.1:0", "--bind", "[::1]:0", "--bind", f"unix:{path}"),
    )
    for address in service.addresses[:2]:
        assert ask(address)
    assert ask(path)
    assert [service.info(table).shared for table in range(3)] == [False, False, True]
    assert service.stop() == 0
    assert not os.path.exists(path)


def test_wildcards_of_both_families_side_by_side(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    service = serve("targets:Who", "--bind", f"0.0.0.0:{port}", "--bind", f"[::]:{port}")
    assert ask(("127.0.0.1", port))
    assert ask(("::1", port))
    assert [service.info(table).others for table in range(2)] == [0, 0]
    assert [sum(s.arrived for s in service.slots(table)) for table in range(2)] == [1, 1]


def test_a_dead_servers_socket_file_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    os.chmod(path, 0o660)
    serve("targets:Who", "--bind", f"unix:{path}", "--bind", f"unix:{path}2")
    assert ask(path)
    # A replaced file keeps the mode that was set; a new one is open to all users.
    assert [stat.S_IMODE(os.stat(p).st_mode) for p in (path, f"{path}2")] == [0o660, 0o666]


def test_protocols_over_tls(serve: Serve, certificate: Path) -> None:
    cert, key = certificate, certificate.with_name("key.pem")
    service = serve(
        *("targets:Who", "--workers", "2"),
        *("--ssl-certfile", str(cert), "--ssl-keyfile", str(key)),
    )
    context = ssl.create_default_context(cafile=str(cert))
    for _ in range(20):
        with (
            connect(service.address) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"who\n")
            assert receive_all(tls).strip().isdigit()
    # A client that does not use TLS is reset, and causes no traceback.
    assert (
        outcome(service.address, (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", WHO[1])) == "reset"
    )
    assert "Traceback" not in service.log()
    assert service.stop() == 0


def test_clients_certificates_ciphers_and_an_encrypted_key(
    serve: Serve, certificate: Path, tmp_path: Path
) -> None:
    key = tmp_path / "encrypted"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", str(certificate)]
    subprocess.run([*command, "-out", str(key)], check=True, capture_output=True)
    chain = tmp_path / "chain"
    chain.write_text(certificate.read_text().partition("-----BEGIN PRIVATE KEY")[0])
    service = serve(
        *("targets:Who", "--workers", "1", "--ssl-certfile", str(chain)),
        *("--ssl-keyfile", str(key), "--ssl-keyfile-password", "secret"),
        *("--ssl-cert-reqs", "2", "--ssl-ca-certs", str(certificate)),
        *("--ssl-ciphers", "ECDHE-RSA-AES256-GCM-SHA384"),
    )
    context = ssl.create_default_context(cafile=str(certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def answer() -> bytes:
        with (
            connect(service.address) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            assert tls.cipher() == ("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2", 256)
            tls.sendall(b"who\n")
            return receive_all(tls)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        answer()
    context.load_cert_chain(certificate)
    assert answer() == b"%d\n" % service.workers()[0]
    assert "Traceback" not in service.log()


@pytest.fixture
def public_app() -> Iterator[Path]:
    """A folder with the targets that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(APP / "targets.py", folder)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind port 80 and become nobody")
def test_port_80_as_another_user(serve: Serve, tmp_path: Path, public_app: Path) -> None:
    service = serve(
        *("targets:Who", "--workers", "2", "--bind", "127.0.0.1:80", "--app-dir", str(public_app)),
        *("--user", "nobody", "--group", "nogroup", "--pid-file", str(tmp_path / "serve.pid")),
    )
    assert (tmp_path / "serve.pid").read_text() == f"{service.pid}\n"
    for pid in service.owners():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "Groups:\t65534 \n" in status
    for _ in range(30):
        assert ask(("127.0.0.1", 80))
    os.kill(service.owners()[0], signal.SIGKILL)
    service.send(signal.SIGHUP)
    service.wait_log("reloaded")
    until(lambda: service.settled(2), "the new workers are in charge")
    assert ask(("127.0.0.1", 80))


def test_inherited_descriptor_is_shared_as_it_is(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = listener.getsockname()
        fd = listener.fileno()
        service = serve("targets:Who", "--workers", "2", "--bind", f"fd://{fd}", pass_fds=(fd,))
        for _ in range(30):
            assert ask(address)
        assert "another process listens on this socket" in service.log()
        assert sum(s.global_ for s in service.slots()) == 30
        assert service.stop() == 0
        # The listener is not closed, as it is not ours: a client waits for the next server.
        with connect(address):
            pass


def test_inherited_bound_socket_gets_slots(serve: Serve) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        fd = bound.fileno()
        service = serve("targets:Who", "--workers", "2", "--bind", f"fd://{fd}", pass_fds=(fd,))
        assert ask(bound.getsockname())
        assert not service.info().shared


def test_systemd_sockets_and_notifications(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "notify.sock"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(path))
        manager.settimeout(20)
        address = listener.getsockname()
        fd = listener.fileno()
        service = serve(
            *("targets:Who", "--workers", "2"),
            env={"NOTIFY_SOCKET": str(path), "LISTEN_FDS": "1"},
            pass_fds=(3,),
            preexec_fn=lambda: os.dup2(fd, 3) and None,
            # LISTEN_PID is the process that systemd starts: this shell, which becomes the server.
            wrapper=("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"),
        )
        assert manager.recv(100) == b"READY=1"
        assert ask(address)
        service.send(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert service.process.wait(20) == 0
    path.unlink()
