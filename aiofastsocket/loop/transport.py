"""Server transports: a loop's pump, and the connections of one listen table on it.

The work for each connection is compiled (native/python). This module does the work for each server.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from .._native.connections import Connections
from .._native.openssl import Buffers
from .._native.pump import Pump
from .._native.socket_transport import SocketTransport
from .._native.tls import Tls, TlsTransport
from ..address import common_name, is_tcp, parse
from ..sockopt import look
from ..table.part import pollers
from ..table.table import ListenTable

__all__ = [
    "Connections",
    "Pump",
    "SocketTransport",
    "TlsTransport",
    "connections_of",
    "over_tls",
    "pump_for",
    "send_file",
]

PART = 128 * 1024
"""Bytes of a file that are read and encrypted at a time."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def pump_for(loop: Any) -> Pump:
    """A new pump, whose turns `loop` runs."""
    pump = Pump(loop, parse, takes_any_buffered(loop))
    pump.tls_buffers = Buffers()
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
    current context.

    attach: called when the first connection opens. detach: called when the last one has ended.
    """
    sock = table.sock
    # asyncio's and uvloop's transports set it, too. On Linux, connections inherit it.
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
    """Whether any protocol with get_buffer() is a buffered one. That is uvloop's rule, and so the
    rule of our loop on uvloop. asyncio requires the class BufferedProtocol."""
    return not isinstance(loop, asyncio.BaseEventLoop)


def over_tls(
    pump: Pump,
    loop: asyncio.AbstractEventLoop,
    factory: ProtocolFactory,
    context: ssl.SSLContext,
    handshake_timeout: float | None = None,
    shutdown_timeout: float | None = None,
    *,
    answer: Callable[[asyncio.Transport], bytes] | None = None,
    unready: set[Any] | None = None,
) -> ProtocolFactory:
    """A factory of TLS layers below the protocols that `factory` makes: see Tls."""
    return Tls(
        pump.tls_buffers,
        loop,
        context,
        factory,
        handshake_timeout=handshake_timeout,
        shutdown_timeout=shutdown_timeout,
        answer=answer,
        unready=unready,
    )


async def start_tls(
    pump: Pump,
    loop: asyncio.AbstractEventLoop,
    transport: SocketTransport | TlsTransport,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Like loop.start_tls, for one of our transports. No byte is lost, or passed on too early.

    A protocol gets the first bytes of a connection in the turn in which it is accepted. That may be
    before the task of a stream handler has run. The stream's bytes that are not read yet belong to
    the TLS of the other side. The task that awaits this continues before the protocol gets the
    bytes that came with the end of the handshake. So the task knows the transport for its answer.
    """
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is {sslcontext!r}: use an ssl.SSLContext")
    waiter = loop.create_future()
    layer = Tls(
        pump.tls_buffers,
        loop,
        sslcontext,
        handshake_timeout=ssl_handshake_timeout,
        shutdown_timeout=ssl_shutdown_timeout,
    ).upgrade(
        protocol,
        waiter,
        is_client=not server_side,
        hostname=None if server_side else server_hostname,
    )
    transport.pause_reading()  # until the layer knows the transport
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
        if reader is not None and reader._buffer:
            transport.unread(bytes(reader._buffer))
            reader._buffer.clear()
    transport.set_protocol(layer)
    soon = [loop.call_soon(layer.connection_made, transport)]
    soon.append(loop.call_soon(transport.resume_reading))
    try:
        over: asyncio.Transport = await waiter
    except BaseException:
        transport.close()
        for handle in soon:
            handle.cancel()
        raise
    over.resume_reading()
    return over


async def send_file(
    loop: Any,
    transport: SocketTransport | TlsTransport,
    file: Any,
    offset: int,
    count: int | None,
    fallback: bool,
) -> int:
    """Like loop.sendfile, for one of our transports."""
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    if isinstance(transport, TlsTransport):
        if not fallback:
            raise RuntimeError("fallback is disabled, and sendfile(2) does not encrypt")
        return await _send_file_encrypted(loop, transport, file, offset, count)
    reading = transport.is_reading()
    waiter = transport._make_empty_waiter()
    transport.pause_reading()
    try:
        await waiter
        sock = transport._sock
        if sock is None:
            raise ConnectionError("Connection is closed by peer")
        try:
            return int(await loop.sock_sendfile(sock, file, offset, count, fallback=fallback))
        finally:  # even after an error, asyncio leaves the file at the position it read to
            loop.pump().sent_past(max(0, file.tell() - offset))
    finally:
        transport._reset_empty_waiter()
        if reading:
            transport.resume_reading()


async def _send_file_encrypted(
    loop: Any, transport: TlsTransport, file: Any, offset: int, count: int | None
) -> int:
    """Send a file in parts, each after the kernel has taken the previous one."""
    reading = transport.is_reading()
    transport.pause_reading()
    file.seek(offset)
    sent = 0
    try:
        while count is None or sent < count:
            size = PART if count is None else min(PART, count - sent)
            data = await loop.run_in_executor(None, file.read, size)
            if not data:
                break
            await _empty(transport)
            transport.write(data)
            sent += len(data)
        await _empty(transport)
    finally:
        file.seek(offset + sent)
        if reading:
            transport.resume_reading()
    return sent


async def _empty(transport: TlsTransport) -> None:
    waiter = transport._make_empty_waiter()
    try:
        await waiter
    finally:
        transport._reset_empty_waiter()
    if transport.is_closing():
        raise ConnectionError("Connection is closed by peer")
