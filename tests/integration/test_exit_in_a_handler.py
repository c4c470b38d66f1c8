"""SystemExit and KeyboardInterrupt in a protocol end only the loop, as in asyncio."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.protocols import WAIT, Buffered, Client, Notes, Plain

from aiofastsocket import new_event_loop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "our-asyncio": partial(new_event_loop, "asyncio"),
    "our-uvloop": partial(new_event_loop, "uvloop"),  # uvloop itself reports the error, and goes on
}


def go_on_after(
    error: type[BaseException], loop: asyncio.AbstractEventLoop, make: Callable[[], Notes]
) -> None:
    """Serve a connection whose protocol raises `error` once; then run the loop again."""
    protocols: list[Notes] = []

    async def serve() -> Any:
        def factory() -> Notes:
            protocols.append(make())
            return protocols[-1]

        return await loop.create_server(factory, "127.0.0.1", 0)

    async def go_on(client: Client) -> None:
        client.send(b" second")
        (protocol,) = protocols
        await protocol.until(lambda: protocol.received == b"first second")
        protocol.write(b"fine")
        assert await client.receive(4) == b"fine"
        protocol.close()
        await protocol.ended()
        server.close()
        await server.wait_closed()

    try:
        server = loop.run_until_complete(serve())
        with Client(server.sockets[0].getsockname()) as client:
            client.send(b"first")
            with pytest.raises(error):
                loop.run_until_complete(asyncio.wait_for(loop.create_future(), WAIT))
            loop.run_until_complete(go_on(client))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("event", ["made", "data"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_connection_goes_on_if_the_loop_does(
    name: str, event: str, error: type[BaseException]
) -> None:
    def leave(protocol: Notes) -> None:
        protocol.hooks = {}
        raise error

    go_on_after(error, LOOPS[name](), lambda: Plain(**{event: leave}))


@pytest.mark.parametrize("name", LOOPS)
def test_data_beyond_the_buffer_of_a_protocol_comes_later(name: str) -> None:
    def leave(protocol: Notes) -> None:
        protocol.hooks = {}
        raise SystemExit

    class Small(Buffered):
        capacity = 2

    go_on_after(SystemExit, LOOPS[name](), lambda: Small(data=leave))
