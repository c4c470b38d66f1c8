"""Inputs that fuzzing has found (make fuzz), and hostile ones of tests: see support.fuzzing."""

from pathlib import Path

import pytest
from support.fuzzing import check

from .test_hostile import CASES, HEAD

CORPUS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus").iterdir())


def test_the_corpus() -> None:
    assert len(CORPUS) > 50
    for path in CORPUS:
        try:
            check(path.read_bytes())
        except BaseException as error:
            raise AssertionError(f"{path.name}: {path.read_bytes()!r}") from error


@pytest.mark.parametrize("name", CASES)
def test_hostile_requests_in_pieces(name: str) -> None:
    check(CASES[name][0])
    check(HEAD + b"\r\n" + CASES[name][0] + HEAD + b"\r\n")
