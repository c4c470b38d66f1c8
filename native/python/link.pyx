# cython: language_level=3
"""A protocol and its transport: writing, and waiting until the client takes more."""

cimport cython

from aiofastsocket._native.awaitable cimport *


@cython.final
cdef class Room(Awaitable):
    """Waits until a link takes more."""

    cdef Link link
    cdef Waiters room
    cdef Waiter waiter

    cdef int step(self, object value, PyObject **result) except -1:
        if self.link.room is None:
            return give(None, result)
        self.room = self.link.room  # the link may have another one later
        self.waiter = self.room.park()
        give(self.waiter, result)
        return NEXT

    cdef object end(self):
        if self.waiter is not None:
            self.room.forget(self.waiter)
        self.link = self.room = self.waiter = None


cdef class Link(Timed):
    """The base of compiled protocols. Other transports than ours are used as in asyncio."""

    cdef has(self, transport):
        """Use this transport."""
        self.transport = transport
        self.fast = transport if isinstance(transport, Transport) else None

    cdef write(self, bytes data):
        if self.fast is not None:
            self.fast.send(data)
        else:
            self.transport.write(data)

    cdef push(self):
        """Send as much as the kernel takes now, because the turn may end much later."""
        if self.fast is not None:
            self.fast.push()

    cdef end(self):
        """Close the transport: the client has nothing more to send."""
        if self.fast is not None:
            self.fast.leave()
        else:
            self.transport.close()

    cdef bint is_closing(self) except -1:
        """Whether nothing can be written any more."""
        if self.fast is not None:
            return self.fast.closing
        return self.transport.is_closing()

    cdef object room_for_more(self):
        """The awaitable to await before more is written."""
        cdef Room room
        if self.room is None:
            return DONE
        room = Room.__new__(Room)
        room.link = self
        return room

    cdef wake_senders(self):
        """Wake the senders: there is room, or the client is gone."""
        room, self.room = self.room, None
        if room is not None:
            (<Waiters>room).wake(False)

    cdef read_on(self):
        """Resume or pause reading, as the current state requires."""

    # -- asyncio.Protocol --

    def data_received(self, data):
        """See asyncio.Protocol."""
        self.received(data if type(data) is bytes else bytes(data))

    def pause_writing(self):
        """See asyncio.Protocol."""
        if self.room is None:
            self.room = Waiters(self.loop)
            self.read_on()  # reading from a client that does not read is paused

    def resume_writing(self):
        """See asyncio.Protocol."""
        if self.room is not None:
            self.wake_senders()
            self.read_on()


set_steps(Room)
