# The interface of transport.pyx. Compiled protocols are Receivers.

from aiofastsocket._native.pump cimport *


cdef class Receiver:
    cdef received(self, bytes data)
    cdef bint has_work(self) noexcept
    cdef work(self)
    cdef sent(self)


cdef class Transport(Watched):
    cdef object __weakref__
    cdef object loop
    cdef object protocol
    cdef Receiver receiver  # the protocol, if it is compiled
    cdef object context
    cdef object extra
    cdef object empty_waiter  # sendfile waits here until all is sent
    cdef bytes kept  # bytes that came while reading was paused, or that were not read
    cdef bytes head  # bytes to be sent, from `offset` on
    cdef list rest  # the parts to be sent after `head`, from `cursor` on
    cdef size_t offset
    cdef Py_ssize_t cursor
    cdef size_t size  # of all data to be sent
    cdef size_t high
    cdef size_t low
    cdef int writes_for_nothing
    cdef bint buffered  # an asyncio.BufferedProtocol
    cdef bint reading_paused
    cdef bint writing_paused
    cdef bint closing
    cdef long long waited  # ns that its first bytes waited in the kernel; -1: unknown, or taken
    cdef bint gone  # nothing can be written any more; only connection_lost is left

    cdef force_close(self, exc)
    cdef send(self, bytes data)
    cdef push(self)
    cdef leave(self)
    cdef size_t unsent(self) noexcept
    cdef object peer_name(self)
    cdef use(self, protocol)
    cdef deliver(self, bytes data)
    cdef feed(self, bytes data)
    cdef bint get_buffer(self, Py_ssize_t hint, Py_buffer *room) except -1
    cdef buffer_updated(self, Py_ssize_t count)
    cdef fatal(self, message, exc)
    cdef report(self, message, exc)
    cdef queue(self, bytes data)
    cdef maybe_pause_writing(self)
    cdef maybe_resume_writing(self)
    cdef tell_empty(self)
    cdef consume(self, size_t sent)
