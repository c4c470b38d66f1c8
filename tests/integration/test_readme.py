"""The README's examples do what it says."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.client import ask, connect
from support.service import Service

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_stream_handler(serve: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[0])
    service = serve("app:handle", "--app-dir", str(tmp_path))
    assert ask(service.address, b"hello\n") == b"you said hello\n"


def test_protocol(serve: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[1])
    service = serve("app:Echo", "--app-dir", str(tmp_path))
    with connect(service.address) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_listen_table_in_a_program(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", EXAMPLES[2]], cwd=tmp_path, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    assert "own=1" in out.stdout
    assert len(EXAMPLES) == 3
