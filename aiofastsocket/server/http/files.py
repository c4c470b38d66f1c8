"""A file as a response's body (the extension http.response.pathsend)."""

import asyncio
import os
import stat
from typing import Any, BinaryIO

from ..._native.exchange import Exchange
from ...errors import ClientDisconnected

READ_SIZE = 65536


def _at_once(path: str, flags: int) -> int:
    """An opener that does not block: otherwise, opening a FIFO would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


async def send_file(request: Exchange, path: str) -> None:
    """Send a file, by sendfile(2) if its size is known and the connection is not encrypted. Raises
    RuntimeError if it is not a regular file, or is shorter than promised, ClientDisconnected if the
    client leaves meanwhile."""
    wire = request.wire
    # loop.sendfile does not read: a client that sends a body meanwhile must not count as slow.
    wire.hold(True)
    try:
        with open(path, "rb", opener=_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise RuntimeError(
                    f"'http.response.pathsend' of {path!r}, which is not a regular file"
                )
            if about.st_size == 0:  # or the kernel does not report it, as in /proc
                await _read_and_send(request, file)
            else:
                await _send(request, file, 0, about.st_size)
    finally:
        wire.hold(False)


async def _send(request: Exchange, file: BinaryIO, offset: int, size: int) -> None:
    count, sent = request.file_begins(size), 0
    if count:
        transport = request.wire.transport
        try:
            sent = await request.service.loop.sendfile(transport, file, offset, count)
        except OSError as error:
            request.lose(max(0, file.tell() - offset))
            transport.abort()
            raise ClientDisconnected(f"the client is gone: {error}") from error
        if sent < count:
            transport.abort()
            raise RuntimeError(f"{file.name!r} became shorter while it was sent")
    request.file_ended(sent)


async def _read_and_send(request: Exchange, file: BinaryIO) -> None:
    loop = request.service.loop
    while not request.is_silent and request.left != 0:
        data = await loop.run_in_executor(None, file.read, READ_SIZE)
        if not data:
            break
        part = data if request.left < 0 else data[: request.left]
        await request.send({"type": "http.response.body", "body": part, "more_body": True})
    await request.send({"type": "http.response.body"})


async def send_rest_of_file(call: Any, file: BinaryIO) -> None:
    """Send the body of a WSGI response: the file, from its present position."""
    error: BaseException | None = None
    try:
        offset = file.tell()
        size = os.fstat(file.fileno()).st_size - offset
        await _send(call, file, offset, max(0, size))
    except asyncio.CancelledError:  # its client is gone
        raise
    except BaseException as caught:
        error = caught
    finally:
        call.file_is_sent(error)
