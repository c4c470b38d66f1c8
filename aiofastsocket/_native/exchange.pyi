"""The names of native/python/exchange.pyx that this package uses."""

import asyncio
from collections.abc import Callable
from typing import Any

from .deadlines import Deadlines
from .wire import Clock

class Service:
    loop: asyncio.AbstractEventLoop
    app: Callable[..., Any]
    state: dict[str, Any]
    connections: set[Any]
    tasks: set[Exchange]
    draining: bool
    closing: bool
    heads: Deadlines
    bodies: Deadlines
    idle: Deadlines
    last_calls: Deadlines
    pings: Deadlines
    pongs: Deadlines
    closes: Deadlines
    proxies: Any
    wsgi: Any
    clock: Clock
    server_line: bytes
    fields_lines: bytes
    hsts_line: bytes | None
    secure: Any
    root_path: str
    mount: bytes
    websockets: bool
    most_line: int
    most_fields: int
    most_head: int
    most_message: int
    tells_queue_time: bool
    def __init__(self, loop: asyncio.AbstractEventLoop, app: Callable[..., Any]) -> None: ...
    def answered(self) -> None: ...
    def agree_on_deflate(self, offers: list[str]) -> tuple[bytes | None, Any]: ...
    def ended(self, exchange: Exchange, error: BaseException | None) -> None: ...
    def send_file(self, exchange: Exchange, path: str) -> Any: ...
    def send_rest_of_file(self, exchange: Exchange, file: Any) -> Any: ...

class Wire:
    service: Service
    transport: asyncio.Transport
    def hold(self, held: bool) -> None: ...

class Exchange:
    wire: Wire
    service: Service
    task: asyncio.Task[None] | None
    dismissed: bool
    method: str
    raw_path: bytes
    left: int
    is_websocket: bool
    is_event_stream: bool
    is_silent: bool
    state: str
    has_left: bool
    has_hung_up: bool
    async def send(self, message: dict[str, Any]) -> None: ...
    async def receive(self) -> dict[str, Any]: ...
    def hang_up(self) -> None: ...
    def refuse(self, status: int) -> None: ...
    def cut_off(self) -> None: ...
    def lose(self, sent: int) -> None: ...
    def file_begins(self, size: int) -> int: ...
    def file_ended(self, sent: int) -> None: ...
