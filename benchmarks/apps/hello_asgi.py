"""ASGI: an answer of 13 bytes; `/block` first blocks the whole worker for 100 ms."""

import time

HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
}
BODY = {"type": "http.response.body", "body": b"Hello, world!"}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    if scope["path"] == "/block":
        time.sleep(0.1)
    await send(HEAD)
    await send(BODY)
