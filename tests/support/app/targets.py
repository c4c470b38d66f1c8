"""Targets that the tests serve: answer with the worker's process id, then close."""

import asyncio
import os
import time


class Who(asyncio.Protocol):
    def connection_made(self, transport):  # type: ignore[no-untyped-def]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"sleep"):
            time.sleep(0.3)
        self.transport.write(b"%d\n" % os.getpid())
        self.transport.close()


def make_who() -> Who:
    return Who()


def make_target() -> type[Who]:
    return Who


class Needs(Who):
    def __init__(self, database: object) -> None: ...


class Raises(Who):
    def connection_made(self, transport):  # type: ignore[no-untyped-def]
        raise RuntimeError("not today")


async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


class Later(Who):
    """Answers a second after the request, so that a stop finds it busy."""

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(1.0, super().data_received, data)


class Held(Who):
    """Sends its process id at once, and keeps the connection."""

    def connection_made(self, transport):  # type: ignore[no-untyped-def]
        transport.write(b"%d\n" % os.getpid())

    def data_received(self, data: bytes) -> None: ...


class Blocks(Who):
    """Answers like the class Who. After "block PID SECONDS ELSE", it blocks its process: for
    SECONDS if this process is PID, and for ELSE if not."""

    def data_received(self, data: bytes) -> None:
        verb, *arguments = data.split()
        if verb == b"block":
            pid, seconds, otherwise = map(float, arguments)
            # Not here: written data may go out only when this method returns.
            wait = seconds if pid == os.getpid() else otherwise
            asyncio.get_running_loop().call_soon(time.sleep, wait)
        super().data_received(data)


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"%d\n" % os.getpid())
    await writer.drain()
    writer.close()


async def asgi(scope: object, receive: object, send: object) -> None:
    raise AssertionError


number = 5
