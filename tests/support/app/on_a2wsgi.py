"""A WSGI application that is mounted in an ASGI one, by a2wsgi."""

from typing import Any

from a2wsgi import WSGIMiddleware
from on_flask import app as flask
from on_starlette import app as starlette

mounted: Any = WSGIMiddleware(flask)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].startswith("/old/"):
        await mounted({**scope, "path": scope["path"][4:]}, receive, send)
    else:
        await starlette(scope, receive, send)
