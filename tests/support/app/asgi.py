"""An ASGI application for other people's servers, and a gunicorn worker on our loop."""

import asyncio
import os
import time
from typing import Any

try:
    from uvicorn_worker import UvicornWorker
except ImportError:  # only gunicorn's tests need it
    UvicornWorker = object


class OnOurLoop(UvicornWorker):  # type: ignore[misc]
    CONFIG_KWARGS = {"loop": "aiofastsocket:new_event_loop", "http": "h11"}  # noqa: RUF012


class OnUvloop(UvicornWorker):  # type: ignore[misc]
    CONFIG_KWARGS = {"loop": "uvloop", "http": "h11"}  # noqa: RUF012


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    if scope["path"] == "/busy":
        time.sleep(0.2)  # the whole process
    if scope["path"] == "/raise":
        raise RuntimeError("not today")
    text = b"%d" % os.getpid() if scope["path"] == "/busy" else b"body of %d" % len(body)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})
