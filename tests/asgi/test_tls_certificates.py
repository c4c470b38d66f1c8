"""The certificate that a client gets, new files of certificates, and clients' certificates."""

import json
import os
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client, get
from support.certificates import certificate
from support.service import Service, until

Serve = Callable[..., Service]


def shown(service: Service, host: str | None, **about: Any) -> dict[str, Any]:
    """Ask for that host; return the certificate (not verified), TLS version and ALPN protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in about.items():
        getattr(context, name)(value) if callable(getattr(context, name)) else setattr(
            context, name, value
        )
    plain = socket.create_connection(service.address, timeout=20)
    with context.wrap_socket(plain, server_hostname=host) as tls:
        der = tls.getpeercert(True)
        assert der is not None
        return {"der": der, "version": tls.version(), "alpn": tls.selected_alpn_protocol()}


def der(path: Path) -> bytes:
    text = path.read_text()
    return ssl.PEM_cert_to_DER_cert(text[: text.index("-----END CERT") + 26])


def files(*paths: Path) -> list[str]:
    return [word for path in paths for word in ("--ssl-certfile", str(path))]


def test_each_host_has_its_own(serve: Serve, tmp_path: Path) -> None:
    one = certificate(tmp_path, "one", "one.test")
    many = certificate(tmp_path, "many", "*.many.test", key="rsa")
    service = serve("web:app", "--workers", "2", *files(one, many))
    for _ in range(3):
        assert shown(service, "one.test")["der"] == der(one)
        assert shown(service, "A.many.test")["der"] == der(many)
        assert shown(service, "a.b.many.test")["der"] == der(one)  # one label only
        assert shown(service, "many.test")["der"] == der(one)
        assert shown(service, "unknown.test")["der"] == der(one)
        assert shown(service, None)["der"] == der(one)
    assert service.stop() == 0


def test_a_client_gets_the_kind_of_key_that_it_knows(serve: Serve, tmp_path: Path) -> None:
    rsa = certificate(tmp_path, "rsa", key="rsa")
    ec = certificate(tmp_path, "ec", key="ec")
    service = serve("web:app", "--workers", "1", *files(rsa, ec))
    old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    for kind, path in (("RSA", rsa), ("ECDSA", ec)):
        ciphers = f"ECDHE-{kind}-AES128-GCM-SHA256"
        assert shown(service, "localhost", **old, set_ciphers=ciphers)["der"] == der(path)


def test_versions_and_protocols(serve: Serve, certificate: Path) -> None:
    service = serve(
        *("web:app", "--workers", "1", "--ssl-certfile", str(certificate)),
        *("--ssl-min-version", "1.3", "--ssl-alpn", "mine,http/1.1"),
    )
    offered = {"set_alpn_protocols": ["h2", "http/1.1"]}
    assert shown(service, "localhost", **offered)["alpn"] == "http/1.1"
    assert shown(service, "localhost")["version"] == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match=r"(?i)version"):
        shown(service, "localhost", maximum_version=ssl.TLSVersion.TLSv1_2)
    assert shown(service, "localhost", set_alpn_protocols=["h2"])["alpn"] is None


class Resuming:
    """A client that keeps the session of its first connection."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.session: ssl.SSLSession | None = None

    def resumed(self) -> bool:
        plain = socket.create_connection(self.service.address, timeout=20)
        with self.context.wrap_socket(plain, session=self.session) as tls:
            tls.sendall(get("/", "Connection: close"))
            while tls.recv(65536):  # a ticket comes with the first data
                pass
            self.session = self.session or tls.session
            return bool(tls.session_reused)


@pytest.mark.parametrize("how", ["HUP", "by itself"])
def test_new_files(how: str, serve: Serve, tmp_path: Path) -> None:
    """New files are used without a lost connection; sessions go on, with every worker.

    Broken files change nothing, and are logged.
    """
    path = certificate(tmp_path, "cert")
    before = der(path)
    more = ["--ssl-reload", "0.1"] if how == "by itself" else []
    service = serve("web:app", "--workers", "2", *files(path), *more)
    client = Resuming(service)
    assert not client.resumed()
    assert all(client.resumed() for _ in range(10))
    with Client(service.address, insecure()) as kept:
        kept.send(get("/scope"))
        assert kept.answer().status == 200
        certificate(tmp_path, "cert", key="rsa")
        after = der(path)
        assert before != after
        if how == "HUP":
            os.kill(service.pid, signal.SIGHUP)
        service.wait_log("reloaded: 2 new workers")
        until(lambda: shown(service, "localhost")["der"] == after, "the old workers are gone")
        assert all(client.resumed() for _ in range(10))
    path.write_text("broken")
    if how == "HUP":
        os.kill(service.pid, signal.SIGHUP)
    service.wait_log("the old certificates stay in use")
    until(lambda: shown(service, "localhost")["der"] == after, "still served")
    assert service.stop() == 0
    said = "the old certificates stay in use"
    lines = [line for line in service.log().splitlines() if said in line]
    assert len(lines) == 1
    assert "certificate" in lines[0]
    assert str(path) in lines[0]


def test_authorities_that_change(serve: Serve, tmp_path: Path) -> None:
    """--ssl-reload watches them, too. A client with a session must show a certificate again."""
    authority = certificate(tmp_path, "authority", "Authority")
    client = certificate(tmp_path, "client", "Client", signed_by=authority)
    service = serve(
        *("web:app", "--workers", "1", *files(certificate(tmp_path, "own"))),
        *("--ssl-cert-reqs", "2", "--ssl-ca-certs", str(authority), "--ssl-reload", "0.1"),
    )
    resuming = Resuming(service)
    resuming.context.load_cert_chain(client)
    assert not resuming.resumed()
    assert resuming.resumed()
    certificate(tmp_path, "authority", "Another")
    service.wait_log("reloaded: 1 new worker")
    until(lambda: service.settled(1), "the old worker is gone")
    with pytest.raises((ssl.SSLError, OSError, AssertionError)):
        resuming.resumed()


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_one_that_expires_is_told(serve: Serve, tmp_path: Path) -> None:
    soon, late = certificate(tmp_path, "soon", "soon.test", days=13), certificate(tmp_path, "late")
    service = serve("web:app", "--workers", "1", *files(soon, late))
    service.wait_log("soon.pem expires in 1")
    assert "late.pem expires" not in service.log()


@pytest.mark.parametrize("asked", ["1", "2"])
@pytest.mark.parametrize("app", ["web:app", "old:app"])
def test_clients_certificates(asked: str, app: str, serve: Serve, tmp_path: Path) -> None:
    """The application gets their names and chains. A stranger's certificate is refused."""
    authority = certificate(tmp_path, "authority", "Authority")
    own = certificate(tmp_path, "own")
    client = certificate(tmp_path, "client", "Šome Client", signed_by=authority)
    stranger = certificate(tmp_path, "stranger", "Some Client")
    service = serve(
        *(app, "--workers", "1", *files(own)),
        *("--ssl-cert-reqs", asked, "--ssl-ca-certs", str(authority)),
    )

    def told(path: Path | None) -> Any:
        context = insecure()
        if path is not None:
            context.load_cert_chain(path)
        with Client(service.address, context) as connection:
            connection.send(get("/scope" if app == "web:app" else "/environ"))
            return json.loads(connection.answer().body)

    about = told(client)
    pem = ssl.DER_cert_to_PEM_cert(der(client))
    if app == "web:app":
        tls = about["extensions"]["tls"]
        assert tls["client_cert_name"] == "CN=Šome Client,O=Some\\, Ltd"
        assert tls["client_cert_chain"][0] == pem
        assert tls["client_cert_error"] is None
        assert ssl.PEM_cert_to_DER_cert(tls["server_cert"]) == der(own)
        assert tls["tls_version"] == 0x0304
        assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    else:
        assert about["HTTPS"] == "on"
        assert about["SSL_PROTOCOL"] == "TLSv1.3"
        assert about["SSL_CIPHER"].startswith("TLS_")
        assert about["SSL_CLIENT_VERIFY"] == "SUCCESS"
        name = about["SSL_CLIENT_S_DN"].encode("latin-1").decode()  # PEP 3333
        assert name == "CN=Šome Client,O=Some\\, Ltd"
        assert about["SSL_CLIENT_CERT"] == pem
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        told(stranger)
    if asked == "2":
        with pytest.raises((ssl.SSLError, OSError, EOFError)):
            told(None)
    elif app == "web:app":
        assert told(None)["extensions"]["tls"]["client_cert_name"] is None
    else:
        assert told(None)["SSL_CLIENT_VERIFY"] == "NONE"
    assert "Traceback" not in service.log()
