"""Common features of applications, in Falcon."""

from typing import Any

from bodies import parts
from falcon import WebSocketDisconnected
from falcon.asgi import App


class Json:
    async def on_get(self, request: Any, response: Any) -> None:
        response.media = {"hello": "wörld"}

    async def on_post(self, request: Any, response: Any) -> None:
        response.media = await request.get_media()


class Stream:
    async def on_get(self, request: Any, response: Any) -> None:
        response.stream = parts()


class Echo:
    async def on_websocket(self, request: Any, socket: Any) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await socket.receive_text())
        except WebSocketDisconnected:
            pass


app = App()
app.add_route("/json", Json())
app.add_route("/stream", Stream())
app.add_route("/echo", Echo())
