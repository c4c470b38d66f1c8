"""What a worker runs: the target as a program that starts, serves connections, drains and ends."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ..address import common_name
from ..table.pulse import PulsePage
from . import target as targets
from .bind import Listener
from .config import Config
from .demo import Demo
from .wsgi import Threads, as_asgi


class Program(Protocol):
    """Made in the worker; its methods are called in the worker's loop.

    client_first: its connections can wait for their client's first bytes.
    """

    client_first: bool

    async def startup(self, enough: Callable[[], object]) -> None:
        """Before the first connection; `enough` asks for another worker. Raises SetupError."""

    def protocol(self, listener: Listener) -> targets.ProtocolFactory:
        """What makes the protocols of a listener's connections."""

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

    def __init__(self, protocol: Callable[[Listener], targets.ProtocolFactory]) -> None:
        self.protocol = protocol

    async def startup(self, enough: Callable[[], object]) -> None:
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


class Asgi:
    """An ASGI application; threads: those that it runs in, if it is a WSGI application."""

    def __init__(self, app: Any, config: Config, slot: int, threads: Threads | None = None) -> None:
        # Not needed, and not loaded, for the other kinds.
        from .http import connection, lifespan, service

        self._app = app
        self._threads = threads
        self._first = slot == 0
        self._options = config.http
        self._scheme = "https" if config.tls.ssl_certfile else "http"
        self.client_first = not config.http.behind_a_proxy
        self._service_type = service.Service
        self._connection_type = connection.Connection
        self._lifespan_type = lifespan.Lifespan

    async def startup(self, enough: Callable[[], object]) -> None:
        """See Program."""
        loop = asyncio.get_running_loop()
        self._service = self._service_type(loop, self._app, self._options, enough)
        self._lifespan = self._lifespan_type(
            self._app, self._options.lifespan, self._service.state, says=self._first
        )
        await self._lifespan.startup()

    def protocol(self, listener: Listener) -> targets.ProtocolFactory:
        """See Program."""
        service, connection = self._service, self._connection_type
        scheme, server = self._scheme, _server_of(listener)
        return lambda: connection(service, scheme, server)

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
        return self._threads.doing() if self._threads is not None else []

    async def shutdown(self) -> None:
        """See Program."""
        await self._service.close()
        await self._lifespan.shutdown()


def program(config: Config, found: Any, slot: int, page: PulsePage) -> Program:
    """The program that a loaded target is; without a target, the demo. UsageError if it is none,
    SetupError if what it needs is not installed. page: where the worker tells that it is busy."""
    if config.target is None:
        return Plain(lambda listener: lambda: Demo(listener.table, slot))
    kind = targets.kind_of(found, config.interface)
    if kind == "wsgi":
        threads = Threads(page)
        return Asgi(as_asgi(found, threads), config, slot, threads)
    if kind == "asgi3":
        return Asgi(found, config, slot)
    factory = targets.protocol_factory(found, kind)
    return Plain(lambda listener: factory)
