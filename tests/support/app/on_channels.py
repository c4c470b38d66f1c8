"""Common features of applications, in Django with Channels. FILES: a folder to write in."""

import json
from typing import Any

import django
from bodies import parts, silent
from django.conf import settings

settings.configure(
    DEBUG=False, SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def in_json(request: Any) -> Any:
    return JsonResponse(json.loads(request.body) if request.body else {"hello": "wörld"})


async def stream(request: Any) -> Any:
    return StreamingHttpResponse(parts())


async def silence(request: Any) -> Any:
    return StreamingHttpResponse(silent())


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(text_data=text_data)


urlpatterns = [path("json", in_json), path("stream", stream), path("silence", silence)]
app = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("echo", Echo.as_asgi())])}
)
