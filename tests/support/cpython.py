"""Runs a TestCase of CPython's own test_asyncio on one of our loops; a program of its own.

    python cpython.py test_events.EPollEventLoopTests asyncio [-k PATTERN]

prints one JSON object: tests run, outcomes that are not success, loops and listen tables made.
"""

import asyncio
import importlib
import io
import json
import sys
import unittest
from typing import Any

import aiofastsocket
from aiofastsocket import new_event_loop
from aiofastsocket.loop import SelectorLoop
from aiofastsocket.loop.on_uvloop import UvloopLoop
from aiofastsocket.table import open as opening


class Counts:
    loops = 0
    tables = 0


LOOP = sys.argv[2]


def make_loop(*_: Any) -> asyncio.AbstractEventLoop:
    """In place of asyncio.SelectorEventLoop(selector)."""
    Counts.loops += 1
    loop: Any = new_event_loop(LOOP, slots=2)
    if LOOP == "uvloop":
        loop._default_executor = None  # CPython's close_loop() needs it
    return loop  # type: ignore[no-any-return]


class CountedTable(aiofastsocket.ListenTable):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Counts.tables += 1


class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return make_loop()


def on_our_loop(module: str, case: Any) -> Any:
    """The tests of `case`, which fail at once if the loop is not ours."""

    class Ours(case):  # type: ignore[misc]
        def setUp(self) -> None:
            super().setUp()
            loop = getattr(self, "loop", None)
            assert loop is None or type(loop) in (SelectorLoop, UvloopLoop), loop

    if module == "test_selectors":
        Ours.SELECTOR = aiofastsocket.FastsocketSelector
    Ours.__name__ = Ours.__qualname__ = case.__name__
    return Ours


def main(name: str) -> None:
    module_name, class_name = name.split(".")
    package = "test" if module_name == "test_selectors" else "test.test_asyncio"
    module = importlib.import_module(f"{package}.{module_name}")
    opening.ListenTable = CountedTable  # type: ignore[attr-defined]
    asyncio.SelectorEventLoop = make_loop  # type: ignore[assignment]
    asyncio.set_event_loop_policy(Policy())
    case = on_our_loop(module_name, getattr(module, class_name))
    if sys.argv[3:4] == ["-k"]:
        unittest.defaultTestLoader.testNamePatterns = sys.argv[4:]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    result = unittest.TextTestRunner(io.StringIO(), verbosity=0).run(suite)
    bad = {test.id().rpartition(".")[2]: text for test, text in result.failures + result.errors}
    skipped = {test.id().rpartition(".")[2]: text for test, text in result.skipped}
    print(
        json.dumps(
            {
                "run": result.testsRun,
                "bad": bad,
                "skipped": skipped,
                "loops": Counts.loops,
                "tables": Counts.tables,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
