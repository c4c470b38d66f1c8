"""Sends WebSocket messages back, in plain ASGI."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Plain HTTP requests are answered, too: by one, the harness sees that the server is ready."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"echo"})
        return
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})
