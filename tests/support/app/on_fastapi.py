"""Common features of applications, in FastAPI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
from fastapi import BackgroundTasks, Body, FastAPI, File, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from on_starlette import FILES, events, lifespan, parts, silence  # type: ignore[import-not-found]


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with lifespan(app) as state:
        yield state


app = FastAPI(lifespan=started)
app.mount("/static", StaticFiles(directory=FILES))


@app.get("/json")
async def in_json() -> dict[str, str]:
    return {"hello": "wörld"}


@app.post("/json")
async def post_json(data: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    return data


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(parts(), media_type="text/plain")


@app.get("/events")
async def server_sent_events() -> StreamingResponse:
    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/silence")
async def silent_events() -> StreamingResponse:
    return StreamingResponse(silence(), media_type="text/event-stream")


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    return {"name": file.filename, "size": len(await file.read())}


@app.get("/background")
async def background(tasks: BackgroundTasks) -> dict[str, str]:
    def write() -> None:  # in a thread, as FastAPI runs plain functions
        (FILES / "background").write_text("done")

    tasks.add_task(write)
    return {}


@app.get("/state")
async def state(request: Request) -> dict[str, int]:
    return {"worker": request.state.worker}


@app.get("/timeouts")
async def timeouts() -> dict[str, bool]:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    return {"cancelled": scope.cancelled_caught}


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
