"""TEST_OVER_TLS=1: services speak TLS where a test says nothing of it, and clients do, too."""

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
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):  # for clients of other people
        os.environ[name] = str(PATH)


def not_over_tls(reason: str) -> pytest.MarkDecorator:
    """Leave a test out there."""
    return pytest.mark.skipif(CONTEXT is not None, reason=reason)


def secured(sock: socket.socket) -> socket.socket:
    """A client's connection, over TLS if that is so."""
    return sock if CONTEXT is None else CONTEXT.wrap_socket(sock, server_hostname="localhost")


def scheme(plain: str = "http") -> str:
    """What stands for http there, or for ws."""
    return plain if CONTEXT is None else plain + "s"


def url(address: tuple[str, int], plain: str = "http") -> str:
    """Of a service."""
    host, port = address
    return f"{scheme(plain)}://{host}:{port}"


def websocket(url: str, **options: Any) -> Any:
    """A client's, as a context manager. websockets' own reads in one thread while it writes in
    another, which Python's ssl did not keep apart before 3.13.4: without the tickets of TLS 1.3,
    which are read when nobody expects it, it does no harm."""
    from websockets.sync.client import connect  # not everywhere that a service is

    if CONTEXT is not None:
        context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        options["ssl"] = context
    return connect(url, **options)
