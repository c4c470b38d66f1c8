# The server side of a listener.

@cython.final
cdef class Connections:
    """Accepts from a listen table and serves each connection with a protocol that `factory` makes.

    pump: the loop's. table: what keeps the listen table alive; `pointer`: its struct fs_table.
    context: in which the server was started; each connection has a copy of it.
    attach, detach: called with self when the first connection opens, and when the last is gone.
    nodelay: set TCP_NODELAY on each connection; else its listener has it.
    """

    cdef object __weakref__
    cdef Pump pump
    cdef object table
    cdef fs_table *pointer
    cdef object factory
    cdef object context
    cdef object attach
    cdef object detach
    cdef object kind  # family, type, protocol
    cdef bint nodelay
    cdef readonly set open

    def __init__(self, Pump pump not None, table, size_t pointer, kind, factory, context, *,
                 attach=None, detach=None, bint nodelay=True):
        self.pump = pump
        self.table = table
        self.pointer = <fs_table *>pointer
        self.kind = kind
        self.factory = factory
        self.context = context
        self.attach, self.detach = attach, detach
        self.nodelay = nodelay
        self.open = set()

    def take(self, int slot, int source, int most):
        """Accept up to `most` connections from a source, for the owner of `slot`, and serve them.

        Returns how many there were, or -errno: -EAGAIN if there was none, others after those that
        came before the error were served.
        """
        cdef Pump pump = self.pump
        cdef const fs_input *inputs
        cdef int count, i, error = 0
        if pump.turning or pump.pump is NULL or self.table.closed:
            return -EAGAIN
        if most > pump.pace:
            most = pump.pace
        with nogil:
            count = fs_pump_accept(pump.pump, self.pointer, slot, source, most, self.nodelay,
                                   &error)
        if count:
            inputs = fs_pump_inputs(pump.pump)
            pump.begin()
            for i in range(count):
                try:
                    self.serve(&inputs[i])
                except BaseException as exc:
                    pump.failure = pump.failure or exc
                pump.pause_for_breath()
            pump.end()
        return count if count and (error == 0 or error == -EAGAIN) else error

    def close(self):
        """Close all, each once what is buffered is sent."""
        for transport in list(self.open):
            transport.close()

    def abort(self):
        """Close all now."""
        for transport in list(self.open):
            transport.abort()

    cdef serve(self, const fs_input *first):
        cdef Transport transport = Transport.__new__(Transport)
        transport.connections = self
        transport.pump = self.pump
        transport.loop = self.pump.loop
        transport.fd = first.fd
        transport.peer_length = first.peer_length
        memcpy(transport.peer, first.peer, FS_PUMP_PEER)
        context = transport.context = PyContext_Copy(self.context)
        if not self.open:
            self.pump.serving.add(self)
            if self.attach is not None:
                self.attach(self)
        self.open.add(transport)
        PyContext_Enter(context)
        try:
            transport.start(first)
        finally:
            PyContext_Exit(context)
        if transport.dirty or transport.watched or transport.fd < 0:
            return
        if first.result > 0:
            # Tasks that were started for what it said may well end it before it is ever watched.
            self.pump.fresh.append(transport)
        else:
            transport.mark()

    cdef left(self, Transport transport):
        self.open.discard(transport)
        if not self.open:
            self.pump.serving.discard(self)
            if self.detach is not None:
                self.detach(self)
