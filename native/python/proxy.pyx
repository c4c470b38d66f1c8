# cython: language_level=3, auto_pickle=False
"""The PROXY protocol (fastsocket/proxy.h), below TLS and everything else: the first bytes of a
connection name its client. The client that a trusted proxy names is the connection's from then on.
Such bytes are not accepted from other peers.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy

from core cimport *
from aiofastsocket._native.deadlines cimport Deadlines, Timed
from aiofastsocket._native.pump cimport PEER, is_fatal
from aiofastsocket._native.socket_transport cimport SocketTransport

cdef extern from "<fastsocket/proxy.h>" nogil:
    ssize_t fs_proxy_header(const char *data, size_t size, sockaddr_storage *client,
                            socklen_t *length)


@cython.final
cdef class Proxied:
    """A factory of protocols that take a PROXY header, and hand the connection on to the protocol
    that `factory` makes.

    trusts: called with a connection's peer name; tells whether it is a proxy, which must send a
    header. refused: called with the name of a proxy that sent no valid header in time, before it is
    disconnected.
    """

    cdef object loop
    cdef object factory
    cdef object trusts
    cdef object refused
    cdef Deadlines headers

    def __init__(self, loop, factory, trusts, refused, double seconds):
        self.loop, self.factory = loop, factory
        self.trusts, self.refused = trusts, refused
        self.headers = Deadlines(loop, seconds, Herald.expired)

    def __call__(self):
        cdef Herald herald = Herald.__new__(Herald)
        herald.of = self
        return herald


@cython.final
cdef class Herald(Timed):
    """The first protocol of a connection, which takes the PROXY header."""

    cdef Proxied of
    cdef SocketTransport transport
    cdef bytes waiting

    # -- asyncio.Protocol --

    def connection_made(self, transport):
        """See asyncio.Protocol."""
        self.transport = transport
        if self.of.trusts(self.transport.peer_name()):
            self.wait_until(self.of.headers)
        else:
            self.hand_on()

    def eof_received(self):
        """See asyncio.Protocol."""
        return False

    def connection_lost(self, exc):
        """See asyncio.Protocol."""
        self.wait_until(None)
        self.transport = None

    def pause_writing(self):
        """See asyncio.Protocol."""

    def resume_writing(self):
        """See asyncio.Protocol."""

    cdef received(self, bytes data):
        cdef sockaddr_storage client
        cdef socklen_t length = 0
        cdef ssize_t size
        cdef SocketTransport transport = self.transport
        if self.waiting is not None:
            data = self.waiting + data
        size = fs_proxy_header(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &client, &length)
        if size == 0:
            self.waiting = data
            return
        self.wait_until(None)
        if size < 0:
            self.refuse()
            return
        if 0 < length <= PEER:
            memcpy(transport.peer, &client, length)
            transport.peer_length = length
        if size < PyBytes_GET_SIZE(data):
            transport.unread(data[size:])
        self.hand_on()

    def expired(self):
        """No header was received in time."""
        self.refuse()

    cdef refuse(self):
        transport = self.transport
        self.of.refused((<SocketTransport>transport).peer_name())
        transport.abort()

    cdef hand_on(self):
        """Hand the connection on to the real protocol."""
        transport, self.waiting, self.transport = self.transport, None, None
        try:
            protocol = self.of.factory()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        except BaseException as exc:
            is_fatal(exc)
            (<SocketTransport>transport).report("connection could not be served", exc)
            transport.abort()
