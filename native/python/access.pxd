# The interface of access.pyx.

from aiofastsocket._native.exchange cimport Exchange
from aiofastsocket._native.wire cimport Lines


cdef class Access:
    cdef object loop
    cdef object flush  # called in the loop's next turn
    cdef readonly bint keeps_heads  # its lines show fields of a response's head
    cdef readonly bint times  # its lines show how long requests took
    cdef Lines lines
    cdef long long second
    cdef bytes stamp  # the text between the client and its request, in that second
    cdef note(self, Exchange exchange)
    cpdef refused(self, client, int status)
    cdef begin(self, client)
    cdef end(self, int status, long long sent)
    cdef add(self, str text)
    cdef add_target(self, bytes part)
