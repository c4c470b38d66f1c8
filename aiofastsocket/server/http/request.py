"""One request: what the application receives of it, and how its run ends (ASGI HTTP, 2.5)."""

import asyncio
import logging
from contextvars import Context
from typing import Protocol

from . import wire
from .response import Message, Response, Sender, has_left, let_go
from .scope import Scope

logger = logging.getLogger("aiofastsocket")

MOST_BUFFERED = 65536
"""Bytes of a body that wait for the application before no more is read."""


class Source(Sender, Protocol):
    """Whose request it is: a connection that reads."""

    __slots__ = ()

    def read_on(self) -> None:
        """The body's last part was taken."""

    def await_body(self) -> None:
        """The client was told to send it."""

    def hold(self, held: bool) -> None:
        """Whether nothing is read now."""

    def cut(self) -> None:
        """The response will not be complete."""


class Request(Response):
    """In: head, then body, as the connection has them. Out: one response."""

    __slots__ = ("_body", "_hung_up", "_more", "_told", "_waiting")

    _connection: Source

    def __init__(
        self,
        connection: Source,
        scope: Scope,
        *,
        keep_alive: bool,
        expect: bool,
        body: bool,
    ) -> None:
        super().__init__(connection, scope, keep_alive=keep_alive, expect=expect)
        self._body: list[bytes] = []  # what the application has not had yet
        self._more = body  # more of it comes
        self._told = False  # that the body is complete
        self._waiting: asyncio.Future[None] | None = None  # in receive()
        self._hung_up = False  # the client sends no more; it may read on

    # -- the connection's side --

    def start(self, context: Context) -> None:
        """Run the application."""
        service = self._connection.service
        if service.full():
            self.answer(503)
        else:
            service.start(self, self._run(), context, self.scope["path"])

    def body_received(self, data: bytes) -> None:
        """One part more of the body."""
        if not self.complete:
            self._body.append(data)
            self._wake()

    def body_complete(self) -> None:
        """The whole body has come."""
        self._more = False
        self._wake()

    def full(self) -> bool:
        """Whether enough of the body waits here."""
        return bool(self._body) and sum(map(len, self._body)) > MOST_BUFFERED

    def hang_up(self) -> None:
        """The client sends no more."""
        self.keep_alive = False
        self._hung_up = True
        self._wake()

    def disconnect(self) -> None:
        """The connection is gone."""
        super().disconnect()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None

    # -- the application's side --

    async def _run(self) -> None:
        connection = self._connection
        try:
            await connection.service.app(self.scope, self.receive, self.send)
        except BaseException as error:
            # Who else cancels, cancels something that the application waits for.
            service = connection.service
            if isinstance(error, asyncio.CancelledError) and (
                service.closing or self in service.dismissed
            ):
                if not self.complete:
                    connection.cut()
                raise
            if self._gone and has_left(error):
                let_go(error)
                return
            logger.exception("exception in the application: %s", self._name())
        else:
            if self.complete or self._gone:
                return
            if self._hung_up:
                connection.cut()
                return
            what = "before its response was complete" if self._started else "without a response"
            logger.error("the application returned %s: %s", what, self._name())
        finally:
            connection.service.ended(self)
        if self._started and not self.complete:
            connection.cut()
        elif not self.complete and not self._gone:
            self.answer(500)

    def _name(self) -> str:
        # The path as it was sent: its characters, decoded, may be any, line ends too.
        return f"{self.scope.get('method')} {self.scope.get('raw_path', b'').decode('latin-1')}"

    async def receive(self) -> Message:
        """As the application calls it: http.request until the body has come, and then, when the
        response is complete or the client gone, http.disconnect."""
        while not self.complete:
            if self._body or not (self._more or self._told):
                body = b"".join(self._body)
                self._body.clear()
                self._told = not self._more
                if self._more:
                    self._connection.read_on()
                return {"type": "http.request", "body": body, "more_body": self._more}
            if self._gone or self._hung_up:
                break
            if self._expect:
                self._expect = False
                if not self._started:
                    self._connection.transport.write(wire.CONTINUE)
                self._connection.await_body()
            # Several may wait, and one of them be cancelled.
            if self._waiting is None:
                self._waiting = self._connection.service.loop.create_future()
            await asyncio.shield(self._waiting)
        return {"type": "http.disconnect"}

    async def _send_file(self, path: str) -> None:
        # loop.sendfile does not read: who sends a body meanwhile is not to be held too slow.
        self._connection.hold(True)
        try:
            await super()._send_file(path)
        finally:
            self._connection.hold(False)

    def _end(self) -> None:
        self._body.clear()
        Response._end(self)  # this is done for every request, and super() looks for it
        self._wake()
