# The interface of http1.pyx.

from aiofastsocket._native.requests cimport Asked
from aiofastsocket._native.transport cimport Receiver

cdef enum Life:
    GOES_ON
    LAST  # no further request is read; the current one is answered
    ENDING  # all was sent; it lasts until the client has received all
    OVER


cdef class Connection(Asked):
    cdef object context  # each request gets a copy: it must not see values of the previous one
    cdef Life life
    cdef bint ignores  # bytes came after the last request
    cdef bint looking
    cdef bint has_eof
    cdef bint reads
    cdef bint held
    cdef int lives(self, int event) except -1
    cdef look(self)
    cdef tell_heard(self)
    cdef rest(self)
    cdef finish(self, bint more)
    cdef refuse(self, int status, str text)
