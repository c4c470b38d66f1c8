# The interface of pool.pyx.

from aiofastsocket._native.exchange cimport Service
from aiofastsocket._native.wsgi cimport Call, Caller, MOST_UNTOLD

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass

cdef class PooledCall


cdef class Pool(Caller):
    cdef readonly object waiting  # calls that no thread has begun
    cdef list told  # calls whose threads have said something
    cdef tuple bell  # a pipe: the loop is to look at what was told
    cdef int bell_in
    cdef int rings  # it is to be rung
    cdef bint loop_is_here  # it looks anyway
    cdef Service service
    cdef object page  # where it is told that no thread is free
    cdef bint ending
    cdef int begun  # threads
    cdef int idle  # of them
    cdef int active  # of them: they take calls
    cdef bint is_followed  # one looks whether they get on
    cdef bint follower_wanted
    cdef bint is_short  # the system had no thread
    cdef long queued
    cdef long taken
    cdef sem_t wanted
    cdef submit(self, PooledCall call)
    cdef bint wake(self) except -1
    cdef take_calls(self)
    cdef have_followed(self)
    cdef bint follow(self) except -1
    cdef collect(self)
    cdef tell(self, PooledCall call)
    cdef void ring(self) noexcept nogil
    cdef stands(self, bint waits)
    cdef enter(self, PooledCall call)
    cdef leave(self, PooledCall call)


cdef class PooledCall(Call):
    cdef Pool pool
    cdef unsigned long thread  # that calls the application
    cdef long long since  # it is in the application
    cdef object file  # instead of parts
    cdef object file_task
    cdef bint has_ended  # the application
    cdef object error  # ... with this
    cdef bint is_told  # the loop will look at it
    cdef list waiting  # what threads wait for, and the lock at which each does
    cdef bint is_parked  # it is told when there is room
    cdef bint wants  # more of the body
    cdef Py_ssize_t most_before(self) noexcept
    cdef run(self)
    cdef call(self)
    cdef wait(self, int wanted)
    cdef wake_thread(self)
    cdef bint gets_on(self, int wanted) noexcept
    cdef proceed(self)
