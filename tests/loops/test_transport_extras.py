"""The information that a server's transport gives, and the context of its protocol's calls."""

import asyncio
import contextlib
import contextvars
import copy
import logging
import socket
import weakref
from functools import partial
from typing import Any

import pytest
from support.protocols import (
    LIKE_ASYNCIO,
    MIB,
    Client,
    Notes,
    Plain,
    connected,
    serving,
    turns,
)

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


@pytest.mark.asyncio(loop_factories=OURS)
async def test_none_is_made_by_hand() -> None:
    """Users cannot make or copy a transport; one made by force is useless, but harmless."""
    async with connected(Plain) as (_, protocol):
        kind = type(protocol.transport)
        with pytest.raises(TypeError, match="made by servers"):
            kind()
        with pytest.raises(TypeError):
            copy.copy(protocol.transport)
        forced = kind.__new__(kind)
        for call in (forced.close, forced.abort, partial(forced.get_extra_info, "peername")):
            with contextlib.suppress(AttributeError):
                call()
        assert forced.get_write_buffer_size() == 0


async def test_what_connection_lost_can_ask_for() -> None:
    """connection_lost can get the addresses, and a socket that is closed or about to be."""
    told: dict[str, Any] = {}

    def lost(protocol: Notes) -> None:
        for name in ("peername", "sockname", "socket"):
            told[name] = protocol.transport.get_extra_info(name)
        told["type"] = told["socket"].type

    async with connected(partial(Plain, lost=lost)) as (client, protocol):
        server = client.sock.getpeername()
        protocol.close()
        await client.rest()
        await protocol.ended()
    assert told["peername"] == client.address
    assert told["sockname"] == server
    assert told["type"] == socket.SOCK_STREAM
    assert told["socket"].fileno() == -1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.10.200.255", "127.109.9.90", "::1"])
async def test_addresses_of_a_connection(host: str) -> None:
    """The addresses are those that the client sees, even when the connection is over."""
    async with connected(Plain, host) as (client, protocol):
        for _ in range(2):
            assert protocol.transport.get_extra_info("peername") == client.address
            sockname = protocol.transport.get_extra_info("sockname")
            assert sockname[0] == host
            assert len(sockname) == len(client.address)
            if not protocol.lost.done():
                assert sockname == client.sock.getpeername()
                client.sock.close()
                await protocol.ended()


async def test_the_address_of_a_client_that_resets() -> None:
    async with connected(Plain) as (client, protocol):
        client.reset()
        assert protocol.transport.get_extra_info("peername") == client.address
        await protocol.ended()
        assert protocol.transport.get_extra_info("peername") == client.address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_socket(host: str) -> None:
    """The socket's options can be read and set; its descriptor is the connection's own."""
    async with connected(Plain, host) as (client, protocol):
        sock = protocol.transport.get_extra_info("socket")
        assert sock.family == client.sock.family
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockname() == client.sock.getpeername()
        assert sock.getpeername() == client.address
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with socket.socket(fileno=socket.dup(sock.fileno())) as copy:
            assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert copy.getpeername() == client.address
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert not sock.getblocking() if hasattr(sock, "getblocking") else True
        assert "fd=" in repr(sock)
        protocol.close()
        await protocol.ended()
        await turns()
        assert sock.fileno() == -1


async def test_the_socket_is_available_in_connection_made() -> None:
    def hurry(protocol: Notes) -> None:
        sock = protocol.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    seen: list[int] = []
    async with connected(partial(Plain, made=hurry)):
        assert seen == [0]


async def test_what_nobody_knows() -> None:
    async with connected(Plain) as (_, protocol):
        for _ in range(2):
            assert protocol.transport.get_extra_info("no such thing") is None
            assert protocol.transport.get_extra_info("no such thing", 5) == 5
            assert protocol.transport.get_extra_info("sslcontext") is None
            protocol.close()
            await protocol.ended()


async def test_the_protocol() -> None:
    async with connected(Plain) as (_, protocol):
        assert protocol.transport.get_protocol() is protocol


@pytest.mark.asyncio(loop_factories=OURS)
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_repr_in_every_state(how: str) -> None:
    async with connected(Plain) as (_, protocol):
        states = [repr(protocol.transport)]
        protocol.transport.pause_reading()
        states.append(repr(protocol.transport))
        protocol.write(bytes(32 * MIB))
        states.append(repr(protocol.transport))
        protocol.call(how)
        states.append(repr(protocol.transport))
        protocol.abort()
        await protocol.ended()
        await turns()
        states.append(repr(protocol.transport))
        assert all("Transport" in state for state in states)
        assert "clos" in states[-1]
        assert states[0] not in states[1:]


async def test_debug_mode_of_a_transport(caplog: pytest.LogCaptureFixture) -> None:
    """The transport works as without debug mode, and no warning is logged."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 60
    try:
        with caplog.at_level(logging.WARNING):
            async with connected(Plain) as (client, protocol):
                client.send(b"one")
                await protocol.until(lambda: protocol.received == b"one")
                protocol.transport.pause_reading()
                protocol.transport.resume_reading()
                protocol.write(bytes(32 * MIB))
                assert await client.receive(32 * MIB) == bytes(32 * MIB)
                client.finish()
                assert await protocol.ended() is None
            async with connected(Plain) as (client, protocol):
                client.reset()
                assert isinstance(await protocol.ended(), OSError)
            async with connected(Plain) as (client, protocol):
                protocol.abort()
        assert caplog.messages == []
    finally:
        loop.set_debug(False)


# -- context variables --

variable = contextvars.ContextVar("variable", default="unset")
EVENTS = ("made", "data", "eof", "pause", "resume", "lost")


async def test_every_callback_sees_what_was_set_when_the_server_began() -> None:
    """Callbacks and the factory see no values that were set later."""

    def look(event: str, protocol: Notes) -> None:
        seen[event] = variable.get()
        if event == "data":
            protocol.write(bytes(16 * MIB))

    def make() -> Plain:
        seen["factory"] = variable.get()
        return Plain(**{event: partial(look, event) for event in EVENTS})

    seen: dict[str, str] = {}
    variable.set("the server's")
    async with connected(make) as (client, protocol):
        variable.set("somebody else's")
        client.send(b"data")
        client.finish()
        assert len(await client.rest()) == 16 * MIB
        await protocol.ended()
    assert seen == dict.fromkeys([*EVENTS, "factory"], "the server's")


@pytest.mark.asyncio(loop_factories=[*LIKE_ASYNCIO, "our-uvloop"])
async def test_what_one_connection_sets_no_other_one_sees() -> None:
    """uvloop's connections share their server's context."""

    def look(protocol: Notes) -> None:
        seen.append(variable.get())
        variable.set(f"{seen[-1]} {protocol.received.decode()}")
        protocol.write(b"x")

    seen: list[str] = []
    variable.set("the server's")
    async with serving(partial(Plain, data=look)) as server:
        with Client(server.address) as one, Client(server.address) as two:
            for client, word in ((one, b"a"), (two, b"b"), (one, b"a"), (two, b"b")):
                client.send(word)
                assert await client.receive(1) == b"x"
    assert seen == ["the server's"] * 2 + ["the server's a", "the server's b"]
    assert variable.get() == "the server's"


async def test_a_task_started_by_a_protocol_has_its_context() -> None:
    async def look() -> None:
        seen.append(variable.get())

    def start(protocol: Notes) -> None:
        tasks.append(asyncio.create_task(look()))
        protocol.write(b"x")

    seen: list[str] = []
    tasks: list[asyncio.Task[None]] = []
    variable.set("the server's")
    async with connected(partial(Plain, data=start)) as (client, _):
        variable.set("somebody else's")
        client.send(b"data")
        assert await client.receive(1) == b"x"
        await asyncio.gather(*tasks)
    assert seen == ["the server's"]


async def test_attributes_of_transports_are_their_own() -> None:
    """Frameworks keep data by transport: it can be hashed, compared, and weakly referenced."""
    async with serving(Plain) as server:
        with Client(server.address) as one, Client(server.address) as two:
            known: Any = {(await server.of(c)).transport: c.address for c in (one, two)}
            assert len(known) == 2
            for transport, address in known.items():
                assert transport.get_extra_info("peername") == address
                assert weakref.ref(transport)() is transport
