"""Look for bytes that break the HTTP layer: python run.py [libFuzzer's options] CORPUS...

New inputs go into the first corpus folder; inputs that break the HTTP layer go into ./crash-*.
"""

import logging
import sys
from pathlib import Path

import atheris

# The compiled parser gives libFuzzer no coverage; the Python code behind it does.
with atheris.instrument_imports(include=["aiofastsocket.server.http", "support.fuzzing"]):
    sys.path.insert(1, str(Path(__file__).parents[1]))
    from support.fuzzing import check


def one(data: bytes) -> None:
    check(data)


logging.disable()
atheris.Setup(sys.argv, one)
atheris.Fuzz()
