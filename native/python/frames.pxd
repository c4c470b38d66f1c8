# The interface of frames.pyx.

from libc.stdint cimport uint64_t

cdef enum:  # opcodes
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


cdef struct Frame:
    bint fin
    bint deflated
    int opcode
    Py_ssize_t head  # bytes before the payload; 0: incomplete
    uint64_t length  # bytes of the payload


cdef str frame_begins(Frame *frame, const unsigned char *at, Py_ssize_t size, bint deflates,
                      bint in_fragments)
cdef Py_ssize_t frame_head(unsigned char *head, int opcode, bint deflated, Py_ssize_t size) noexcept
cdef bytes unmasked(const char *data, Py_ssize_t size, const char *mask)
cdef bint is_close_code(code) except -1
