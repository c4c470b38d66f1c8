# The interface of task.pyx.

from aiofastsocket._native.awaitable cimport Awaitable, Source


cdef class Served(Source):
    cdef object called(self)
    cdef object heed(self, message)
    cdef finished(self, error)
    cdef abandoned(self)


cdef class Run(Awaitable):
    cdef Served exchange
    cdef object application  # the result of its call, which is resumed
    cdef object finish(self, error)


cdef object task_for(Served exchange, loop, context, str name)
cdef object later(Served exchange, message)
