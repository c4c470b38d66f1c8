"""Common features of applications, in Starlette. FILES: a folder to serve and to write in."""

import contextlib
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

FILES = Path(os.environ.get("FILES", "/"))


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"worker": os.getpid()}


async def in_json(request: Request) -> Response:
    data = await request.json() if request.method == "POST" else {"hello": "wörld"}
    return JSONResponse(data)


async def parts() -> AsyncIterator[bytes]:
    for i in range(5):
        yield b"part %d\n" % i
        await anyio.sleep(0.01)


async def stream(request: Request) -> Response:
    return StreamingResponse(parts(), media_type="text/plain")


async def silence() -> AsyncIterator[str]:
    """One event, and no more while there is a client."""
    yield "data: 0\n\n"
    try:
        await anyio.sleep_forever()
    finally:
        (FILES / "left").touch()


async def silent_events(request: Request) -> Response:
    return StreamingResponse(silence(), media_type="text/event-stream")


async def endless() -> AsyncIterator[bytes]:
    """Endless parts; each end adds a letter to a file."""
    try:
        while True:
            yield b"more"
            await anyio.sleep(0.001)
    finally:
        with (FILES / "ended").open("a") as told:
            told.write("x")


async def endless_stream(request: Request) -> Response:
    gc.disable()
    return StreamingResponse(endless())


async def events() -> AsyncIterator[str]:
    for i in range(3):
        yield f"data: {i}\n\n"
        await anyio.sleep(0.01)


async def server_sent_events(request: Request) -> Response:
    return StreamingResponse(events(), media_type="text/event-stream")


async def upload(request: Request) -> Response:
    async with request.form() as form:
        file: Any = form["file"]
        return JSONResponse({"name": file.filename, "size": len(await file.read())})


async def background(request: Request) -> Response:
    async def write() -> None:
        await anyio.sleep(0.05)
        (FILES / "background").write_text("done")

    return JSONResponse({}, background=BackgroundTask(write))


async def state(request: Request) -> Response:
    return JSONResponse({"worker": request.state.worker})


async def timeouts(request: Request) -> Response:
    """anyio's cancel scopes need current_task() to be right."""
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    return JSONResponse({"cancelled": scope.cancelled_caught})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/json", in_json, methods=["GET", "POST"]),
        Route("/stream", stream),
        Route("/endless", endless_stream),
        Route("/events", server_sent_events),
        Route("/silence", silent_events),
        Route("/upload", upload, methods=["POST"]),
        Route("/background", background),
        Route("/state", state),
        Route("/timeouts", timeouts),
        WebSocketRoute("/echo", echo),
        Mount("/static", StaticFiles(directory=FILES)),
    ],
)
