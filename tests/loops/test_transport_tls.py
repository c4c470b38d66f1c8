"""TLS over a server's transport: from the first byte on, or from start_tls on."""

import asyncio
import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from support.protocols import (
    LIKE_ASYNCIO,
    MIB,
    NOT_UVLOOP,
    SOUND_WRITERS,
    WAIT,
    Client,
    Notes,
    Plain,
    connected,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]
DATA = random.Random(8).randbytes(4 * MIB)


def echo(protocol: Notes) -> None:
    protocol.write(protocol.chunks[-1])


def exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count and (part := sock.recv(count - len(data))):
        data += part
    return bytes(data)


async def as_client(context: ssl.SSLContext, address: Any, talk: Callable[[Any], Any]) -> Any:
    """The result of `talk` with a TLS socket, in a thread: OpenSSL itself is the other side."""

    def run() -> Any:
        plain = socket.create_connection(address, timeout=WAIT)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            return talk(sock)

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("size", [1, 100_000, len(DATA)])
async def test_echo(
    size: int, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    def talk(sock: ssl.SSLSocket) -> bytes:
        sock.sendall(DATA[:size])
        return exactly(sock, size)

    async with serving(partial(Plain, data=echo), ssl=server_context) as server:
        assert await as_client(client_context, server.address, talk) == DATA[:size]
        protocol = await server.first()
        assert await protocol.ended() is None
        assert protocol.received == DATA[:size]


@pytest.mark.parametrize("ending", ["unwrap", "close"])
async def test_a_client_that_ends(
    ending: str, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Without close_notify, uvloop's own transport tells the protocol only of the loss."""

    def talk(sock: ssl.SSLSocket) -> None:
        sock.sendall(b"data")
        assert exactly(sock, 4) == b"data"
        if ending == "unwrap":
            sock.unwrap().close()

    async with serving(partial(Plain, data=echo), ssl=server_context) as server:
        await as_client(client_context, server.address, talk)
        protocol = await server.first()
        assert await protocol.ended() is None
        silent = ending == "close" and type(protocol.transport).__module__.startswith("uvloop")
        assert protocol.events == ["made", "data", *([] if silent else ["eof"]), "lost"]


async def test_a_server_that_closes(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Buffered data is sent, and the client is told that it is complete."""

    def answer(protocol: Notes) -> None:
        protocol.write(DATA)
        protocol.close()

    def talk(sock: ssl.SSLSocket) -> bytes:
        sock.sendall(b"question")
        data = exactly(sock, len(DATA))
        sock.unwrap().close()  # raises unless the other side sent close_notify, too
        return data

    async with serving(partial(Plain, data=answer), ssl=server_context) as server:
        assert await as_client(client_context, server.address, talk) == DATA
        assert await (await server.first()).ended() is None


@pytest.mark.asyncio(loop_factories=["our-asyncio", "our-uvloop"])
async def test_all_that_waits_is_told(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """asyncio's own transport does not count data that it has encrypted and not sent."""

    def answer(protocol: Notes) -> None:
        protocol.write(DATA * 5)

    def talk(sock: ssl.SSLSocket) -> bytes:
        sock.sendall(b"question")
        assert looked.wait(WAIT)
        return exactly(sock, 5 * len(DATA))

    looked = threading.Event()
    async with serving(partial(Plain, data=answer), ssl=server_context) as server:
        talking = asyncio.create_task(as_client(client_context, server.address, talk))
        protocol = await server.first()
        while not protocol.received:
            await asyncio.sleep(0.01)
        transport: Any = protocol.transport
        assert transport.get_write_buffer_size() > len(DATA)
        looked.set()
        assert await talking == DATA * 5
        assert transport.get_write_buffer_size() == 0


@pytest.mark.asyncio(loop_factories=["our-asyncio", "our-uvloop"])
@pytest.mark.parametrize("reads", [True, False])
async def test_the_time_to_close_is_for_clients_that_stand_still(
    reads: bool, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """asyncio's own loop and uvloop cut clients that read an answer for longer than that time."""
    over = threading.Event()

    def answer(protocol: Notes) -> None:
        protocol.write(DATA * 5)
        protocol.close()

    def talk() -> int:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        plain.settimeout(WAIT)
        plain.connect(server.address)
        total = 0
        with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"question")
            if not reads:
                over.wait(WAIT)
                return 0
            while data := sock.recv(16384):
                total += len(data)
                time.sleep(0.002)
        return total

    options: Any = {"ssl": server_context, "ssl_shutdown_timeout": 2.0}
    async with serving(partial(Plain, data=answer), **options) as server:
        talking = asyncio.create_task(asyncio.to_thread(talk))
        if not reads:
            assert isinstance(await (await server.first()).ended(), TimeoutError)
            over.set()
        assert await talking == (5 * len(DATA) if reads else 0)


@pytest.mark.asyncio(loop_factories=SOUND_WRITERS)
async def test_a_client_that_says_no_more_and_reads_slowly(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """All of the answer arrives, though the client's end comes while most of it is still here."""

    def talk() -> int:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        plain.settimeout(WAIT)
        with plain:
            plain.connect(server.address)
            received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context.wrap_bio(received, to_send, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(to_send.read())
                    received.write(plain.recv(65536))
            tls.write(b"question")
            plain.sendall(to_send.read())
            answering.wait(WAIT)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()
            plain.sendall(to_send.read())
            total = 0
            while data := plain.recv(65536):
                total += len(data)
            return total

    def answer(protocol: Notes) -> None:
        for _ in range(5):  # the parts after the first are not even encrypted yet
            protocol.write(DATA)
        answering.set()

    answering = threading.Event()
    async with serving(partial(Plain, data=answer), ssl=server_context) as server:
        assert await asyncio.to_thread(talk) > 5 * len(DATA)
        assert await (await server.first()).ended() is None


async def test_a_server_that_aborts(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    def talk(sock: ssl.SSLSocket) -> bytes:
        sock.sendall(b"question")
        try:
            return sock.recv(100)
        except OSError:
            return b""

    aborting = partial(Plain, data=lambda p: p.abort())
    async with serving(aborting, ssl=server_context) as server:
        assert await as_client(client_context, server.address, talk) == b""
        assert await (await server.first()).ended() is None


async def test_what_the_transport_tells(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """The transport tells its peer and context; data written in connection_made arrives."""
    async with serving(partial(Plain, made=lambda p: p.write(b"hello")), ssl=server_context) as (
        server
    ):

        def talk(sock: ssl.SSLSocket) -> tuple[bytes, object]:
            answer = exactly(sock, 5), sock.getsockname()
            sock.sendall(b"done")
            return answer

        hello, name = await as_client(client_context, server.address, talk)
        protocol = await server.first()
        await protocol.ended()
        assert hello == b"hello"
        assert protocol.peer == name
        assert protocol.transport.get_extra_info("sslcontext") is server_context
        assert protocol.transport.is_closing()


async def test_pausing(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with serving(Plain, ssl=server_context) as server:
        reader, writer = await asyncio.open_connection(
            *server.address, ssl=client_context, server_hostname="localhost"
        )
        protocol = await server.first()
        protocol.transport.pause_reading()
        writer.write(b"later")
        await turns(50)
        assert protocol.received == b""
        protocol.call("resume_reading")
        await protocol.until(lambda: protocol.received == b"later")
        protocol.write(b"answer")
        assert await reader.readexactly(6) == b"answer"
        writer.close()
        await writer.wait_closed()


# -- start_tls --


class Upgrading(Plain):
    """Answers the first line by an upgrade, and echoes later data."""

    def __init__(self, context: ssl.SSLContext, before: Callable[[Notes], object]) -> None:
        super().__init__(data=self._told)
        self._context, self._before = context, before
        self._upgrading: asyncio.Task[None] | None = None
        self._secure = False

    def _told(self, _: Notes) -> None:
        if self._upgrading is None:
            self._before(self)
            self._upgrading = asyncio.create_task(self._upgrade())
        elif self._secure:
            self.write(self.chunks[-1])

    async def _upgrade(self) -> None:
        if not self.transport.is_reading():
            await turns(50)  # the client's hello comes before it is read
        transport = await asyncio.get_running_loop().start_tls(
            self.transport, self, self._context, server_side=True
        )
        assert transport is not None
        self.transport, self._secure = transport, True
        for data in self.chunks[1:]:  # data may come before the task goes on
            self.write(data)

    async def upgraded(self) -> None:
        assert self._upgrading is not None
        await self._upgrading


def upgrade(context: ssl.SSLContext, address: Any, size: int) -> bytes:
    with socket.create_connection(address, timeout=WAIT) as plain:
        plain.sendall(b"STARTTLS\n")
        assert exactly(plain, 3) == b"go\n"
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(DATA[:size])
            data = exactly(sock, size)
            sock.unwrap().close()
            return data


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("size", [5, len(DATA)])
async def test_start_tls_on_a_transport(
    size: int, paused: bool, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Data written before start_tls goes out in the clear."""

    def before(protocol: Notes) -> None:
        if paused:
            protocol.transport.pause_reading()
        protocol.write(b"go\n")

    async with serving(partial(Upgrading, server_context, before)) as server:
        data = await asyncio.to_thread(upgrade, client_context, server.address, size)
        assert data == DATA[:size]
        protocol = await server.first()
        assert await protocol.ended() is None
        assert protocol.received == b"STARTTLS\n" + DATA[:size]
        assert protocol.events == ["made", "data", "eof", "lost"]
        await protocol.upgraded()


async def test_start_tls_needs_a_context(client_context: ssl.SSLContext) -> None:
    """The connection goes on without TLS."""
    loop: Any = asyncio.get_running_loop()
    async with connected(Plain) as (client, protocol):
        with pytest.raises(TypeError, match="SSLContext"):
            await loop.start_tls(protocol.transport, protocol, None, server_side=True)
        client.send(b"plain")
        await protocol.until(lambda: protocol.received == b"plain")


@pytest.mark.asyncio(loop_factories=[*LIKE_ASYNCIO, "our-uvloop"])  # uvloop's own never comes back
async def test_start_tls_with_a_client_without_tls(server_context: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exception | None] = loop.create_future()

    class Spoken(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # Our loops may deliver the first bytes together with the connection.
            cast(asyncio.Transport, transport).pause_reading()
            self.upgrading = asyncio.create_task(
                loop.start_tls(transport, self, server_context, server_side=True)  # type: ignore[arg-type]
            )
            self.upgrading.add_done_callback(lambda task: ended.set_result(task.exception()))  # type: ignore[arg-type]

    server = await loop.create_server(Spoken, "127.0.0.1", 0)
    with Client(server.sockets[0].getsockname()) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert isinstance(await asyncio.wait_for(ended, WAIT), OSError)
        await client.rest()
    server.close()
    await server.wait_closed()


async def test_start_tls_of_a_stream_writer(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(server_context)
        while data := await reader.read(MIB):
            writer.write(data)
            await writer.drain()
        writer.close()
        over.set_result(None)

    over = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    assert await asyncio.to_thread(upgrade, client_context, address, 9) == DATA[:9]
    await asyncio.wait_for(over, WAIT)
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=NOT_UVLOOP)  # uvloop leaves the hello to the stream
async def test_start_tls_with_a_client_that_speaks_at_once(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """A stream handler's first step asks for TLS: the data before that is the client's hello."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(server_context)
        writer.write(await reader.readexactly(5))
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(handle, "localhost", 0, family=socket.AF_INET)
    async with server:
        for _ in range(10):
            with socket.create_connection(server.sockets[0].getsockname()) as sock:
                sock.setblocking(False)
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")
                got = None
                # The client's first bytes arrive before the loop turns, and accepts it.
                for step in (tls.do_handshake, partial(tls.write, b"hello"), partial(tls.read, 5)):
                    while True:
                        with contextlib.suppress(ssl.SSLWantReadError):
                            got = step()
                            break
                        sock.sendall(outgoing.read())
                        incoming.write(await asyncio.wait_for(loop.sock_recv(sock, 65536), WAIT))
                    sock.sendall(outgoing.read())
                assert got == b"hello"


@pytest.mark.asyncio(loop_factories=[*OURS, "uvloop"])  # asyncio delivers data at once
async def test_start_tls_knows_its_transport_before_it_hears(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Data that comes with the end of the handshake is answered over TLS."""

    class Upgrades(Notes, asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            # The first step of upgrade() runs here: the client may send at once.
            self.upgrading = self.upgrade()
            self.upgrading.send(None).add_done_callback(self.go_on)

        async def upgrade(self) -> None:
            loop = asyncio.get_running_loop()
            new = await loop.start_tls(self.transport, self, server_context, server_side=True)
            self.transport = cast(asyncio.Transport, new)

        def go_on(self, _: object) -> None:
            with contextlib.suppress(StopIteration):
                self.upgrading.send(None)

        def data_received(self, data: bytes) -> None:
            self.tell("data", data)
            self.transport.write(data)

    def talk(address: Any) -> bytes:
        with socket.create_connection(address, timeout=WAIT) as sock:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    break
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
            tls.write(b"hello")
            sock.sendall(outgoing.read())  # the end of the handshake, and the first data
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    return tls.read(5)
                incoming.write(sock.recv(65536))

    async with serving(Upgrades) as server:
        assert await asyncio.to_thread(talk, server.address) == b"hello"
        protocol = await server.first()
        assert protocol.received == b"hello"
        await protocol.ended()
