"""An ASGI application whose paths choose a behaviour, good or bad."""

import asyncio
import contextlib
import contextvars
import json
import os
from pathlib import Path
from typing import Any

TEXT = [(b"content-type", b"text/plain")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    name = scope["path"].removeprefix(scope["root_path"]).split("/")[1].replace("-", "_")
    kind = "ws_" if scope["type"] == "websocket" else "http_"
    await globals()[kind + name](scope, receive, send)


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["started"] = [os.getpid()]
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


async def start(send: Any, status: int = 200, headers: Any = TEXT) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Any, data: bytes = b"", more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def read(receive: Any) -> bytes:
    data = bytearray()
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        data += message["body"]
        if not message["more_body"]:
            return bytes(data)


def jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    return [jsonable(v) for v in value] if isinstance(value, (list, tuple)) else value


async def http_hello(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await body(send, b"hello")


async def http_scope(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await body(send, json.dumps(jsonable(scope)).encode())


async def http_echo(scope: Any, receive: Any, send: Any) -> None:
    data = await read(receive)
    await start(send)
    await body(send, data)


async def http_count(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await start(send)
    await body(send, b"%d" % size)


async def http_parts(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await body(send, b"one,", more=True)
    await asyncio.sleep(0.01)
    await body(send, b"two,", more=True)
    await body(send, b"three")


async def http_megabytes(scope: Any, receive: Any, send: Any) -> None:
    """Sends as many megabytes as the query says."""
    part = bytes(1 << 16)
    count = int(scope["query_string"]) * 16
    await start(send, headers=[(b"content-length", b"%d" % (len(part) * count))])
    for _ in range(count):
        await body(send, part, more=True)
    await body(send)


async def http_status(scope: Any, receive: Any, send: Any) -> None:
    await start(send, int(scope["query_string"]))
    await body(send)


async def http_early(scope: Any, receive: Any, send: Any) -> None:
    """Answers without reading the body."""
    await start(send, 413)
    await body(send, b"too much")


async def http_close(scope: Any, receive: Any, send: Any) -> None:
    await start(send, headers=[(b"connection", b"close")])
    await body(send, b"bye")


async def http_slow(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.3)
    await start(send)
    await body(send, b"slow")


async def http_file(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})


async def http_wait(scope: Any, receive: Any, send: Any) -> None:
    """Waits until the client is gone; a file named by the query gets the message's type."""
    await read(receive)
    message = await receive()
    Path(scope["query_string"].decode()).write_text(message["type"])


async def http_stuck(scope: Any, receive: Any, send: Any) -> None:
    """Sleeps for ever; a file named by the query shows the end."""
    try:
        await asyncio.sleep(10_000)
    finally:
        Path(scope["query_string"].decode()).write_text("ended")


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="nothing")


async def http_context(scope: Any, receive: Any, send: Any) -> None:
    """Sends leftovers of an earlier request: in the context, in the scope's parts."""
    found = f"{VARIABLE.get()} {sorted(scope.get('extensions', {}))} {sorted(scope['state'])}"
    VARIABLE.set("something")
    scope.get("extensions", {})["own"] = scope["state"]["own"] = {}
    await start(send)
    await body(send, found.encode())


async def http_forgets(scope: Any, receive: Any, send: Any) -> None:
    """Clears the scope, which belongs to the application."""
    scope.clear()
    await start(send)
    await body(send, b"forgotten")


async def http_two_wait(scope: Any, receive: Any, send: Any) -> None:
    """Two tasks in receive(), a third that gives up; a file named by the query gets the types."""
    await read(receive)
    waiting = [asyncio.create_task(receive()) for _ in range(3)]
    await asyncio.sleep(0.05)
    waiting.pop(1).cancel()
    told = await asyncio.gather(*waiting)
    Path(scope["query_string"].decode()).write_text(" ".join(m["type"] for m in told))


async def http_impatient(scope: Any, receive: Any, send: Any) -> None:
    """A send that gives up leaves the others alone."""
    await start(send)
    sending = asyncio.create_task(body(send, bytes(30 << 20), more=True))
    await asyncio.sleep(0.05)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(body(send, b"x", more=True), 0.05)
    await sending
    await body(send, b"end")


async def http_raises(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("not today")


async def http_raises_late(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await body(send, b"a part", more=True)
    raise RuntimeError("not any more")


async def http_cancelled(scope: Any, receive: Any, send: Any) -> None:
    """Waits for a future that was cancelled."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def http_circle(scope: Any, receive: Any, send: Any) -> None:
    """Raises an error that is its own cause when the client is gone."""
    await read(receive)
    await receive()
    error = RuntimeError("round and round")
    raise error from error


async def http_group(scope: Any, receive: Any, send: Any) -> None:
    """Sends from a group's task until the client is gone; with a query, another task fails, too."""
    await start(send)

    async def sends() -> None:
        while True:
            await body(send, b"more", more=True)
            await asyncio.sleep(0.001)

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if scope["query_string"]:
                raise ValueError("its own")

    async with asyncio.TaskGroup() as group:
        group.create_task(sends())
        group.create_task(waits())


async def http_ticks(scope: Any, receive: Any, send: Any) -> None:
    """Sends as long as it can; a file named by the query shows the end."""
    await start(send)
    try:
        while True:
            await body(send, b"tick", more=True)
            await asyncio.sleep(0.01)
    except OSError:
        Path(scope["query_string"].decode()).write_text("told")
        raise


async def http_leaves(scope: Any, receive: Any, send: Any) -> None:
    """Returns when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def http_part_first(scope: Any, receive: Any, send: Any) -> None:
    """Asks for the body when a part of the answer has been sent."""
    await start(send)
    await body(send, b"a part", more=True)
    await body(send, await read(receive))


async def http_returns(scope: Any, receive: Any, send: Any) -> None:
    return


async def http_too_short(scope: Any, receive: Any, send: Any) -> None:
    await start(send, headers=[(b"content-length", b"10")])
    await body(send, b"short")


async def http_too_long(scope: Any, receive: Any, send: Any) -> None:
    await start(send, headers=[(b"content-length", b"2")])
    await body(send, b"long")


async def http_body_first(scope: Any, receive: Any, send: Any) -> None:
    await body(send, b"no")


async def http_start_twice(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await start(send)


async def http_splits(scope: Any, receive: Any, send: Any) -> None:
    """Puts the query into a header, as a careless application does."""
    value = bytes.fromhex(scope["query_string"].decode())
    await start(send, headers=[(b"x-name", value)])
    await body(send, b"split")


async def http_task(scope: Any, receive: Any, send: Any) -> None:
    """Checks that asyncio.timeout and current_task work."""
    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(5):
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
    assert asyncio.current_task() is task
    await start(send)
    await body(send, type(task).__name__.encode())


async def http_text(scope: Any, receive: Any, send: Any) -> None:
    """Sends a body that is not bytes."""
    await start(send)
    await body(send, "text")  # type: ignore[arg-type]


async def http_buffers(scope: Any, receive: Any, send: Any) -> None:
    """Sends a body of objects similar to bytes."""
    await start(send)
    await send({"type": "http.response.body", "body": bytearray(b"buf"), "more_body": True})
    await send({"type": "http.response.body", "body": memoryview(b"fers"), "more_body": True})
    await send({"type": "http.response.body", "body": memoryview(b"")})


async def http_no_body(scope: Any, receive: Any, send: Any) -> None:
    """Sends no body for HEAD, as many applications do."""
    await start(send)
    await body(send, b"" if scope["method"] == "HEAD" else b"12345")


async def http_grown(scope: Any, receive: Any, send: Any) -> None:
    """Sends a file that has grown since its size was read."""
    await start(send, headers=[(b"content-length", b"4")])
    await send({"type": "http.response.pathsend", "path": scope["query_string"].decode()})


async def ws_unanswered(scope: Any, receive: Any, send: Any) -> None:
    """Neither accepts nor refuses the connection."""
    message = await receive()
    assert message["type"] == "websocket.connect"
    message = await receive()
    print("then", message["type"], message["code"], flush=True)


async def ws_echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({**message, "type": "websocket.send"})


async def ws_busy(scope: Any, receive: Any, send: Any) -> None:
    """Asks for messages only after a while."""
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.sleep(1.5)
    count = 0
    while (await receive())["text"] != "end":
        count += 1
    await send({"type": "websocket.send", "text": str(count)})


async def ws_silent(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.sleep(10_000)


async def ws_scope(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-own", b"yes")]})
    await send({"type": "websocket.send", "text": json.dumps(jsonable(scope))})
    await send({"type": "websocket.close", "code": 4000, "reason": "told"})


async def ws_refuse(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})


async def ws_deny(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": TEXT})
    await send({"type": "websocket.http.response.body", "body": b"who are you?"})


async def ws_deny_raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": TEXT})
    raise RuntimeError("no answer today")


async def ws_large(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "bytes": bytes(30 << 20)})
    await receive()


async def ws_raises(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("no socket today")


async def ws_raises_late(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    raise RuntimeError("no socket any more")


async def ws_last(scope: Any, receive: Any, send: Any) -> None:
    """Writes the last message into the file of the query."""
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    Path(scope["query_string"].decode()).write_text(json.dumps(message))


async def http_trailers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "trailers": True})
    await body(send, b"body")
    more = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True}
    await send(more)
    await send({"type": "http.response.trailers", "headers": [(b"x-last", b"2")]})


async def http_hints(scope: Any, receive: Any, send: Any) -> None:
    links = [b"</a.css>; rel=preload", b"</b.js>"]
    if scope["http_version"] == "1.1":
        assert "http.response.early_hint" in scope["extensions"]
    await send({"type": "http.response.early_hint", "links": links})
    await start(send)
    await body(send, b"hello")


async def http_huge(scope: Any, receive: Any, send: Any) -> None:
    """Sends as many megabytes as the query says, in one message."""
    await start(send)
    await body(send, bytes(int(scope["query_string"]) << 20))
