"""Each call that README and docs show, in a typed program. The program is not run: `make lint`
checks it with mypy --strict.
"""

import asyncio
import selectors
import socket
from functools import partial

import aiofastsocket


async def app(scope: object, receive: object, send: object) -> None: ...


async def main() -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 9000)
    await server.serve_forever()
    return 1


def serving() -> None:
    aiofastsocket.serve(app, port=8000, workers=2)
    aiofastsocket.serve("app:app", bind=["127.0.0.1:0"], headers=[("x-a", "1")], reload=True)


def loops() -> int:
    with asyncio.Runner(loop_factory=aiofastsocket.new_event_loop) as runner:
        runner.run(main())
    factory = partial(aiofastsocket.new_event_loop, "asyncio", steer="spread")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    asyncio.set_event_loop_policy(aiofastsocket.FastsocketPolicy())
    aiofastsocket.install("asyncio", backend="off")
    return aiofastsocket.run(main(), loop="uvloop", slots=4)


def tables(sock: socket.socket) -> int:
    with aiofastsocket.ListenTable(sock, slots=2, steer="spread") as table:
        slot: int = table.claim()
        table.activate(slot)
        connection: int = table.accept(slot, slot)
        info: aiofastsocket.TableInfo = table.info()
        shown: list[aiofastsocket.SlotInfo] = table.slots()
        with aiofastsocket.FastsocketSelector() as selector:
            local = aiofastsocket.LocalListener(table)
            selector.register(local, selectors.EVENT_READ)
            selector.select(0.1)
            accepted, address = local.accept()
            accepted.close()
    return connection + info.slots + len(shown) + len(address)


def channel() -> str:
    with aiofastsocket.Channel("reuseport", slots=2) as channel, channel.socket() as sock:
        channel.listen(sock, 16)
        channel.spawn_listen(sock)
        channel.accept(sock).close()
        return channel.backend


def seen(pid: int) -> list[str]:
    try:
        return [view.info().address for view in aiofastsocket.tables_of(pid)]
    except (aiofastsocket.SetupError, aiofastsocket.UsageError, OSError) as error:
        return [str(error)]
