"""Shared code of the transport tests: protocols that note their callbacks, a server that checks
those notes, and a client that is a plain socket.
"""

import asyncio
import contextlib
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar, cast

WAIT = 30  # seconds; nothing here takes as long
MIB = 1 << 20

# Loops with the same behaviour, where asyncio's transports and uvloop's differ.
LIKE_ASYNCIO = ["asyncio", "our-asyncio"]
LIKE_UVLOOP = ["uvloop", "our-uvloop"]
NOT_UVLOOP = [*LIKE_ASYNCIO, "our-uvloop"]
# asyncio's own transport since Python 3.12 (seen in 3.12.1 and 3.13.0): writelines fails if all
# data is empty, with views of other types than bytes, and after close(). Data that resume_writing
# writes after close() is lost with an exception.
STUMBLES: set[str] = {"asyncio"} if sys.version_info >= (3, 12) else set()
SOUND_WRITERS = [name for name in (*LIKE_ASYNCIO, *LIKE_UVLOOP) if name not in STUMBLES]

# The methods of a transport that may call its protocol's pause_writing.
MAY_PAUSE = ("write", "writelines", "set_write_buffer_limits")
# The callbacks of one connection, without pause and resume.
ORDER = re.compile(r"made( data)?( eof)? lost")

Hook = Callable[[Any], object]


class Notes(asyncio.BaseProtocol):
    """Notes each callback, then calls its hook: made, data, eof, pause, resume, lost."""

    transport: asyncio.Transport
    peer: object = None

    def __init__(self, **hooks: Hook) -> None:
        self.events: list[str] = []  # "data" once for many in a row
        self.chunks: list[bytes] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self.nested: list[tuple[str, str]] = []  # callbacks inside of callbacks or methods
        self.hooks = hooks
        self._inside: list[str] = []

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))

    # -- called by the transport --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = transport.get_extra_info("peername")
        self.tell("made")

    def eof_received(self) -> Any:
        return self.tell("eof")

    def pause_writing(self) -> None:
        self.tell("pause")

    def resume_writing(self) -> None:
        self.tell("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        self.tell("lost")

    def tell(self, event: str, data: bytes = b"") -> object:
        if self._inside and not (event == "pause" and self._inside[-1] in MAY_PAUSE):
            self.nested.append((self._inside[-1], event))
        if data:
            self.chunks.append(data)
        if event != "buffer" and not (event == "data" and self.events[-1:] == ["data"]):
            self.events.append(event)
        self.changed.set()
        hook = self.hooks.get(event)
        with self._within(event):
            return hook(self) if hook is not None else None

    @contextlib.contextmanager
    def _within(self, name: str) -> Iterator[None]:
        self._inside.append(name)
        try:
            yield
        finally:
            self._inside.pop()

    # -- called by tests --

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the transport, noting the callbacks inside of it."""
        with self._within(method):
            return getattr(self.transport, method)(*arguments)

    def write(self, data: Any) -> None:
        self.call("write", data)

    def close(self) -> None:
        self.call("close")

    def abort(self) -> None:
        self.call("abort")

    def hand_over(self, to: "Notes") -> None:
        """`to` is the transport's protocol from now on; both have the same notes."""
        to.__dict__.update({k: v for k, v in self.__dict__.items() if k != "hooks"})
        self.call("set_protocol", to)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a condition that a callback brings about."""
        await _until(self.changed, true)

    async def told(self, event: str) -> None:
        await self.until(lambda: event in self.events)

    async def ended(self) -> Exception | None:
        """Wait for connection_lost; its exception."""
        return await asyncio.wait_for(asyncio.shield(self.lost), WAIT)

    def check(self) -> None:
        """Check the rules for each connection that is over."""
        assert self.nested == []
        flow = [event for event in self.events if event in ("pause", "resume")]
        assert flow == ["pause", "resume"] * (len(flow) // 2) + ["pause"] * (len(flow) % 2)
        rest = [event for event in self.events if event not in flow]
        once = [e for i, e in enumerate(rest) if e != "data" or rest[i - 1] != "data"]
        assert ORDER.fullmatch(" ".join(once)), self.events
        assert self.events[-1] == "lost"


class Plain(Notes, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.tell("data", data)


class Buffered(Notes, asyncio.BufferedProtocol):
    """Reads into a buffer of its own, of a few bytes unless told otherwise."""

    capacity = 7

    def get_buffer(self, sizehint: int) -> Any:
        assert isinstance(sizehint, int)
        buffer: Any = self.tell("buffer")
        self.buffer: Any = bytearray(self.capacity) if buffer is None else buffer
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.tell("data", bytes(self.buffer[:nbytes]))


P = TypeVar("P", bound=Notes)


class Serving(Generic[P]):
    """A server's protocols, all made by `make`."""

    address: Any

    def __init__(self, factory: Callable[[], P]) -> None:
        self.protocols: list[P] = []
        self.changed = asyncio.Event()
        self._factory = factory

    def make(self) -> P:
        protocol = self._factory()
        protocol.changed = self.changed
        self.protocols.append(protocol)
        self.changed.set()
        return protocol

    async def until(self, true: Callable[[], bool]) -> None:
        await _until(self.changed, true)

    async def first(self) -> P:
        """The only connection's protocol, once it knows its transport."""
        await self.until(lambda: bool(self.protocols and self.protocols[0].events))
        return self.protocols[0]

    async def of(self, client: "Client") -> P:
        """The protocol of one of several clients; there is no order among those."""
        found: list[P] = []

        def known() -> bool:
            found[:] = [p for p in self.protocols if p.peer == client.address]
            return bool(found)

        await self.until(known)
        return found[0]


class Client:
    """A plain socket: a call's work is done when it returns, before the loop's next turn."""

    def __init__(self, address: Any, receive_buffer: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.address = self.sock.getsockname()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        assert self.sock.send(data) == len(data)

    def finish(self) -> None:
        """End the sending side."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave without a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def send_all(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), WAIT)

    async def receive(self, count: int) -> bytes:
        """Receive `count` bytes; fewer if the server ends its side."""
        loop, data = asyncio.get_running_loop(), bytearray()
        async with asyncio.timeout(WAIT):
            while len(data) < count:
                part = await loop.sock_recv(self.sock, min(count - len(data), MIB))
                if not part:
                    break
                data += part
        return bytes(data)

    async def rest(self) -> bytes:
        """Everything until the end; a reset is an exception."""
        return await self.receive(1 << 40)


@contextlib.asynccontextmanager
async def serving(
    factory: Callable[[], P], host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[Serving[P]]:
    """A server; in the end every connection is ended, and its notes are checked."""
    loop = asyncio.get_running_loop()
    one: Serving[P] = Serving(factory)
    server = await loop.create_server(one.make, host, 0, **options)
    one.address = server.sockets[0].getsockname()[:2]
    try:
        yield one
    finally:
        met = [p for p in one.protocols if p.events]
        for protocol in met:
            if not protocol.lost.done():
                protocol.abort()
        for protocol in met:
            await protocol.ended()
        server.close()
        await server.wait_closed()
    for protocol in met:
        protocol.check()


@contextlib.asynccontextmanager
async def connected(
    factory: Callable[[], P], host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[Client, P]]:
    """One client and the protocol of its connection."""
    async with serving(factory, host) as server:
        with Client(server.address, **options) as client:
            yield client, await server.of(client)


async def turns(count: int = 20) -> None:
    """Wait `count` turns of the loop, each with a look at every descriptor: all events arrive."""
    for _ in range(count):
        await asyncio.sleep(0)


def hear_errors() -> list[dict[str, Any]]:
    """The contexts that the loop's exception handler gets from now on."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def _until(changed: asyncio.Event, true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():
            changed.clear()
            await changed.wait()
