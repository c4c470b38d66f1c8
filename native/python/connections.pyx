# cython: language_level=3, nonecheck=True
"""The server side of a listener: accept and serve connections."""

cimport cython
from cpython.contextvars cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from libc.string cimport memcpy
from posix.unistd cimport close as close_fd

from core cimport *
from aiofastsocket._native.pump cimport *
from aiofastsocket._native.socket_transport cimport *


@cython.final
cdef class Connections(Server):
    """Accepts from a listen table and serves each connection with a protocol that `factory` makes.

    pump: the loop's. table: keeps the listen table alive; pointer: its struct fs_table.
    context: the context of the server's start; each connection gets a copy.
    attach, detach: called with self before the first connection, and when the last is gone.
    name: the connections' own address, if they all have the same one.
    nodelay: set TCP_NODELAY on each connection; else its listener has it.
    """

    cdef object __weakref__
    cdef Pump pump
    cdef object table
    cdef fs_table *pointer
    cdef object context
    cdef object attach
    cdef object detach
    cdef bint nodelay
    cdef fs_part *part  # the accepting one: siblings compare their open connections
    cdef bint taking  # no detach before all accepted connections are served
    cdef readonly set open

    def __init__(self, Pump pump not None, table, size_t pointer, kind, factory, context, *,
                 name=None, attach=None, detach=None, bint nodelay=True):
        self.pump = pump
        self.table = table
        self.pointer = <fs_table *>pointer
        self.kind = kind
        self.factory = factory
        self.context = context
        self.attach, self.detach = attach, detach
        self.name = name
        self.nodelay = nodelay
        self.open = set()

    def take(self, int slot, int source, int most):
        """Accept up to `most` connections from a source, for the owner of `slot`, and serve them.

        Returns the number of connections, or -errno: -EAGAIN if there was none. On another error,
        the connections that came before it are served first.
        """
        cdef Pump pump = self.pump
        cdef const fs_input *inputs
        cdef int count, error = 0
        if pump.turning or pump.pump is NULL or self.table.closed:
            return -EAGAIN
        if most > pump.pace:
            most = pump.pace
        with nogil:
            count = fs_pump_accept(pump.pump, self.pointer, slot, source, most, self.nodelay,
                                   &error)
        if count:
            pump.begin()
            try:
                self.serve(fs_pump_inputs(pump.pump), count)
            finally:
                pump.end()
        return count if count and (error == 0 or error == -EAGAIN) else error

    def show(self, size_t part):
        """From now on, tell a part (its struct fs_part; 0: none) how many connections are open."""
        self.part = <fs_part *>part
        self.tell_open()

    cdef void tell_open(self):
        if self.part is not NULL:
            fs_part_count(self.part, <int>len(self.open))

    cdef void count(self, int what):
        """Count a connection. 0: it was accepted, 1: it is over."""
        if self.pump.counters is not NULL:
            fs_count(&self.pump.counters.connections[what], 1)
        self.tell_open()

    def close(self):
        """Close all connections, each once its buffer is sent."""
        for transport in list(self.open):
            transport.close()

    def abort(self):
        """Close all connections now."""
        for transport in list(self.open):
            transport.abort()

    cdef serve(self, const fs_input *inputs, int count):
        """Serve all accepted connections, even if the server closes; none in a forked child."""
        cdef Pump pump = self.pump
        cdef int done = 0
        self.taking = True
        try:
            if not self.open:
                pump.serving.add(self)
                if self.attach is not None:
                    self.attach(self)
            while done < count and pump.pump is not NULL:
                done += 1
                try:
                    self.serve_one(&inputs[done - 1])
                except BaseException as exc:
                    pump.failure = pump.failure or exc
                pump.pause_for_breath()
        finally:
            self.taking = False
            for i in range(done, count):
                close_fd(inputs[i].fd)
            if not self.open:
                self.leave()

    cdef serve_one(self, const fs_input *first):
        cdef SocketTransport transport = SocketTransport.__new__(SocketTransport)
        transport.server = self
        transport.pump = self.pump
        transport.loop = self.pump.loop
        transport.fd = first.fd
        transport.unheard = True
        transport.peer_length = first.peer_length
        memcpy(transport.peer, first.peer, FS_PUMP_PEER)
        context = transport.context = PyContext_Copy(self.context)
        self.open.add(transport)
        self.count(0)
        PyContext_Enter(context)
        try:
            transport.start(first)
        finally:
            PyContext_Exit(context)
            if transport.dirty or transport.watched or transport.fd < 0:
                pass
            elif first.result > 0:
                # Tasks for its first bytes may end the connection before it is ever watched.
                self.pump.fresh.append(transport)
            else:
                transport.mark()

    cdef void waited(self, long long ns) noexcept:
        if self.part is not NULL:
            fs_part_waited(self.part, ns)

    cdef left(self, SocketTransport transport):
        self.open.discard(transport)
        self.count(1)
        if not self.open and not self.taking:
            self.leave()

    cdef leave(self):
        self.pump.serving.discard(self)
        if self.detach is not None:
            self.detach(self)
