# The interface of framing.pyx.

from core cimport *
from aiofastsocket._native.exchange cimport Exchange, Wire
from aiofastsocket._native.wire cimport *

cdef class Framed(Wire):
    cdef bytes head  # of the response, as long as it waits for the body
    cdef bint is_chunked
    cdef int finish_head(self, Exchange exchange, Lines *lines, long long length,
                         bint more) except -1
