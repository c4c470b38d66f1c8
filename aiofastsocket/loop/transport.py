"""Server transports: a loop's pump, and the connections of one listen table on it.

What is done for each connection is compiled (native/cython); here is what is done for each server.
"""

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, cast

from .._native.transports import Connections, Pump, Transport
from ..address import common_name, is_tcp, parse
from ..sockopt import look
from ..table.part import pollers
from ..table.table import ListenTable

__all__ = [
    "Connections",
    "Pump",
    "Transport",
    "connections_of",
    "over_tls",
    "pump_for",
    "send_file",
]

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def pump_for(loop: Any) -> Pump:
    """A new pump, turned by `loop`."""
    pump = Pump(loop, parse, takes_any_buffered(loop))
    pollers.add(pump)
    loop.add_reader(pump.fileno(), pump.turn)
    return pump


def connections_of(
    pump: Pump,
    table: ListenTable,
    factory: ProtocolFactory,
    *,
    attach: Callable[[Connections], None] | None = None,
    detach: Callable[[Connections], None] | None = None,
) -> Connections:
    """The connections of a table, each served by a protocol that `factory` makes, in a copy of the
    present context.

    attach, detach: called when the first connection opens, and when the last one is over.
    """
    sock = table.sock
    # As asyncio's and uvloop's transports; Linux has connections inherit it from their listener.
    nodelay = is_tcp(sock) and not look(sock, socket.IPPROTO_TCP, "TCP_NODELAY")
    return Connections(
        pump,
        table,
        table.pointer(),
        (sock.family, sock.type, sock.proto),
        factory,
        copy_context(),
        name=common_name(sock),
        attach=attach,
        detach=detach,
        nodelay=nodelay,
    )


def takes_any_buffered(loop: Any) -> bool:
    """Whether a protocol with get_buffer() is a buffered one whatever its class: uvloop's rule, and
    so that of the loop that is made of uvloop's; asyncio goes by BufferedProtocol."""
    return not isinstance(loop, asyncio.BaseEventLoop)


class _Tls(cast(Any, SSLProtocol)):  # type: ignore[misc]
    """asyncio's TLS, but for how a connection ends."""

    _left = 0
    _app_reading_paused: bool
    _app_protocol_is_buffer: bool

    def _set_app_protocol(self, app_protocol: Any) -> None:
        super()._set_app_protocol(app_protocol)
        if self._app_protocol_is_buffer or isinstance(app_protocol, asyncio.Protocol):
            return
        if takes_any_buffered(self._loop) and hasattr(app_protocol, "get_buffer"):
            self._app_protocol_get_buffer = app_protocol.get_buffer
            self._app_protocol_buffer_updated = app_protocol.buffer_updated
            self._app_protocol_is_buffer = True

    def eof_received(self) -> Any:
        """While the protocol above reads nothing, asyncio keeps the client's end to itself, and
        drops what is written. A protocol with `told_while_paused` is told at once."""
        paused = self._app_reading_paused
        if getattr(self._app_protocol, "told_while_paused", False):
            self._app_reading_paused = False
        try:
            return super().eof_received()
        finally:
            self._app_reading_paused = paused

    def _get_write_buffer_size(self) -> int:
        """What waits below too: asyncio hands all of a large write down at once."""
        below = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return int(super()._get_write_buffer_size() + below)

    def _check_shutdown_timeout(self) -> None:
        """After close() the time is for a client that stands still: one that reads on gets more,
        as it does without TLS."""
        before, self._left = self._left, self._transport.get_write_buffer_size()
        if self._left and self._left != before:
            self._shutdown_timeout_handle = self._loop.call_later(
                self._ssl_shutdown_timeout, self._check_shutdown_timeout
            )
        else:
            super()._check_shutdown_timeout()


def over_tls(
    loop: asyncio.AbstractEventLoop,
    factory: ProtocolFactory,
    context: ssl.SSLContext,
    handshake_timeout: float | None = None,
    shutdown_timeout: float | None = None,
) -> ProtocolFactory:
    """A factory of what speaks TLS below the protocols that `factory` makes."""

    def protocol() -> asyncio.BaseProtocol:
        made: asyncio.BaseProtocol = _Tls(
            loop,
            factory(),
            context,
            None,  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=handshake_timeout,
            ssl_shutdown_timeout=shutdown_timeout,
        )
        return made

    return protocol


async def start_tls(
    loop: Any,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """As loop.start_tls, for one of our transports or TLS on it; and nothing that comes is lost, or
    told too early.

    The first bytes of a connection are told in the turn in which it is accepted, which may be
    before the task of a stream handler has run. What the stream has of them is not read yet, so it
    belongs to the other side's TLS. The task that awaits this goes on before it is told what came
    with the last of the handshake: then it knows by which transport to answer.
    """
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is {sslcontext!r}: use an ssl.SSLContext")
    waiter = loop.create_future()
    made: Any = _Tls(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        call_connection_made=False,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    made._pause_reading()
    transport.pause_reading()  # until `made` knows it
    if isinstance(transport, Transport) and isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
        if reader is not None and reader._buffer:
            transport.unread(bytes(reader._buffer))
            reader._buffer.clear()
    transport.set_protocol(made)
    soon = [loop.call_soon(made.connection_made, transport)]
    soon.append(loop.call_soon(transport.resume_reading))
    try:
        await waiter
    except BaseException:
        transport.close()
        for handle in soon:
            handle.cancel()
        raise
    made._resume_reading()
    over: asyncio.Transport = made._app_transport
    return over


async def send_file(
    loop: Any, transport: Transport, file: Any, offset: int, count: int | None, fallback: bool
) -> int:
    """As loop.sendfile, for one of our transports."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    reading = transport.is_reading()
    waiter = transport._make_empty_waiter()
    transport.pause_reading()
    try:
        await waiter
        sock = transport._sock
        if sock is None:
            raise ConnectionError("Connection is closed by peer")
        return int(await loop.sock_sendfile(sock, file, offset, count, fallback=fallback))
    finally:
        transport._reset_empty_waiter()
        if reading:
            transport.resume_reading()
