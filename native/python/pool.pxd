# The interface of pool.pyx.

from aiofastsocket._native.exchange cimport Service
from aiofastsocket._native.wsgi cimport Call, Caller, MOST_UNTOLD

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass

cdef class PooledCall


cdef class Pool(Caller):
    cdef readonly object waiting  # calls that no thread has begun
    cdef list told  # calls whose threads have something for the loop
    cdef tuple bell  # a pipe that makes the loop look at `told`
    cdef int bell_in
    cdef int rings  # the bell must be rung
    cdef bint loop_is_here  # the loop looks at `told` anyway
    cdef Service service
    cdef object page  # it is told when no thread is free
    cdef bint ending
    cdef int begun  # threads started
    cdef int idle  # threads without work
    cdef int active  # threads that take calls
    cdef bint is_followed  # a follower checks the threads' progress
    cdef bint follower_wanted
    cdef bint is_short  # the system refused a thread
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
    cdef unsigned long thread  # the thread that calls the application
    cdef long long since  # when the thread entered the application
    cdef object file  # a file to send instead of parts
    cdef object file_task
    cdef bint has_ended  # the application has ended
    cdef object error  # the error that ended the application
    cdef bint is_told  # the loop will look at this call
    cdef list waiting  # for each waiting thread, its condition and its lock
    cdef bint is_parked  # has_room is called when there is room
    cdef bint wants  # the thread wants more of the body
    cdef Py_ssize_t most_before(self) noexcept
    cdef run(self)
    cdef call(self)
    cdef wait(self, int wanted)
    cdef wake_thread(self)
    cdef bint gets_on(self, int wanted) noexcept
    cdef proceed(self)
