# The interface of openssl.pyx.

from aiofastsocket._native.deadlines cimport Timed
from aiofastsocket._native.transport cimport Transport

cdef enum:  # RFC 8446, 5.1 and 5.2; TLS 1.2 (RFC 5246, 6.2.3) allows more to be added to a record
    HEADER = 5
    MOST_PLAIN = 1 << 14
    MOST_RECORD = (1 << 14) + 2048
    FIRST_TYPE = 20
    LAST_TYPE = 24


cdef inline Py_ssize_t record_size(const unsigned char *data, Py_ssize_t size) noexcept:
    """The size of a record, with its header: 0 if it is incomplete, -1 if it is invalid."""
    cdef Py_ssize_t length
    if data[0] < FIRST_TYPE or data[0] > LAST_TYPE or (size > 1 and data[1] != 3):
        return -1
    if size < HEADER:
        return 0
    length = data[3] << 8 | data[4]
    if length > MOST_RECORD:
        return -1
    return HEADER + length if size >= HEADER + length else 0


cdef class Buffers:
    cdef object incoming  # ssl.MemoryBIO: the input of an SSL object
    cdef object outgoing  # ssl.MemoryBIO: the output of an SSL object
    cdef bint busy
    cdef int enter(self) except -1
    cdef bytes leave(self)


cdef class Secured(Timed):
    cdef Buffers buffers
    cdef object ssl
    cdef object failure
    cdef reply(self, bytes records)
    cdef broken(self, exc)
    cdef Py_ssize_t shaken(self, context, bytes records, bint server_side, hostname) except -2
    cdef bytes opened(self, bytes record, Py_ssize_t size)
    cdef size_t sealed(self, Transport what) except? 0
    cdef take_leave(self)
    cdef answer(self)
