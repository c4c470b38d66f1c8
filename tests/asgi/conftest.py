"""Servers of one application: ours, and uvicorn, from which many users come."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import Address
from support.service import APP, Service, until


class Uvicorn:
    """uvicorn, with httptools and websockets, serving an application of tests/support/app."""

    def __init__(self, target: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "uvicorn", target, "--port", "0", "--http", "httptools"]
        self._process = subprocess.Popen(
            [*command, "--app-dir", str(APP), *arguments],
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            cwd="/",
        )
        until(lambda: re.search(r"running on http://127\.0\.0\.1:\d+", self.log()), "uvicorn runs")
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.log())
        assert found
        self.address: Address = ("127.0.0.1", int(found[1]))

    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()


@pytest.fixture(scope="session", params=["ours-uvloop", "ours-asyncio", "uvicorn"])
def server(request: pytest.FixtureRequest) -> Iterator[Service | Uvicorn]:
    """One server for all tests of conformance."""
    if request.param == "uvicorn":
        made: Service | Uvicorn = Uvicorn("web:app")
    else:
        with tempfile.TemporaryDirectory() as folder:
            loop = request.param.removeprefix("ours-")
            made = Service("web:app", "--workers", "1", "--loop", loop, cwd=Path(folder))
    yield made
    made.close()


@pytest.fixture
def ours(server: Service | Uvicorn) -> bool:
    return isinstance(server, Service)
