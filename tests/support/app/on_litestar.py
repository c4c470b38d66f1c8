"""Common features of applications, in Litestar. FILES: a folder to write in."""

from typing import Any

from bodies import parts, silent
from litestar import Litestar, WebSocket, get, post, websocket
from litestar.response import Stream


@get("/json")
async def json() -> dict[str, str]:
    return {"hello": "wörld"}


@post("/json")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


@get("/stream")
async def stream() -> Stream:
    return Stream(parts())


@get("/silence")
async def silence() -> Stream:
    return Stream(silent())


@websocket("/echo")
async def repeat(socket: WebSocket) -> None:  # type: ignore[type-arg]
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


app = Litestar([json, echo, stream, silence, repeat])
