"""Bodies that applications in other people's frameworks stream."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path


def blocks() -> Iterator[bytes]:
    for i in range(5):
        yield b"part %d\n" % i


async def parts() -> AsyncIterator[bytes]:
    for block in blocks():
        yield block


async def silent() -> AsyncIterator[bytes]:
    """One part, and no more while there is a client; a file `left` in $FILES shows the end."""
    yield b"part 0\n"
    try:
        await asyncio.sleep(1000)
    finally:
        (Path(os.environ["FILES"]) / "left").touch()
