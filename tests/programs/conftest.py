"""Starting servers plain and preloaded, and ending whatever a test leaves of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.programs import Program, free_port

Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(make, preloaded, **options)`: a server by one of `servers`' functions."""
    started: list[Program] = []
    for folder in [tmp_path, *tmp_path.parents[:2]]:
        folder.chmod(0o755)  # workers may have another user

    def begin(make: Callable[..., Program], preloaded: bool, **options: object) -> Program:
        program = make(tmp_path, free_port(), preloaded, **options)
        started.append(program)
        return program

    yield begin
    for program in started:
        program.close()


@pytest.fixture(params=["plain", "preloaded"])
def preloaded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "preloaded")


@pytest.fixture
def run(start: Start, preloaded: bool) -> Start:
    """The same, each test plain and preloaded."""
    return lambda make, **options: start(make, preloaded, **options)
