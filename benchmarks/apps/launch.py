"""Start the Python servers of the benchmarks, with their loop, workers and way of sharing.

The servers are in the other files of this folder, one per workload. This module does not know their
answers. Each peer has its own environment, so a loop's package is imported only on demand.
"""

import argparse
import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"


def _ours(loop: str) -> asyncio.AbstractEventLoop:
    import aiofastsocket

    made: asyncio.AbstractEventLoop = aiofastsocket.new_event_loop(loop)
    return made


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "ours-uvloop": lambda: _ours("uvloop"),
    "ours-asyncio": lambda: _ours("asyncio"),
    "uvloop": _uvloop,
    "asyncio": asyncio.SelectorEventLoop,
}


def _listen_table(port: int, backlog: int) -> dict[str, Any]:
    import aiofastsocket

    return {"sock": aiofastsocket.ListenTable(_bound(port), backlog=backlog)}


def _inherited(port: int, backlog: int) -> dict[str, Any]:
    sock = _bound(port)
    sock.listen(backlog)
    return {"sock": sock}


def _own(port: int, backlog: int) -> dict[str, Any]:
    return {"host": HOST, "port": port, "reuse_port": True}


SHARING = {"table": _listen_table, "inherited": _inherited, "reuseport": _own}


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


def launch(start_server: Callable[..., Awaitable[asyncio.AbstractServer]]) -> None:
    """Serve as the command line says; `start_server` takes the address as create_server does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backlog", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sharing", choices=SHARING, help="how several workers listen")
    parser.add_argument("--defer-accept", action="store_true")
    args = parser.parse_args()

    address: dict[str, Any] = {"host": HOST, "port": args.port}
    if args.workers > 1:
        address = SHARING[args.sharing](args.port, args.backlog)
    if args.defer_accept:
        address["defer_accept"] = True

    async def serve() -> None:
        server = await start_server(**address, backlog=args.backlog)
        await server.serve_forever()

    for _ in range(args.workers - 1):
        if os.fork() == 0:
            break
    with asyncio.Runner(loop_factory=LOOPS[args.loop]) as runner:
        runner.run(serve())
