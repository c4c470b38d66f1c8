"""Prometheus' own tool checks the metrics and the alerts."""

import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from support.service import Service

pytestmark = pytest.mark.programs

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_it_is_told(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    service = Service("web:app", "--workers", "2", "--metrics", str(port), cwd=tmp_path)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert promtool("check", "metrics", text=answer.read().decode()) == ""
    finally:
        service.close()


def test_the_alerts() -> None:
    assert "7 rules found" in promtool("check", "rules", OBSERVE / "alerts.yml")
    promtool("test", "rules", OBSERVE / "alerts_test.yml")
