# The interface of formats.pyx.

from aiofastsocket._native.access cimport Access
from aiofastsocket._native.exchange cimport Exchange


cdef class Formatted(Access):
    cdef list parts
    cdef bint is_json
    cdef int pid
    cdef bytes process
    cdef write(self, Exchange exchange, object client, int status)
    cdef bytes value(self, int atom, bytes name, Exchange exchange, object client, int status)
    cdef bytes asked(self, int atom, bytes name, Exchange exchange)
    cdef bytes when(self)
    cdef bytes json(self, Exchange exchange, object client, int status)
