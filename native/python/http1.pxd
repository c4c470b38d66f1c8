# The interface of http1.pyx.

from aiofastsocket._native.requests cimport Asked
from aiofastsocket._native.transport cimport Receiver

cdef enum Life:
    GOES_ON
    LAST  # nothing more is looked at; what was asked is answered
    ENDING  # all was sent: until the client has it
    OVER


cdef class Connection(Asked):
    cdef object context  # each request has a copy: it is not to find what the one before has set
    cdef Life life
    cdef bint ignores  # something came behind the last request
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
