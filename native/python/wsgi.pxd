# The interface of wsgi.pyx.

from aiofastsocket._native.environ cimport Environs
from aiofastsocket._native.exchange cimport Exchange

cdef enum:
    # Up to this many bytes of a body of unknown length are awaited before the application is
    # called. Then the length is known. Without a length, Django and others assume an empty body.
    MOST_UNTOLD = 1 << 20


cdef class Call


cdef class Caller:
    cdef Environs environs
    cdef readonly int threads
    cdef readonly set busy  # calls whose thread is in the application, not waiting for its client
    cdef Call call(self)


cdef class Call(Exchange):
    cdef object context
    cdef bint submitted
    cdef bint ready  # enough of the body was received
    cdef int code  # the status and headers that start_response was called with
    cdef object headers
    cdef bint began  # the body was begun: the head can no longer change
    cdef object said  # the application's output for the loop: the whole body, or a list of parts
    cdef Py_ssize_t said_size
    cdef bint has_last  # `said` includes the last part
    cdef bint is_finished
    cdef bint over  # nothing is sent any more
    cdef bytes reading  # a part of the body, from read_at on
    cdef Py_ssize_t read_at
    cdef Py_ssize_t body_at  # the number of parts of `body` that were read
    cdef await_body(self)
    cdef submit(self)
    cdef Py_ssize_t length(self)
    cdef bint is_said(self, result) except -1
    cdef has_head(self)
    cdef say(self, data, bint last)
    cdef has_said(self)
    cdef wait_for_room(self)
    cdef bint next_part(self) except -1
    cdef left_early(self)
    cdef pass_on(self)
    cdef send_said(self, said, bint last)
    cdef send_head(self)
