"""Starting servers plain and preloaded, and ending whatever a test leaves of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client import free_port
from support.programs import Program
from support.service import let_everybody_in

Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(make, preloaded, **options)`: a server by one of `servers`' functions."""
    started: list[Program] = []
    let_everybody_in(tmp_path)  # workers may have another user

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
