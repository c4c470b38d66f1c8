"""Fixtures that start servers plain and preloaded, and end those that a test leaves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client import free_port
from support.programs import Program
from support.service import let_everybody_in

Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(make, preloaded, **options)` starts a server by one of the functions of `servers`."""
    started: list[Program] = []
    let_everybody_in(tmp_path)  # workers may run as another user

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
    """`run(make, **options)` is `start`, with each test run plain and preloaded."""
    return lambda make, **options: start(make, preloaded, **options)
