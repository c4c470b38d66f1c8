"""Requests that users of TLS may make of a transport, and of OpenSSL through it."""

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificate as made
from support.protocols import LIKE_ASYNCIO, WAIT, Buffered, Notes, Plain, serving, turns

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


def echo(protocol: Notes) -> None:
    protocol.write(protocol.chunks[-1])


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def talk(address: Any, context: ssl.SSLContext, *said: bytes) -> ssl.SSLSocket:
    """Send each part and wait until it comes back; the socket, which is closed."""

    def run() -> ssl.SSLSocket:
        plain = socket.create_connection(address, timeout=WAIT)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            for one in said:
                sock.sendall(one)
                data = b""
                while len(data) < len(one):
                    part = sock.recv(65536)
                    assert part
                    data += part
                assert data == one
            return sock

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_it_knows(
    version: ssl.TLSVersion, certificate: Path, client_context: ssl.SSLContext
) -> None:
    """The answers remain when the connection is over, except those that come from the socket."""
    context = server_side(certificate)
    context.maximum_version = context.minimum_version = version
    known: dict[str, Any] = {}
    names = ("sslcontext", "ssl_object", "peercert", "cipher", "compression")

    def look(protocol: Notes) -> None:
        known.update({name: protocol.transport.get_extra_info(name) for name in names})
        known["other"] = protocol.transport.get_extra_info("nothing", "default")
        echo(protocol)

    async with serving(partial(Plain, data=look), ssl=context) as server:
        await talk(server.address, client_context, b"hello")
        protocol = await server.first()
        await protocol.ended()
        assert known["sslcontext"] is context
        assert isinstance(known["ssl_object"], ssl.SSLObject)
        assert known["ssl_object"].version() == f"TLSv1.{3 if version.name[-1] == '3' else 2}"
        assert known["cipher"] == known["ssl_object"].cipher()
        assert (known["peercert"], known["compression"], known["other"]) == (None, None, "default")
        assert protocol.transport.get_extra_info("sslcontext") is context


async def test_a_clients_certificate(tmp_path: Path, client_context: ssl.SSLContext) -> None:
    own, client = made(tmp_path, "own"), made(tmp_path, "client", "Some Client")
    context = server_side(own)
    context.load_verify_locations(client)
    context.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(own))
    asking.load_cert_chain(client)
    async with serving(partial(Plain, data=echo), ssl=context) as server:
        await talk(server.address, asking, b"hello")
        protocol = await server.first()
        cert: Any = protocol.transport.get_extra_info("peercert")
        assert (("commonName", "Some Client"),) in cert["subject"]
        await protocol.ended()


async def test_asked_for_a_certificate_afterwards(tmp_path: Path) -> None:
    """A server may ask between two requests: RFC 8446, 4.6.2."""
    own, client = made(tmp_path, "own"), made(tmp_path, "client", "Some Client")
    context = server_side(own)
    context.load_verify_locations(client)
    context.post_handshake_auth = True
    context.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(own))
    asking.load_cert_chain(client)
    asking.post_handshake_auth = True
    certs: list[Any] = []

    def answer(protocol: Notes) -> None:
        tls: ssl.SSLObject = protocol.transport.get_extra_info("ssl_object")
        certs.append(tls.getpeercert())
        if protocol.chunks[-1] == b"one":
            tls.verify_client_post_handshake()
        echo(protocol)

    async with serving(partial(Plain, data=answer), ssl=context) as server:
        await talk(server.address, asking, b"one", b"two", b"three")
        await (await server.first()).ended()
    assert not certs[0]
    assert (("commonName", "Some Client"),) in certs[2]["subject"]


async def test_keys_are_logged(
    tmp_path: Path, certificate: Path, client_context: ssl.SSLContext
) -> None:
    context = server_side(certificate)
    context.keylog_filename = str(tmp_path / "keys")
    async with serving(partial(Plain, data=echo), ssl=context) as server:
        await talk(server.address, client_context, b"hello")
        await (await server.first()).ended()
    context.keylog_filename = None  # type: ignore[assignment]
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


@pytest.mark.asyncio(loop_factories=[*OURS, "uvloop"])  # asyncio's own mixes up longer records
@pytest.mark.parametrize("size", [1, 16384, 16385, 300_000])
async def test_a_protocol_with_a_buffer_of_its_own(
    size: int, certificate: Path, client_context: ssl.SSLContext
) -> None:
    async with serving(partial(Buffered, data=echo), ssl=server_side(certificate)) as server:
        await talk(server.address, client_context, bytes(range(256)) * (size // 256) + b"x")
        await (await server.first()).ended()


async def test_many_small_writes_are_few_records(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    """All writes arrive, in order."""
    said = [b"%d," % number for number in range(5000)]

    def answer(protocol: Notes) -> None:
        for one in said:
            protocol.write(one)
        protocol.close()

    def run() -> bytes:
        plain = socket.create_connection(server.address, timeout=WAIT)
        with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"question")
            data = b""
            while part := sock.recv(65536):
                data += part
            return data

    async with serving(partial(Plain, data=answer), ssl=server_side(certificate)) as server:
        assert await asyncio.to_thread(run) == b"".join(said)
        await (await server.first()).ended()


async def test_a_file(tmp_path: Path, certificate: Path, client_context: ssl.SSLContext) -> None:
    """loop.sendfile reads and encrypts; it returns the number of bytes sent, wherever it began."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 3000)
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Sends(Plain):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.task = asyncio.create_task(self.send())

        async def send(self) -> None:
            loop = asyncio.get_running_loop()
            with path.open("rb") as file:
                sent.set_result(await loop.sendfile(self.transport, file, 1000, 500_000))
            self.transport.close()

    def run() -> bytes:
        plain = socket.create_connection(server.address, timeout=WAIT)
        with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
            data = b""
            while part := sock.recv(65536):
                data += part
            return data

    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        pytest.skip("uvloop has no sendfile")
    async with serving(Sends, ssl=server_side(certificate)) as server:
        assert await asyncio.to_thread(run) == path.read_bytes()[1000:501_000]
        assert await sent == 500_000
        protocol = await server.first()
        await protocol.ended()
        await protocol.task


@pytest.mark.asyncio(loop_factories=OURS)  # the others' are asyncio's own timers
async def test_a_handshake_that_takes_too_long(certificate: Path) -> None:
    options: Any = {"ssl": server_side(certificate), "ssl_handshake_timeout": 0.2}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Plain, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()

    def silent() -> bytes:
        with socket.create_connection(address, timeout=WAIT) as sock:
            with contextlib.suppress(ConnectionResetError):
                return sock.recv(100)
            return b""

    assert await asyncio.gather(*(asyncio.to_thread(silent) for _ in range(5))) == [b""] * 5
    server.close()
    await server.wait_closed()
    with pytest.raises(ValueError, match="positive"):
        await loop.create_server(Plain, "127.0.0.1", 0, ssl=options["ssl"], ssl_handshake_timeout=0)


class Records:
    """A client that sends several records in one segment."""

    def __init__(self, context: ssl.SSLContext, address: Any) -> None:
        self.sock = socket.create_connection(address, timeout=WAIT)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.until_done(self.tls.do_handshake)
        self.sock.sendall(self.outgoing.read())

    def until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return step()
            self.sock.sendall(self.outgoing.read())
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.incoming.write(data)

    def send(self, *parts: bytes, end: bool = False) -> None:
        for part in parts:
            self.tls.write(part)
        if end:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        self.sock.sendall(self.outgoing.read())

    def receive(self, count: int) -> int:
        size = 0
        while size < count:
            size += len(self.until_done(partial(self.tls.read, 65536)))
        return size


@pytest.mark.asyncio(loop_factories=OURS)  # asyncio's own has read it all by then
@pytest.mark.parametrize("then", ["FIN", "close_notify", "closes"])
async def test_what_waits_for_a_paused_protocol(
    then: str, certificate: Path, client_context: ssl.SSLContext
) -> None:
    """Waiting data comes before the end; a protocol that closes gets none, and closes anyway."""

    def run() -> None:
        client = Records(client_context, server.address)
        client.send(b"one", b"two", b"three", end=then != "FIN")
        if then == "FIN":
            client.sock.shutdown(socket.SHUT_WR)
        sent.set()
        over.wait(WAIT)
        client.sock.close()

    def pause(protocol: Notes) -> None:
        protocol.call("pause_reading")

    sent, over = threading.Event(), threading.Event()
    hooks: Any = {"data": pause}
    async with serving(partial(Plain, **hooks), ssl=server_side(certificate)) as server:
        talking = asyncio.create_task(asyncio.to_thread(run))
        protocol = await server.first()
        await protocol.told("data")
        await asyncio.to_thread(sent.wait, WAIT)
        await turns(20)
        if then == "closes":
            protocol.call("close")
        else:
            for count in (1, 2, 3):
                await protocol.until(partial(lambda n: len(protocol.chunks) == n, count))
                assert "eof" not in protocol.events
                protocol.call("resume_reading")
        await protocol.ended()
        over.set()
        await talking
        rest = b"" if then == "closes" else b"twothree"
        assert protocol.received == b"one" + rest


@pytest.mark.asyncio(loop_factories=[*LIKE_ASYNCIO, "our-uvloop"])  # uvloop's own never comes back
@pytest.mark.parametrize("how", ["end", "nonsense", "half a record", "reset"])
async def test_start_tls_that_fails_ends_the_connection(how: str, certificate: Path) -> None:
    """The connection ends for the protocol, too: wait_closed() returns."""
    loop = asyncio.get_running_loop()
    if how == "reset" and not hasattr(loop, "pulse"):
        pytest.skip("asyncio's own tells it nothing")
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(server_side(certificate))
        except OSError:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError as error:
                ended.set_result(error)
            else:
                ended.set_result(None)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        await turns(20)
        if how == "nonsense":
            sock.sendall(b"nonsense" * 100)
        elif how == "half a record":
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        elif how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await asyncio.wait_for(ended, WAIT)
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=OURS)
@pytest.mark.parametrize("as_server", [True, False])
async def test_start_tls_on_a_transport_that_closes(
    as_server: bool, certificate: Path, client_context: ssl.SSLContext
) -> None:
    """start_tls fails, and nothing else is reported."""
    loop: Any = asyncio.get_running_loop()
    context = server_side(certificate) if as_server else client_context
    name = {} if as_server else {"server_hostname": "localhost"}
    async with serving(Plain) as server:
        with socket.create_connection(server.address):
            protocol = await server.first()
            protocol.transport.close()
            with pytest.raises(ConnectionResetError):
                await loop.start_tls(
                    protocol.transport, protocol, context, server_side=as_server, **name
                )
            await protocol.ended()


@pytest.mark.asyncio(loop_factories=OURS)
async def test_start_tls_leaves_no_timer(certificate: Path, client_context: ssl.SSLContext) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(context)
        writer.write(await reader.readexactly(5))
        writer.close()
        with contextlib.suppress(ConnectionResetError):  # the client leaves a ticket unread
            await writer.wait_closed()
        over.set()

    def timers() -> int:
        gc.collect()
        handles = (o for o in gc.get_objects() if type(o).__name__ == "TimerHandle")
        return sum(not handle.cancelled() for handle in handles)

    over = asyncio.Event()
    context = server_side(certificate)
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    before = timers()
    for _ in range(5):
        over.clear()
        await talk(server.sockets[0].getsockname(), client_context, b"hello")
        await asyncio.wait_for(over.wait(), WAIT)
    assert timers() <= before + 1  # wait_for's own, perhaps
    server.close()
    await server.wait_closed()


async def test_an_abort_in_the_middle_of_its_own_write(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    """A callback of OpenSSL's aborts: the connection ends, and nothing is reported."""
    context = server_side(certificate)
    protocols: list[Notes] = []

    def message(_: object, direction: str, *rest: object) -> None:
        if direction == "write" and protocols:
            protocols.pop().transport.abort()

    def answer(protocol: Notes) -> None:
        protocols.append(protocol)
        protocol.write(b"x" * 100_000)

    def run() -> None:
        plain = socket.create_connection(server.address, timeout=WAIT)
        with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"hello")
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass

    context._msg_callback = message  # type: ignore[attr-defined]
    async with serving(partial(Plain, data=answer), ssl=context) as server:
        await asyncio.to_thread(run)
        protocol = await server.first()
        await protocol.ended()
        assert protocol.transport.get_write_buffer_size() == 0


@pytest.mark.asyncio(loop_factories=OURS)  # the others resume writing in the middle of a write
async def test_flow_control_in_a_callback_of_flow_control(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    """Several records in a segment: reading goes on when writing does, and all are delivered."""

    def answer(protocol: Notes) -> None:
        protocol.call("set_write_buffer_limits", 100)
        protocol.write(b"x" * 10_000)
        protocol.write(b"y" * 10_000)

    hooks: Any = {
        "data": answer,
        "pause": lambda protocol: protocol.call("pause_reading"),
        "resume": lambda protocol: protocol.call("resume_reading"),
    }

    def run() -> int:
        client = Records(client_context, server.address)
        with client.sock:
            client.send(b"one", b"two", b"three")
            return client.receive(20_000)

    async with serving(partial(Plain, **hooks), ssl=server_side(certificate)) as server:
        assert await asyncio.to_thread(run) >= 20_000
        protocol = await server.first()
        await protocol.until(lambda: protocol.received == b"onetwothree")
        protocol.call("abort")
        await protocol.ended()
