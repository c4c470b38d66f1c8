"""Look for bytes that break the HTTP layer: python run.py [libFuzzer's options] CORPUS...

What is found goes into the first corpus folder; what breaks it, into ./crash-*.
"""

import logging
import sys
from pathlib import Path

import atheris

# The compiled parser tells libFuzzer nothing of its ways: what is made of it in Python does.
with atheris.instrument_imports(include=["aiofastsocket.server.http", "support.fuzzing"]):
    sys.path.insert(1, str(Path(__file__).parents[1]))
    from support.fuzzing import check


def one(data: bytes) -> None:
    check(data)


logging.disable()
atheris.Setup(sys.argv, one)
atheris.Fuzz()
