"""Common features of applications, in BlackSheep."""

from typing import Any

from blacksheep import Application, Content, Request, Response, StreamedContent, WebSocket, json
from bodies import parts

app = Application()


@app.router.get("/json")
async def in_json() -> Response:
    return json({"hello": "wörld"})


@app.router.post("/json")
async def echo(request: Request) -> Response:
    return json(await request.json())


@app.router.get("/stream")
async def stream() -> Response:
    content: Content = StreamedContent(b"text/plain", parts)
    return Response(200, content=content)


@app.router.ws("/echo")
async def repeat(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            text: Any = await socket.receive_text()
            await socket.send_text(text)
    except Exception:  # the client has left
        pass
