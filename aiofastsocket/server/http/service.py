"""What the connections of a worker have in common: the application, limits, deadlines, tasks."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from .access import AccessLog
from .config import HttpConfig
from .deadlines import Deadlines
from .proxies import Proxies
from .wire import Clock, field

logger = logging.getLogger("aiofastsocket")

Application = Callable[..., Any]

# A client may have sent its next request just when a worker begins to stop: what was not idle for
# so long already is given this time for it.
LAST_CALL_SECONDS = 1.0

CLOSE_SECONDS = 10.0  # for a client to close a WebSocket after us

# A task that runs at once, with current_task() as it should be, is Python's since 3.12.
EAGER: Any = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Draining(Protocol):
    """A connection. comes_back: its client does, at once, if it is closed."""

    comes_back: bool

    def drain(self) -> None:
        """See Service.drain."""


class Service:
    """One for each worker, made in its loop. on_enough: called when limit_max_requests is reached.

    state: what the application's lifespan put there; each request gets a copy.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: Application,
        options: HttpConfig,
        on_enough: Callable[[], object] = lambda: None,
    ) -> None:
        self.loop = loop
        self.app = app
        self.options = options
        self.state: dict[str, Any] = {}
        self.connections: set[Draining] = set()
        self.tasks: dict[object, asyncio.Task[None]] = {}
        self.dismissed: set[object] = set()  # whose tasks were cancelled
        self.draining = False
        self.closing = False
        self._enough = on_enough
        self._left = options.limit_max_requests
        self._most = options.limit_concurrency
        self.most_unheard = options.limit_request_line + options.limit_request_head
        self.fields = b"".join(field(name, value)[0] for name, value in options.headers)
        own = {name.lower() for name, _ in options.headers}  # instead of ours
        named = options.server_header and b"server" not in own
        self.server = b"server: aiofastsocket\r\n" if named else b""
        dated = options.date_header and b"date" not in own
        clock = Clock(dated=dated, rest=self.server + self.fields)
        self.date, self.common = clock.date, clock.lines
        self.heads = Deadlines(loop, options.timeout_request_head, lambda c: c.head_expired())
        self.bodies = Deadlines(loop, options.timeout_request_body, lambda c: c.body_expired())
        self.idle = Deadlines(loop, options.timeout_keep_alive, lambda c: c.idle_expired())
        self.last_calls = Deadlines(loop, LAST_CALL_SECONDS, lambda c: c.idle_expired())
        ping, pong = options.ws_ping_interval, options.ws_ping_timeout
        self.pings = Deadlines(loop, ping, lambda w: w.ping_due())
        self.pongs = Deadlines(loop, pong, lambda w: w.pong_expired())
        self.closes = Deadlines(loop, CLOSE_SECONDS, lambda w: w.close_expired())
        http = (self.heads, self.bodies, self.idle, self.last_calls)
        heard = options.access_logger is not None or sys.stdout is not None
        logs = options.access_log and heard
        self.access = AccessLog(loop, options.access_logger) if logs else None
        self.proxies = Proxies(options.trusted) if options.proxy_headers else None
        self._deadlines = (*http, self.pings, self.pongs, self.closes)

    def full(self) -> bool:
        """Whether limit_concurrency is reached: then the answer is 503."""
        most = self._most
        return most is not None and (len(self.connections) > most or len(self.tasks) >= most)

    def answered(self) -> None:
        """One request more is over."""
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._enough()

    def start(self, who: object, coroutine: Any, context: Context, name: str) -> None:
        """Run it as a task of its own, from now on or (before Python 3.12) from the next turn. At
        its end it says `ended`: a callback of the task's would cost a turn of the loop's."""
        task: asyncio.Task[None] = asyncio.Task(
            coroutine, loop=self.loop, context=context, name=name, **EAGER
        )
        if not task.done():
            self.tasks[who] = task

    def ended(self, who: object) -> None:
        """Its task is over."""
        self.tasks.pop(who, None)
        if self.dismissed:
            self.dismissed.discard(who)

    def drain(self, window: float = 0.0) -> None:
        """Answer what is under way, begin nothing new: connections end with their request.

        Streams of events would not end: their applications are told that the client has gone.
        WebSockets are closed, one after the other, over so many seconds: their clients come back.
        """
        self.draining = True
        told = [connection for connection in self.connections if connection.comes_back]
        for connection in self.connections - set(told):
            connection.drain()
        for number, connection in enumerate(told):
            if number:
                self.loop.call_later(window * number / len(told), connection.drain)
            else:
                connection.drain()
        for who in list(self.tasks):
            self.tell_events(who)

    def tell_events(self, who: Any) -> None:
        """If it is a request whose answer is a stream of events: tell it."""
        streams = getattr(who, "streams_events", None)
        if streams is not None and streams():
            self.tell(who)

    def tell_all(self) -> None:
        """Every request that is under way; WebSockets have been closed."""
        for who in list(self.tasks):
            if hasattr(who, "hang_up"):
                self.tell(who)

    def tell(self, request: Any) -> None:
        """Have its application find that the client is gone; cancel it a while later, if it goes
        on, so that its `finally` blocks run."""
        task = self.tasks.get(request)
        if task is not None:
            request.hang_up()
            self.loop.call_later(self.options.timeout_disconnect, self._dismiss, request, task)

    def _dismiss(self, request: object, task: "asyncio.Task[None]") -> None:
        if self.tasks.get(request) is task:
            self.dismissed.add(request)
            task.cancel()

    async def close(self) -> None:
        """End what is left: timers, and tasks that did not in time."""
        self.closing = True
        for deadlines in self._deadlines:
            deadlines.clear()
        left = list(self.tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self.access is not None:
            self.access.flush()
