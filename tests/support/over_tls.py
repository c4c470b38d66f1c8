"""TEST_OVER_TLS=1: services and clients use TLS, unless a test sets up TLS itself."""

import atexit
import os
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .certificates import certificate

OPTIONS: tuple[str, ...] = ()
CONTEXT: ssl.SSLContext | None = None

if os.environ.get("TEST_OVER_TLS"):
    FOLDER = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, FOLDER)
    FOLDER.chmod(0o755)
    PATH = certificate(FOLDER, "over-tls", "localhost", more="IP:127.0.0.1,IP:::1")
    PATH.chmod(0o644)
    OPTIONS = ("--ssl-certfile", str(PATH))
    CONTEXT = ssl.create_default_context(cafile=str(PATH))
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):  # for other people's clients
        os.environ[name] = str(PATH)


def not_over_tls(reason: str) -> pytest.MarkDecorator:
    """Skip a test when TEST_OVER_TLS is set."""
    return pytest.mark.skipif(CONTEXT is not None, reason=reason)


def secured(sock: socket.socket) -> socket.socket:
    """A client's connection, over TLS if TEST_OVER_TLS is set."""
    return sock if CONTEXT is None else CONTEXT.wrap_socket(sock, server_hostname="localhost")


def scheme(plain: str = "http") -> str:
    """The URL scheme: http or ws, with an s if TEST_OVER_TLS is set."""
    return plain if CONTEXT is None else plain + "s"


def url(address: tuple[str, int], plain: str = "http") -> str:
    """The URL of a service."""
    host, port = address
    return f"{scheme(plain)}://{host}:{port}"


def websocket(url: str, **options: Any) -> Any:
    """A WebSocket client's connection, as a context manager. websockets' client reads in one thread
    while it writes in another, which Python's ssl did not keep apart before 3.13.4. Without the
    tickets of TLS 1.3, which come at unexpected times, this does no harm."""
    from websockets.sync.client import connect  # not installed everywhere

    if CONTEXT is not None:
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        options["ssl"] = context
    return connect(url, **options)
