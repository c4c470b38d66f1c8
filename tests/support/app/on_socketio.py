"""A server of python-socketio, next to an application of Starlette's."""

from typing import Any

import socketio
from on_starlette import app as starlette

server = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(server, starlette)


@server.event
async def ask(sid: str, data: Any) -> Any:
    await server.emit("told", data, to=sid)
    return {"heard": data}
