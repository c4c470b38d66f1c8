"""Common features of applications, in Quart. FILES: a folder to write in."""

from typing import Any

from bodies import parts, silent
from quart import Quart, request, websocket

app = Quart(__name__)


@app.get("/json")
async def json() -> dict[str, str]:
    return {"hello": "wörld"}


@app.post("/json")
async def echo() -> Any:
    return await request.get_json()


@app.get("/stream")
async def stream() -> Any:
    return parts(), 200


@app.get("/silence")
async def silence() -> Any:
    return silent(), 200


@app.websocket("/echo")
async def repeat() -> None:
    while True:
        await websocket.send(await websocket.receive())
