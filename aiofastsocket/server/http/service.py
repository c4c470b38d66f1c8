"""What the connections of a worker have in common: the application, limits, deadlines, tasks."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..._native.deadlines import Deadlines
from ..._native.exchange import Exchange
from ..._native.front import Front
from ..._native.handshake import Handshake
from ..._native.inline import Inline
from ..._native.pool import Pool
from ..._native.wire import Clock, field
from ..certificates import Certificates
from ..logs import standard_output
from ..pages import WorkerPage
from ..tls import TlsConfig
from .access import AccessLog
from .config import HttpConfig
from .deflate import Deflate, DeflateOffer
from .failures import request_ended, websocket_ended
from .files import send_file, send_rest_of_file
from .proxies import Proxies
from .secure import Secure

logger = logging.getLogger("aiofastsocket")

Application = Callable[..., Any]

# A client may have sent its next request just when a worker begins to stop: what was not idle for
# so long already is given this time for it.
LAST_CALL_SECONDS = 1.0

CLOSE_SECONDS = 10.0  # for a client to close a WebSocket after us


class Draining(Protocol):
    """A connection. comes_back: its client does, at once, if it is closed."""

    comes_back: bool

    def drain(self) -> None:
        """See Service.drain."""


class Service(Front):
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
        super().__init__(loop, app)
        self.options = options
        self._enough = on_enough
        self._left = options.limit_max_requests
        if self._left is not None:
            self._left += random.randint(0, options.limit_max_requests_jitter)
        self._deflate: DeflateOffer | None = None
        if options.ws_per_message_deflate:
            self._deflate = DeflateOffer(options.ws_deflate_window, options.ws_deflate_level)
        self.root_path = options.root_path
        self.mount = options.root_path.encode()
        self.websockets = options.ws != "none"
        self.most_line = options.limit_request_line
        self.most_fields = options.limit_request_fields
        self.most_head = options.limit_request_head
        self.most_message = options.ws_max_size
        self.most_connections = options.limit_concurrency or 0
        self.most_waited = int((options.shed_after or 0) * 1e9)
        self.tells_queue_time = options.queue_time
        self.health_path = options.health_path.encode() if options.health_path else None
        self.healthy = True
        self.fields_lines = b"".join(field(name, value) for name, value in options.headers)
        own = {name.lower() for name, _ in options.headers}  # instead of ours
        named = options.server_header and b"server" not in own
        self.server_line = b"server: aiofastsocket\r\n" if named else b""
        dated = options.date_header and b"date" not in own
        self.clock = Clock(dated=dated, rest=self.server_line + self.fields_lines)
        self.heads = Deadlines(loop, options.timeout_request_head, lambda c: c.head_expired())
        self.bodies = Deadlines(loop, options.timeout_request_body, lambda c: c.body_expired())
        self.idle = Deadlines(loop, options.timeout_keep_alive, lambda c: c.idle_expired())
        self.last_calls = Deadlines(loop, LAST_CALL_SECONDS, lambda c: c.idle_expired())
        ping, pong = options.ws_ping_interval, options.ws_ping_timeout
        self.pings = Deadlines(loop, ping, lambda w: w.ping_due())
        self.pongs = Deadlines(loop, pong, lambda w: w.pong_expired())
        self.closes = Deadlines(loop, CLOSE_SECONDS, lambda w: w.close_expired())
        self._log = None
        if options.access_log and (options.access_logger or standard_output() is not None):
            form = options.access_log_format
            self._log = AccessLog(loop, options.access_logger, form, self.count_dropped)
        self.access = None if self._log is None else self._log.lines
        self.proxies = Proxies(options.trusted) if options.proxy_headers else None

    def serve_wsgi(self, page: WorkerPage) -> None:
        """The application is one of WSGI. page: where it is told that no thread is free."""
        options = self.options
        self.websockets = False
        if options.wsgi_threads == 0:
            self.wsgi = Inline(self, options.wsgi_underscores)
        else:
            self.wsgi = Pool(self, options.wsgi_threads, page, options.wsgi_underscores)

    def serve_tls(self, config: TlsConfig, certificates: Certificates | None) -> None:
        """Its connections are over TLS, but for those that are redirected there."""
        if certificates is not None:
            self.secure = Secure(self, config, certificates)
            if config.hsts is not None:
                self.hsts_line = field(
                    b"strict-transport-security", b"max-age=" + config.hsts.encode()
                )

    def answered(self) -> None:
        """One request more is over."""
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._enough()

    def ended(self, exchange: Exchange, error: BaseException | None) -> None:
        """Its application has ended, and not well."""
        cancelled = self.closing or exchange.dismissed
        if isinstance(exchange, Handshake):
            websocket_ended(exchange, error, cancelled=cancelled)
        else:
            request_ended(exchange, error, cancelled=cancelled)

    def send_file(self, exchange: Exchange, path: str) -> Any:
        """See files."""
        return send_file(exchange, path)

    def send_rest_of_file(self, exchange: Exchange, file: Any) -> Any:
        """See files."""
        return send_rest_of_file(exchange, file)

    def agree_on_deflate(self, offers: Sequence[str]) -> tuple[bytes | None, Deflate | None]:
        """See DeflateOffer.agree."""
        return (None, None) if self._deflate is None else self._deflate.agree(offers)

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
        for one in list(self.tasks):
            self.tell_events(one)

    def tell_events(self, request: Exchange) -> None:
        """If it is a request whose answer is a stream of events: tell it."""
        if request.is_event_stream:
            self.tell(request)

    def tell_all(self) -> None:
        """Every request that is under way; WebSockets have been closed."""
        for one in list(self.tasks):
            if not isinstance(one, Handshake):
                self.tell(one)

    def tell(self, request: Exchange) -> None:
        """Have its application find that the client is gone; cancel it a while later, if it goes
        on, so that its `finally` blocks run."""
        if request not in self.tasks:
            return
        request.hang_up()
        if request.task is not None:  # a thread cannot be cancelled
            self.loop.call_later(self.options.timeout_disconnect, self._dismiss, request)

    def _dismiss(self, request: Exchange) -> None:
        if request.task is not None:
            request.dismissed = True
            request.task.cancel()

    async def close(self) -> None:
        """End what is left: timers, and tasks that did not in time."""
        self.closing = True
        for deadlines in (
            self.heads,
            self.bodies,
            self.idle,
            self.last_calls,
            self.pings,
            self.pongs,
            self.closes,
        ):
            deadlines.clear()
        left = [one.task for one in self.tasks if one.task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self.wsgi is not None:
            self.wsgi.close()
        if self._log is not None:
            self._log.flush()
