"""ASGI: /N answers with N parts of 64 KiB; a POST body is read, and its size is the answer."""

PART = b"x" * 65536


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size = 0
    more = scope["method"] == "POST"
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    parts = 0 if scope["method"] == "POST" else int(scope["path"][1:] or 0)
    text = str(size).encode()
    length = parts * len(PART) or len(text)
    head = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for number in range(parts):
        last = number + 1 == parts
        await send({"type": "http.response.body", "body": PART, "more_body": not last})
    if not parts:
        await send({"type": "http.response.body", "body": text})
