"""Fixtures: a service that leaves nothing behind, and a check for leaked descriptors."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from support.service import Service

# A script's background commands ignore SIGINT, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# libuv makes a pipe for signals once per process and keeps it: make it before tests count.
uvloop.new_event_loop().close()
# libffi may keep a descriptor for callbacks, from the first callback on.
ctypes.CFUNCTYPE(None)(lambda: None)


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain with its key in the same file; key.pem next to it has only the key."""
    path: Path = tmp_path_factory.mktemp("tls") / "cert.pem"
    key = path.with_name("key.pem")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        [*command.split(), *names, "-keyout", key, "-out", path], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    """The loop of a service's workers: each test of `serve` runs on both."""
    return str(request.param)


@pytest.fixture
def serve(tmp_path: Path, loop: str, no_descriptor_left: None) -> Iterator[Callable[..., Service]]:
    """Start services in an empty directory; afterwards no process, socket or pid file is left."""
    services: list[Service] = []
    before = set(tmp_path.iterdir())

    def start(*arguments: str, **options: object) -> Service:
        service = Service(*arguments, "--loop", loop, cwd=tmp_path, **options)  # type: ignore[arg-type]
        services.append(service)
        return service

    yield start
    for service in services:
        service.close()
    left = {p.name for p in set(tmp_path.iterdir()) - before if p.is_socket() or p.suffix == ".pid"}
    assert not left
