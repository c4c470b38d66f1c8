"""The application that the metrics process serves: one path, in the requested format."""

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from .collect import Service

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer:
    """An ASGI application that answers GET /metrics, in a format that the client accepts."""

    def __init__(self, metrics: Service) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(metrics)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        """See ASGI."""
        status, kind, body = 404, "text/plain; charset=utf-8", b"metrics are at /metrics\n"
        if scope["path"] == "/metrics":
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
            try:
                encode, kind = choose_encoder(accept.decode("latin-1"))
            except (ValueError, TypeError):  # an invalid version
                encode, kind = choose_encoder("")
            status, body = 200, encode(self._registry)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", kind.encode())],
            }
        )
        await send({"type": "http.response.body", "body": body})
