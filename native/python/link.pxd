# The interface of link.pyx.

from aiofastsocket._native.awaitable cimport Waiters
from aiofastsocket._native.deadlines cimport Timed
from aiofastsocket._native.transport cimport Transport

cdef enum:
    LARGE = 16 * 1024  # bytes: data of this size is not copied behind its head


cdef class Link(Timed):
    cdef object loop
    cdef readonly object transport
    cdef Transport fast  # the transport, if it is ours
    cdef Waiters room  # senders that wait for room; None: there is room
    cdef has(self, transport)
    cdef write(self, bytes data)
    cdef push(self)
    cdef end(self)
    cdef bint is_closing(self) except -1
    cdef object room_for_more(self)
    cdef wake_senders(self)
    cdef read_on(self)
