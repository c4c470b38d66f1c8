"""What a worker runs: the target as a program that starts, serves connections, drains and ends."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..address import common_name
from ..errors import UsageError
from . import target as targets
from .bind import Listener
from .certificates import Certificates
from .config import Config
from .demo import Demo
from .pages import WorkerPage


class Program(Protocol):
    """Made in the worker; its methods are called in the worker's loop.

    client_first: its connections can wait for their client's first bytes. unready: where those are
    that shake hands. not_tls: given a transport, the answer to a client that speaks no TLS.
    """

    client_first: bool
    unready: set[Any] | None
    not_tls: Callable[[asyncio.Transport], bytes] | None

    async def startup(self, enough: Callable[[], object]) -> None:
        """Before the first connection; `enough` asks for another worker. Raises SetupError."""

    def protocol(self, listener: Listener) -> targets.ProtocolFactory:
        """What makes the protocols of a listener's connections."""

    def refused_proxy(self, client: Any) -> None:
        """A trusted proxy did not say whose its connection is, and was cut off. client: it."""

    def tell_unhealthy(self) -> None:
        """The service stops soon: requests for its health are answered so. It may come before
        `startup`."""

    def drain(self, window: float) -> None:
        """The worker stops: connections end when what is under way is done. window: seconds over
        which clients that come back are sent away."""

    def hang_up(self) -> None:
        """The grace time is over: what is under way is told that its client is gone."""

    def busy(self) -> bool:
        """Whether something goes on that no connection stands for."""

    def doing(self) -> list[str]:
        """The requests that threads other than the loop's are busy with. From any thread."""

    async def shutdown(self) -> None:
        """After the last connection, or in spite of those that are left."""


class Plain:
    """Protocols that are connections' whole story."""

    client_first = False
    unready: set[Any] | None = None
    not_tls: Callable[[asyncio.Transport], bytes] | None = None

    def __init__(self, protocol: Callable[[Listener], targets.ProtocolFactory]) -> None:
        self.protocol = protocol

    async def startup(self, enough: Callable[[], object]) -> None:
        """See Program."""

    def refused_proxy(self, client: Any) -> None:
        """See Program."""

    def tell_unhealthy(self) -> None:
        """See Program."""

    def drain(self, window: float) -> None:
        """See Program."""

    def hang_up(self) -> None:
        """See Program."""

    def busy(self) -> bool:
        """See Program."""
        return False

    def doing(self) -> list[str]:
        """See Program."""
        return []

    async def shutdown(self) -> None:
        """See Program."""


def _server_of(listener: Listener) -> tuple[str, int | None] | None:
    """The scope's "server" of all its connections; None if each has its own."""
    name = common_name(listener.sock)
    if isinstance(name, str):
        return name, None
    return None if name is None else name[:2]


class Web:
    """An ASGI or a WSGI application. page: where it is told that no thread of WSGI's is free."""

    def __init__(
        self,
        app: Any,
        kind: str,
        config: Config,
        slot: int,
        page: WorkerPage,
        certificates: Certificates | None,
    ) -> None:
        # Not needed, and not loaded, for the other kinds.
        from .._native import http1
        from .http import lifespan, service

        self._app = app
        self._kind = kind
        self.unready: set[Any] | None = None
        self.not_tls: Callable[[asyncio.Transport], bytes] | None = None
        self._service: Any = None  # once it has started
        self._healthy = True
        self._page = page
        self._counts = config.metrics is not None
        self._first = slot == 0
        self._options = config.http
        self._tls = config.tls
        self._certificates = certificates
        self.client_first = not config.http.behind_a_proxy
        self._service_type = service.Service
        self._connection_type = http1.Connection
        self._lifespan_type = lifespan.Lifespan

    async def startup(self, enough: Callable[[], object]) -> None:
        """See Program."""
        loop = asyncio.get_running_loop()
        self._service = self._service_type(loop, self._app, self._options, enough)
        self._service.healthy = self._healthy
        if self._counts:
            self._service.count(self._page.counters)
        mode = self._options.lifespan
        if self._kind == "wsgi":
            self._service.serve_wsgi(self._page)
            mode = "off"
        self._lifespan = self._lifespan_type(self._app, mode, self._service.state, says=self._first)
        self._service.serve_tls(self._tls, self._certificates)
        self.unready = self._service.connections
        if self._service.secure is not None:
            self.not_tls = self._service.secure.tell
        await self._lifespan.startup()

    def protocol(self, listener: Listener) -> targets.ProtocolFactory:
        """See Program."""
        service, connection = self._service, self._connection_type
        scheme, server = "http", _server_of(listener)
        if self._certificates is not None and not listener.redirects:
            scheme = "https"
            secure = self._service.secure
            secure.port = secure.port or (server[1] if server else None)
        return partial(connection, service, scheme, server)

    def refused_proxy(self, client: Any) -> None:
        """See Program."""
        self._service.no_proxy()

    def tell_unhealthy(self) -> None:
        """See Program."""
        self._healthy = False
        if self._service is not None:
            self._service.healthy = False

    def drain(self, window: float) -> None:
        """See Program."""
        self._service.drain(window)

    def hang_up(self) -> None:
        """See Program."""
        self._service.tell_all()

    def busy(self) -> bool:
        """See Program."""
        return bool(self._service.tasks)

    def doing(self) -> list[str]:
        """See Program."""
        wsgi = self._service.wsgi
        return wsgi.doing() if wsgi is not None else []

    async def shutdown(self) -> None:
        """See Program."""
        await self._service.close()
        await self._lifespan.shutdown()


def load() -> None:
    """Import now what a worker would import itself when it finds what kind of program it has: it
    may not read the package any more once it is another user."""
    from .._native import http1  # noqa: F401
    from .http import lifespan, service  # noqa: F401


def program(
    config: Config, found: Any, slot: int, page: WorkerPage, certificates: Certificates | None
) -> Program:
    """The program that a loaded target is; without a target, the demo. UsageError if it is none,
    SetupError if what it needs is not installed. page: where the worker tells that it is busy."""
    kind = "demo" if config.target is None else targets.kind_of(found, config.interface)
    if config.tls.redirect_http and kind not in ("asgi3", "wsgi"):
        raise UsageError("--redirect-http is for ASGI and WSGI applications")
    if "h2" in config.tls.ssl_alpn.split(",") and kind in ("asgi3", "wsgi"):
        raise UsageError("--ssl-alpn h2: HTTP/2 is not spoken here, leave it out")
    if config.target is None:
        return Plain(lambda listener: lambda: Demo(listener.table, slot))
    if kind in ("asgi3", "wsgi"):
        return Web(found, kind, config, slot, page, certificates)
    factory = targets.protocol_factory(found, kind)
    return Plain(lambda listener: factory)
