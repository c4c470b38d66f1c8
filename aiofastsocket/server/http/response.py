"""One response: what the application sends of it becomes HTTP/1.1 (ASGI HTTP, 2.5)."""

import asyncio
import os
import stat
from typing import Any, BinaryIO, Protocol

from . import wire
from .scope import Scope
from .service import Service

Message = dict[str, Any]

_BODILESS = frozenset((204, 304))
_PLAIN = ((b"content-type", b"text/plain; charset=utf-8"),)


READ_SIZE = 65536


def _at_once(path: str, flags: int) -> int:
    """An opener that waits for nobody: opening a FIFO would, until somebody writes."""
    return os.open(path, flags | os.O_NONBLOCK)


class ClientDisconnected(ConnectionError):
    """The client is gone; raised by send()."""


def has_left(error: BaseException | None) -> bool:
    """Whether an application's error comes of a client that is gone."""
    seen = set()  # `raise error from error` makes a circle; not all errors can be hashed
    while error is not None and id(error) not in seen:
        if isinstance(error, ClientDisconnected):
            return True
        if isinstance(error, BaseExceptionGroup) and all(map(has_left, error.exceptions)):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def let_go(error: BaseException) -> None:
    """Of an error that nobody is to see: what its frames hold is free now, generators whose
    `finally` has to run among it. An error that went through a frame with itself in a local, as in
    task groups, is a circle that only the garbage collector would find."""
    seen, left = set[int](), [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            left += [other for other in (one.__context__, one.__cause__) if other is not None]
            if isinstance(one, BaseExceptionGroup):
                left += one.exceptions


class Sender(Protocol):
    """Whose response it is: a connection."""

    __slots__ = ()

    service: Service
    transport: asyncio.Transport
    writable: "asyncio.Future[None] | None"

    def answered(self, response: Any) -> None:
        """The response is complete."""


class Response:
    """keep_alive: whether the connection goes on after it. complete: all of it was sent.

    expect: the client waits for 100 Continue, or for the end of the response.
    """

    __slots__ = (
        "_asked",
        "_chunked",
        "_connection",
        "_events",
        "_expect",
        "_gone",
        "_head",
        "_is_head",
        "_left",
        "_sent",
        "_silent",
        "_started",
        "_status",
        "_version",
        "complete",
        "keep_alive",
        "scope",
    )

    def __init__(
        self, connection: Sender, scope: Scope, *, keep_alive: bool = False, expect: bool = False
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.complete = False
        self._connection = connection
        # The scope is the application's: what it does to it changes nothing here.
        self._version = scope["http_version"]
        self._is_head = scope.get("method") == "HEAD"
        access = connection.service.access
        self._asked = access.asked(scope) if access is not None else None
        self._expect = expect
        self._gone = False  # nothing can be sent
        self._head: list[bytes] | None = None  # its lines, until they are sent
        self._started = False
        self._chunked = False
        self._sent = 0  # bytes of the body
        # And from the start on:
        self._status: int
        self._left: int | None  # of the content-length
        self._silent: bool  # what the body would be is not sent

    def untouched(self) -> bool:
        """Nothing of it was sent."""
        return not self._started

    def ends_with_the_connection(self) -> bool:
        """Nothing but that shows the client where it ends."""
        return self._started and not self._chunked and self._left is None

    def streams_events(self) -> bool:
        """In answer to a GET: EventSource connects again by itself, when such a stream ends."""
        return getattr(self, "_events", False) and self.scope.get("method") == "GET"

    def disconnect(self) -> None:
        """The connection is gone."""
        self._gone = True
        if self._started and not self.complete:
            self._log()

    async def send(self, message: Message) -> None:
        """As the application calls it.

        Raises ClientDisconnected, which is an OSError, when the client is gone, RuntimeError when
        the message is not one that may come now.
        """
        if self._gone:
            raise ClientDisconnected("the client is gone")
        kind = message["type"]
        if self.complete:
            raise RuntimeError(f"{kind!r} was sent after the response was complete")
        if kind == "http.response.body":
            if self._head is None and not self._started:
                raise RuntimeError("'http.response.body' was sent before 'http.response.start'")
            more = message.get("more_body", False)
            self._send_body(message.get("body", b""), more=more)
            if more and (self._silent or self._connection.transport.is_closing()):
                # Nothing would hold a stream without an end up, and so nobody hear of its end.
                await asyncio.sleep(0)
        elif kind == "http.response.start":
            if self._head is not None or self._started:
                raise RuntimeError("'http.response.start' was sent twice")
            self._start(message)
            return
        elif kind == "http.response.pathsend":
            if self._head is None:
                raise RuntimeError("'http.response.pathsend' comes once, after the start")
            await self._send_file(message["path"])
        else:
            raise RuntimeError(f"{kind!r} is no message of a response")
        room = self._connection.writable
        if room is not None:
            await asyncio.shield(room)  # others wait for it too

    def _send_body(self, body: bytes, *, more: bool) -> None:
        """Write the head, if it waits, and one part more of the body, at once."""
        out = b"" if self._head is None else self._take_head(len(body), more)
        if self._silent:
            body = b""
        self._sent += len(body)
        if self._chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body = b"%b%b" % (body, wire.LAST_CHUNK)
        elif self._left is not None and not self._silent:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the response's body is longer than its content-length")
            if self._left and not more:
                raise RuntimeError("the response's body is shorter than its content-length")
        if out or body:
            self._connection.transport.write(out + body)  # raises TypeError for what is no bytes
            self._started = True
        if not more:
            self._end()

    async def _send_file(self, path: str) -> None:
        if self._connection.transport.get_extra_info("sslcontext") is not None:
            raise RuntimeError("'http.response.pathsend' is not offered: see scope['extensions']")
        with open(path, "rb", opener=_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise RuntimeError(
                    f"'http.response.pathsend' of {path!r}, which is no regular file"
                )
            size = about.st_size
            if size == 0:  # or the kernel does not tell, as of its own in /proc
                await self._read_and_send(file)
                return
            out = self._take_head(size, False)
            if self._left is not None and not self._silent:
                if self._left > size:
                    raise RuntimeError(f"content-length is more than {path!r} has: {size}")
                size = self._left  # it may have grown
            self._started = True
            connection = self._connection
            connection.transport.write(out)
            if size and not self._silent:
                try:
                    loop = connection.service.loop
                    self._sent = await loop.sendfile(connection.transport, file, 0, size)
                except OSError as error:
                    self._gone = True
                    connection.transport.abort()
                    raise ClientDisconnected(f"the client is gone: {error}") from error
            if self._sent < size and not self._silent:
                connection.transport.abort()
                raise RuntimeError(f"{path!r} became shorter while it was sent")
        self._end()

    async def _read_and_send(self, file: BinaryIO) -> None:
        loop = self._connection.service.loop
        while not self._is_head and self._left != 0:
            data = await loop.run_in_executor(None, file.read, READ_SIZE)
            if self._gone:
                raise ClientDisconnected("the client is gone")
            if not data:
                break
            self._send_body(data if self._left is None else data[: self._left], more=True)
            if self._connection.writable is not None:
                await asyncio.shield(self._connection.writable)
        self._send_body(b"", more=False)

    def _start(self, message: Message) -> None:
        """The head, but for what depends on the body. Nothing of it is kept if it is refused."""
        status = message["status"]
        if status not in wire.STATUS_LINES or status < 200:
            raise RuntimeError(f"status {status!r} is none of a response: use 200 to 599")
        if message.get("trailers"):
            raise RuntimeError("trailers are not offered: see scope['extensions']")
        service = self._connection.service
        date = server = left = None
        lines = [wire.STATUS_LINES[status]]
        for name, value in message.get("headers") or ():
            line, what = wire.lines.get((name, value)) or wire.field(name, value)
            if what:
                if what == wire.LENGTH:
                    if status == 204:  # RFC 9110, 8.6
                        continue
                    if left is not None:
                        raise RuntimeError("content-length was given twice")
                    left = _length(value)
                elif what == wire.CONNECTION:  # of other words in it only the server knows
                    if b"close" in value.lower():
                        self.keep_alive = False
                    continue
                elif what == wire.ENCODING:  # the specification: ignored
                    continue
                elif what == wire.DATE:
                    date = line
                    continue
                elif what == wire.SERVER:
                    server = line
                    continue
                elif what == wire.EVENTS:
                    self._events = True  # only then
                    if service.draining:
                        service.loop.call_soon(service.tell_events, self)
            lines.append(line)
        if date is None and server is None:
            lines.append(service.common())
        else:
            lines += (date or service.date(), server or service.server, service.fields)
        self._left = left
        self._status = status
        self._head = lines

    def _take_head(self, length: int, more: bool) -> bytes:
        """The response's head, given the length of the body's first part."""
        lines, self._head = self._head, None
        assert lines is not None
        status, version = self._status, self._version
        self._silent = status in _BODILESS or self._is_head
        if self._left is not None:
            pass
        elif self._is_head and not more and not length:
            pass  # what GET would have is not told
        elif not more and status not in _BODILESS:
            self._left = length
            lines.append(b"content-length: %d\r\n" % length)
        elif not self._silent:
            if version == "1.1":
                self._chunked = True
                lines.append(wire.CHUNKED)
            else:
                self.keep_alive = False
        # If the client still waits for 100 Continue, nobody can tell whether a body comes now.
        if self._expect or self._connection.service.draining:
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(wire.CLOSE)
        elif version == "1.0":
            lines.append(wire.KEEP_ALIVE)
        lines.append(b"\r\n")
        return b"".join(lines)

    def answer(self, status: int) -> None:
        """The server's own, after which the connection ends."""
        self.keep_alive = False
        self._chunked = False
        self._sent = 0
        self._start({"status": status, "headers": _PLAIN})
        self._send_body(wire.STATUS_LINES[status][13:-2] + b"\n", more=False)

    def _log(self) -> None:
        access = self._connection.service.access
        if access is not None and self._asked is not None:
            access.note(self._asked, self._status, self._sent)

    def _end(self) -> None:
        self.complete = True
        self._log()
        self._connection.answered(self)


def _length(value: bytes) -> int:
    if not value.isdigit():
        raise RuntimeError(f"content-length {value!r} is no number")
    return int(value)
