"""The state that the connections of a worker share: the application, limits, deadlines, tasks."""

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

# A client may have sent its next request just when a worker begins to stop: a connection that has
# not been idle for this long gets this time for it.
LAST_CALL_SECONDS = 1.0

CLOSE_SECONDS = 10.0  # time for a client to close a WebSocket after us


class Draining(Protocol):
    """A connection. comes_back: its client reconnects at once if the connection is closed."""

    comes_back: bool

    def drain(self) -> None:
        """See Service.drain."""


class Service(Front):
    """The HTTP service of a worker, made in its loop. on_enough: called when limit_max_requests is
    reached.

    state: filled by the application's lifespan; each request gets a copy.
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
        own = {name.lower() for name, _ in options.headers}  # these replace ours
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
        """Serve a WSGI application. page: records that no thread is free."""
        options = self.options
        self.websockets = False
        if options.wsgi_threads == 0:
            self.wsgi = Inline(self, options.wsgi_underscores)
        else:
            self.wsgi = Pool(self, options.wsgi_threads, page, options.wsgi_underscores)

    def serve_tls(self, config: TlsConfig, certificates: Certificates | None) -> None:
        """Serve connections over TLS, except those that are redirected to it."""
        if certificates is not None:
            self.secure = Secure(self, config, certificates)
            if config.hsts is not None:
                self.hsts_line = field(
                    b"strict-transport-security", b"max-age=" + config.hsts.encode()
                )

    def answered(self) -> None:
        """Count one more answered request."""
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._enough()

    def ended(self, exchange: Exchange, error: BaseException | None) -> None:
        """Handle an application that has failed a request."""
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
        """Answer the requests in progress, and begin none: connections end with their request.

        Event streams would not end: their applications are told that the client has gone.
        WebSockets are closed one after the other, over `window` seconds: their clients reconnect.
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
        """Tell a request that its client is gone, if its response is an event stream."""
        if request.is_event_stream:
            self.tell(request)

    def tell_all(self) -> None:
        """Tell every request in progress that its client is gone. WebSockets are closed already."""
        for one in list(self.tasks):
            if not isinstance(one, Handshake):
                self.tell(one)

    def tell(self, request: Exchange) -> None:
        """Tell the application of a request that the client is gone. If it continues, cancel it
        after timeout_disconnect, so that its `finally` blocks run."""
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
        """End the timers, and the tasks that did not end in time."""
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
