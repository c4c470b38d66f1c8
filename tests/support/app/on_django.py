"""Common features of applications, in Django, which has no WebSockets and no lifespan."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

FILES = Path(os.environ.get("FILES", "/"))

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", DEBUG=False)
django.setup(set_prefix=False)


async def in_json(request: Any) -> JsonResponse:
    data = json.loads(request.body) if request.method == "POST" else {"hello": "wörld"}
    return JsonResponse(data)


async def parts() -> AsyncIterator[bytes]:
    for i in range(5):
        yield b"part %d\n" % i
        await asyncio.sleep(0.01)


async def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts(), content_type="text/plain")


async def events() -> AsyncIterator[str]:
    for i in range(3):
        yield f"data: {i}\n\n"
        await asyncio.sleep(0.01)


async def server_sent_events(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(events(), content_type="text/event-stream")


def upload(request: Any) -> JsonResponse:  # in a thread, as Django runs plain functions
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": len(file.read())})


async def static(request: Any, name: str) -> FileResponse:
    return FileResponse(open(FILES / name, "rb"))


async def timeouts(request: Any) -> JsonResponse:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
    except TimeoutError:
        return JsonResponse({"cancelled": True})
    return JsonResponse({"cancelled": False})


urlpatterns = [
    path("json", in_json),
    path("stream", stream),
    path("events", server_sent_events),
    path("upload", upload),
    path("static/<name>", static),
    path("timeouts", timeouts),
]
app = get_asgi_application()
