"""create_server: addresses, sockets, life and death of a server."""

import asyncio
import socket
import ssl
import struct
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from support.loops import Echo, Recorder, ask, table_counts

pytestmark = pytest.mark.asyncio
OURS = ["our-asyncio", "our-uvloop"]


async def test_answers_on_each_address() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2", "::1"], 0)
    assert len(server.sockets) == 3
    for sock in server.sockets:
        for _ in range(3):
            assert await ask(sock.getsockname()[:2], b"hello\n") == b"hello\n"
    server.close()
    await server.wait_closed()


async def test_a_name_and_no_name() -> None:
    loop = asyncio.get_running_loop()
    for host in ("localhost", None):
        server = await loop.create_server(Echo, host, 0, family=socket.AF_INET)
        port = server.sockets[0].getsockname()[1]
        assert await ask(("127.0.0.1", port), b"x") == b"x"
        server.close()
        await server.wait_closed()


async def test_dual_stack_socket() -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    server = await loop.create_server(Echo, sock=sock)
    port = sock.getsockname()[1]
    assert await ask(("127.0.0.1", port), b"four") == b"four"
    assert await ask(("::1", port), b"six") == b"six"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("listening", [False, True])
async def test_a_socket_of_the_users(listening: bool) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if listening:
        sock.listen()
    address = sock.getsockname()
    with blockbuster_ctx():  # aiohttp's tests use it: it forbids calls that may block in a loop
        server = await loop.create_server(Echo, sock=sock)
        assert await ask(address, b"x") == b"x"
        server.close()
        await server.wait_closed()
    sock.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_in_use() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    with pytest.raises(OSError, match=r"(?i)address"):
        await loop.create_server(Echo, *server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 0, "ssl": True},
        {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1.0},
    ],
)
async def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        await asyncio.get_running_loop().create_server(Echo, **arguments)


async def test_wrong_sockets() -> None:
    loop: Any = asyncio.get_running_loop()
    with socket.socket() as sock, pytest.raises(ValueError, match="same time"):
        await loop.create_server(Echo, "127.0.0.1", 0, sock=sock)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        pytest.raises(ValueError, match=r"(?i)stre"),
    ):
        await loop.create_server(Echo, sock=sock)


async def test_starts_when_told() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
    address = server.sockets[0].getsockname()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await server.start_serving()
    assert server.is_serving()
    assert await ask(address, b"x") == b"x"
    server.close()
    assert not server.is_serving()
    await server.wait_closed()


async def test_serve_forever_ends_by_cancellation() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
    address = server.sockets[0].getsockname()
    async with server:
        task = loop.create_task(server.serve_forever())
        await asyncio.sleep(0.01)
        assert await ask(address, b"x") == b"x"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_closed_and_made_again_on_the_same_port() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(3):
        assert await ask(address, b"x") == b"x"
        server.close()
        await server.wait_closed()
        server = await loop.create_server(Echo, *address)
    server.close()
    await server.wait_closed()


async def test_open_connections_outlive_a_closed_server() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    server.close()
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    writer.close()
    await writer.wait_closed()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=["asyncio", *OURS])
async def test_wait_closed_waits_for_connections() -> None:
    """asyncio's server waits from Python 3.12 on; before, it did only if close() came later."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    waiter = loop.create_task(server.wait_closed())
    await asyncio.sleep(0)
    server.close()
    await asyncio.sleep(0.05)
    assert not waiter.done()
    writer.close()
    await waiter


@pytest.mark.asyncio(loop_factories=["asyncio", *OURS])
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
async def test_clients_can_be_ended(how: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    if not hasattr(server, how):
        server.close()
        pytest.skip("it came with Python 3.13")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    server.close()
    getattr(server, how)()
    await server.wait_closed()
    assert await reader.read() == b""
    writer.close()


@pytest.mark.asyncio(loop_factories=["asyncio", "our-asyncio"])
async def test_the_address_of_a_client_that_is_gone() -> None:
    """accept(2) gave the address; after a reset, getpeername(2) does not."""
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[object] = asyncio.Queue()

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.put_nowait(transport.get_extra_info("peername"))

    server = await loop.create_server(Peer, ["127.0.0.1", "::1"], 0)
    for sock in server.sockets:
        client = socket.create_connection(sock.getsockname()[:2])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        address = client.getsockname()
        client.close()
        assert await asyncio.wait_for(made.get(), 10) == address
    server.close()
    await server.wait_closed()


async def test_what_a_protocol_is_told() -> None:
    loop = asyncio.get_running_loop()
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"data")
    writer.write_eof()
    assert await reader.read() == b"bye"
    writer.close()
    await made[0].over
    assert made[0].events == ["made", "data", "eof", "lost"]
    assert made[0].peer == writer.get_extra_info("sockname")
    assert made[0].sock == server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=OURS)
async def test_a_factory_that_raises() -> None:
    """asyncio and uvloop leave the socket to the garbage collector; ours close it."""
    loop = asyncio.get_running_loop()
    fail = True

    def factory() -> Echo:
        if fail:
            raise LookupError("no protocol today")
        return Echo()

    said: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: said.append(context))
    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    fail = False
    assert await ask(address, b"x") == b"x"
    server.close()
    await server.wait_closed()


async def test_a_server_over_tls(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    for _ in range(3):
        assert await ask(address, b"secret\n", ssl=client_context) == b"secret\n"
    server.close()
    await server.wait_closed()


async def test_tls_handshake_that_never_ends(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    server = await loop.create_server(
        Echo, "127.0.0.1", 0, ssl=server_context, ssl_handshake_timeout=1.0
    )
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"this is no client hello\n")
    await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert await ask(address, b"still there", ssl=client_context) == b"still there"
    server.close()
    await server.wait_closed()


async def test_many_at_once() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    address = server.sockets[0].getsockname()
    answers = await asyncio.gather(*(ask(address, b"%d" % i) for i in range(300)))
    assert answers == [b"%d" % i for i in range(300)]
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio(loop_factories=OURS)
async def test_connections_came_through_the_own_slot() -> None:
    """Local listeners exist at all, which the other tests here would not notice."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, ["127.0.0.1", "::1"], 0)
    for sock in server.sockets:
        for _ in range(10):
            assert await ask(sock.getsockname()[:2], b"x") == b"x"
    assert [(c.own, c.global_) for c in table_counts()] == [(10, 0), (10, 0)]
    server.close()
    await server.wait_closed()
    assert table_counts() == []
