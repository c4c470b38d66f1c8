"""The target as a worker runs it: a program that starts, serves connections, drains and ends."""

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
    """The program of a worker. It is made in the worker, and its methods are called in the worker's
    loop.

    client_first: its connections can wait for their client's first bytes. unready: the set for
    connections during the TLS handshake. not_tls: given a transport, returns the answer to a client
    that does not use TLS.
    """

    client_first: bool
    unready: set[Any] | None
    not_tls: Callable[[asyncio.Transport], bytes] | None

    async def startup(self, enough: Callable[[], object]) -> None:
        """Start, before the first connection. `enough` asks for another worker. Raises
        SetupError."""

    def protocol(self, listener: Listener) -> targets.ProtocolFactory:
        """The factory of the protocols of a listener's connections."""

    def refused_proxy(self, client: Any) -> None:
        """A connection of a trusted proxy without a header of the PROXY protocol was closed.
        client: the proxy."""

    def tell_unhealthy(self) -> None:
        """The service stops soon: answer health checks accordingly. This may be called before
        `startup`."""

    def drain(self, window: float) -> None:
        """The worker stops: connections end when their requests in progress are done. window:
        seconds over which connections of clients that reconnect are closed."""

    def hang_up(self) -> None:
        """The grace time is over: tell the requests in progress that their clients are gone."""

    def busy(self) -> bool:
        """Whether work is in progress, even without an open connection."""

    def doing(self) -> list[str]:
        """The requests in threads other than the loop's. May be called from any thread."""

    async def shutdown(self) -> None:
        """End, after the last connection, or even if some connections are left."""


class Plain:
    """A program that consists of the protocols of its connections only."""

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
    """The scope's "server" for all connections of a listener; None if each has its own."""
    name = common_name(listener.sock)
    if isinstance(name, str):
        return name, None
    return None if name is None else name[:2]


class Web:
    """An ASGI or a WSGI application. page: records that no WSGI thread is free."""

    def __init__(
        self,
        app: Any,
        kind: str,
        config: Config,
        slot: int,
        page: WorkerPage,
        certificates: Certificates | None,
    ) -> None:
        # Not needed, and not loaded, for the other kinds of programs.
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
    """Import the modules now that a worker would import for its kind of program. Once a worker is
    another user, it may lack permission to read the package."""
    from .._native import http1  # noqa: F401
    from .http import lifespan, service  # noqa: F401


def program(
    config: Config, found: Any, slot: int, page: WorkerPage, certificates: Certificates | None
) -> Program:
    """The program for a loaded target; without a target, the demo. page: records that the worker is
    busy. Raises UsageError if the target is not a program, SetupError if a package that it needs is
    not installed."""
    kind = "demo" if config.target is None else targets.kind_of(found, config.interface)
    if config.tls.redirect_http and kind not in ("asgi3", "wsgi"):
        raise UsageError("--redirect-http is for ASGI and WSGI applications")
    if "h2" in config.tls.ssl_alpn.split(",") and kind in ("asgi3", "wsgi"):
        raise UsageError("--ssl-alpn h2: HTTP/2 is not supported, leave it out")
    if config.target is None:
        return Plain(lambda listener: lambda: Demo(listener.table, slot))
    if kind in ("asgi3", "wsgi"):
        return Web(found, kind, config, slot, page, certificates)
    factory = targets.protocol_factory(found, kind)
    return Plain(lambda listener: factory)
