"""One TLS connection's data never gets into another. On our loops they share two buffers."""

import asyncio
import contextlib
import random
import socket
import ssl
from functools import partial
from typing import Any, Self

import pytest
from support.protocols import WAIT, Notes, Plain, serving

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


class Peer:
    """A client that sends its records at the times, and in the pieces, that the test chooses."""

    def __init__(self, context: ssl.SSLContext, address: Any, name: str = "localhost") -> None:
        self.sock = socket.create_connection(address, timeout=WAIT)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def hello(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def connect(self) -> Self:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.hear()
        self.sock.sendall(self.outgoing.read())
        return self

    def hear(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.incoming.write(data)

    def encrypted(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.encrypted(data))

    def exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            try:
                part = self.tls.read(size - len(found))
            except ssl.SSLWantReadError:
                self.hear()
                continue
            if not part:
                break
            found += part
        return found

    def ends(self) -> bool:
        """Whether only an end, or an alert, comes."""
        try:
            return self.tls.read(1000) == b""
        except ssl.SSLWantReadError:
            try:
                self.hear()
            except (EOFError, OSError):
                return True
            return self.ends()
        except ssl.SSLError:
            return True


def echo(protocol: Notes) -> None:
    protocol.write(protocol.chunks[-1])


@pytest.mark.asyncio(loop_factories=OURS)  # the others' protocols are made before a handshake fails
async def test_in_pieces_between_each_other(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Handshakes, data, garbage and ends of many connections, cut anywhere, in any order."""
    chance = random.Random(22)

    def echo_or_fail(protocol: Notes) -> None:
        data = protocol.chunks[-1]
        if b"raise" in data:
            protocol.abort()
            raise ConnectionError("asked for")
        protocol.write(data)

    def talk(address: Any) -> None:
        with contextlib.ExitStack() as stack:
            alive: dict[Peer, bytes] = {}
            for turn in range(36):
                peer = stack.enter_context(Peer(client_context, address))
                hello = peer.hello()
                cut = chance.randrange(1, len(hello))
                peer.sock.sendall(hello[:cut])
                kind = turn % 6
                if kind == 0:  # then garbage
                    peer.sock.sendall(b"\x16\x03\x03\x40\x00" + chance.randbytes(0x4000))
                    continue
                if kind == 1:  # then nothing
                    peer.sock.close()
                    continue
                peer.sock.sendall(hello[cut:])
                peer.connect()
                alive[peer] = b"%d:" % turn * chance.randrange(1, 9000)
                for other in chance.sample(list(alive), min(4, len(alive))):
                    data = alive[other]
                    records = other.encrypted(data)
                    middle = chance.randrange(len(records))
                    other.sock.sendall(records[:middle])
                    last = chance.choice(list(alive))
                    if last is not other:
                        last.send(alive[last])
                    other.sock.sendall(records[middle:])
                    assert other.exactly(len(data)) == data
                    if last is not other:
                        assert last.exactly(len(alive[last])) == alive[last]
                if kind == 2:  # data, and garbage in the same segment
                    peer.sock.sendall(peer.encrypted(b"last") + b"\x17\x03\x03\x00\x20" + b"x" * 32)
                    with contextlib.suppress(ssl.SSLError):  # the alert may come before
                        assert peer.exactly(4) in (b"last", b"")
                    assert peer.ends()
                    del alive[peer]
                elif kind == 3:  # a protocol that fails, with more records behind
                    peer.sock.sendall(b"".join(peer.encrypted(b"raise") for _ in range(3)))
                    assert peer.ends()
                    del alive[peer]
            for peer, data in alive.items():
                peer.send(data)
            for peer, data in alive.items():
                assert peer.exactly(len(data)) == data

    async with serving(partial(Plain, data=echo_or_fail), ssl=server_context) as server:
        await asyncio.to_thread(talk, server.address)
        for protocol in server.protocols:
            received = protocol.received
            assert len(set(received.replace(b"raise", b"").replace(b"last", b"").split(b":"))) <= 2


@pytest.mark.parametrize("callback", ["name", "message"])
@pytest.mark.parametrize("what", ["write", "large", "close", "abort", "pause"])
async def test_a_callback_of_openssl_that_uses_another_connection(
    what: str, callback: str, client_context: ssl.SSLContext, certificate: Any
) -> None:
    """The callback runs in the middle of a call: the bytes of the two connections are not mixed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    sent = {"write": b"for the first", "large": b"for the first " * 20_000}.get(what, b"")
    before: list[Notes] = []

    def called(*about: object) -> None:
        name = getattr(about[-2], "name", "")
        if callback == "message" and name != "CLIENT_KEY_EXCHANGE":
            return
        found = before.copy()
        before.clear()  # the calls below may call this again
        for protocol in found:
            if what in ("write", "large"):
                protocol.write(sent)
            elif what == "pause":
                protocol.call("pause_reading")
                protocol.call("resume_reading")
            else:
                protocol.call(what)

    def talk(address: Any) -> None:
        with Peer(client_context, address) as first, Peer(client_context, address) as second:
            first.connect()
            first.send(b"one")
            assert first.exactly(3) == b"one"
            before.extend(protocol for protocol in server.protocols if protocol.events)
            assert len(before) == 1
            second.connect()
            assert not before
            second.send(b"two")
            assert second.exactly(3) == b"two"
            if what in ("close", "abort"):
                assert first.ends()
            else:
                assert first.exactly(len(sent)) == sent
                first.send(b"three")
                assert first.exactly(5) == b"three"

    async with serving(partial(Plain, data=echo), ssl=context) as server:
        if callback == "name":
            context.sni_callback = called
        else:  # with the rest of the client's flight in the buffers
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context._msg_callback = called  # type: ignore[attr-defined]
        await asyncio.to_thread(talk, server.address)
        ends = what in ("close", "abort")
        assert {p.received for p in server.protocols} == {b"one" if ends else b"onethree", b"two"}


async def test_a_user_that_calls_an_ssl_object(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    """Data that it leaves in the buffers is neither output nor input of another connection."""

    def misuse(protocol: Notes) -> None:
        tls: ssl.SSLObject = protocol.transport.get_extra_info("ssl_object")
        if protocol.chunks[-1] == b"misuse":
            tls.write(b"for nobody")
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.read(100)
        else:
            protocol.write(protocol.chunks[-1])

    def talk(address: Any) -> None:
        with Peer(client_context, address) as first, Peer(client_context, address) as second:
            first.connect()
            second.connect()
            for _ in range(3):
                first.send(b"misuse")
                second.send(b"another")
                assert second.exactly(7) == b"another"

    async with serving(partial(Plain, data=misuse), ssl=server_context) as server:
        await asyncio.to_thread(talk, server.address)


@pytest.mark.asyncio(loop_factories=OURS)  # the others' protocols are made before a handshake fails
async def test_a_callback_that_fails(client_context: ssl.SSLContext, certificate: Any) -> None:
    """The callback's connection ends; another one goes on, and the next one works."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def named(_: object, __: str, ___: object) -> int:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    def talk(address: Any) -> None:
        with Peer(client_context, address) as first, Peer(client_context, address) as second:
            first.connect()
            context.sni_callback = named
            second.sock.sendall(second.hello() + b"\x17\x03\x03\x00\x10" + b"x" * 16)
            with pytest.raises((ssl.SSLError, EOFError, OSError)):
                second.connect()
            context.sni_callback = None
            first.send(b"one")
            assert first.exactly(3) == b"one"
        with Peer(client_context, address) as third:
            third.connect().send(b"three")
            assert third.exactly(5) == b"three"

    async with serving(partial(Plain, data=echo), ssl=context) as server:
        await asyncio.to_thread(talk, server.address)
