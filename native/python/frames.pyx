# cython: language_level=3
"""Frames of a WebSocket, as bytes (RFC 6455, 5.2 to 5.5)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

cdef str frame_begins(Frame *frame, const unsigned char *at, Py_ssize_t size, bint deflates,
                      bint in_fragments):
    """Read the head of a client's frame, of which at least two bytes are present. Returns the
    violation of the protocol as text, or None."""
    cdef int i
    frame.fin = at[0] & 0x80 != 0
    frame.deflated = at[0] & 0x40 != 0
    frame.opcode = at[0] & 0x0f
    frame.length = at[1] & 0x7f
    frame.head = 0
    if not at[1] & 0x80:
        return "a client's frame is not masked"
    if at[0] & 0x30 or (frame.deflated and not (deflates and frame.opcode in (TEXT, BINARY))):
        return "a reserved bit is set"
    if frame.opcode >= CLOSE:
        if frame.opcode > PONG:
            return "the opcode is invalid"
        if not frame.fin or frame.length > 125:
            return "a control frame is fragmented or longer than 125 bytes"
    elif frame.opcode > BINARY:
        return "the opcode is invalid"
    elif (frame.opcode == CONTINUATION) != in_fragments:
        return ("a message begins before the last one has ended" if in_fragments
                else "there is no message to continue")
    if frame.length < 126:
        frame.head = 6 if size >= 6 else 0
    elif frame.length == 126:
        if size >= 8:
            frame.head = 8
            frame.length = <uint64_t>at[2] << 8 | at[3]
    elif size >= 14:
        frame.head = 14
        frame.length = 0
        for i in range(2, 10):
            frame.length = frame.length << 8 | at[i]
    return None


cdef Py_ssize_t frame_head(unsigned char *head, int opcode, bint deflated, Py_ssize_t size) noexcept:
    """Write the head of a whole message's frame, of ten bytes at most. Returns its size."""
    cdef int i
    head[0] = 0x80 | opcode | (0x40 if deflated else 0)
    if size < 126:
        head[1] = size
        return 2
    if size < 65536:
        head[1] = 126
        head[2], head[3] = size >> 8, size & 0xff
        return 4
    head[1] = 127
    for i in range(8):
        head[2 + i] = (<uint64_t>size >> (56 - 8 * i)) & 0xff
    return 10


cdef bytes unmasked(const char *data, Py_ssize_t size, const char *mask):
    """Unmask a payload (RFC 6455, 5.3)."""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    cdef char *to = PyBytes_AS_STRING(made)
    cdef uint64_t wide, word
    cdef Py_ssize_t i = 0
    memcpy(&wide, mask, 4)
    memcpy(<char *>&wide + 4, mask, 4)
    while i + 8 <= size:
        memcpy(&word, data + i, 8)
        word ^= wide
        memcpy(to + i, &word, 8)
        i += 8
    while i < size:
        to[i] = data[i] ^ mask[i & 3]
        i += 1
    return made


cdef bint is_close_code(code) except -1:
    """Whether a close code is valid in a frame (RFC 6455, 7.4)."""
    return 1000 <= code <= 1014 and code not in (1004, 1005, 1006) or 3000 <= code <= 4999
