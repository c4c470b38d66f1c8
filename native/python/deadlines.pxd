# The interface of deadlines.pyx.

from aiofastsocket._native.transport cimport Receiver

cdef class Deadlines


cdef class Timed(Receiver):
    cdef Deadlines due  # the deadlines that it waits in, or None
    cdef Timed before
    cdef Timed after
    cdef double due_at  # in seconds of CLOCK_MONOTONIC
    cdef wait_until(self, Deadlines deadlines)


cdef class Deadlines:
    cdef readonly double seconds
    cdef object loop
    cdef object expired
    cdef Timed first
    cdef Timed last
    cdef object timer
    cdef double timer_at
    cdef bint waited
    cdef add(self, Timed who)
    cdef take_out(self, Timed who)
    cdef look_at(self, double due, double now)
