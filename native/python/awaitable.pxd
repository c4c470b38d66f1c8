# The interface of awaitable.pyx.

from cpython.object cimport PyObject

cdef enum:  # PySendResult
    RETURN = 0
    NEXT = 1


cdef class Waiter:
    cdef object loop
    cdef object callback
    cdef object context
    cdef object message
    cdef bint blocking
    cdef bint over
    cdef bint is_cancelled
    cdef wake(self, bint at_once)


cdef class Waiters:
    cdef object loop
    cdef list waiting
    cdef Waiter park(self)
    cdef forget(self, Waiter waiter)
    cdef wake(self, bint at_once)


cdef class Source:
    cdef Waiters waiters  # None until a task has waited
    cdef object loop
    cdef object take(self)
    cdef wake(self, bint at_once)


cdef class Awaitable:
    cdef bint is_over
    cdef bint runs  # it is in a step: its own awaitable must not resume it
    cdef int enter(self) except -1
    cdef int step(self, object value, PyObject **result) except -1
    cdef object thrown(self, object error)
    cdef object end(self)
    cdef over(self)


cdef object DONE
cdef Awaitable failed(error)
cdef Awaitable receive_from(Source source)
cdef Awaitable one_turn()
cdef int give(object what, PyObject **result) noexcept
cdef int set_steps(type kind) except -1
