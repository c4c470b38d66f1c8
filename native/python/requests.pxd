# The interface of requests.pyx.

from core cimport *
from aiofastsocket._native.exchange cimport Exchange
from aiofastsocket._native.framing cimport Framed

cdef enum Stage:  # the next part of a request
    REQUEST_LINE
    FIELDS
    BODY
    CHUNK_SIZE
    CHUNK
    CHUNK_END
    TRAILERS


cdef struct Request:  # values from the current head
    int minor
    int hosts
    bint close
    bint keep_alive
    bint upgrade  # Connection: upgrade
    bint websocket  # Upgrade: websocket
    bint chunked
    bint expects
    bint trailers  # TE: trailers
    bint forwarded
    long long length  # -1: no Content-Length


cdef class Asked(Framed):
    cdef Stage stage
    cdef bytes waiting  # received bytes that are not parsed yet; they begin at `at`
    cdef Py_ssize_t at
    cdef Request request
    cdef str method
    cdef bytes target
    cdef list fields
    cdef Py_ssize_t fields_size
    cdef Py_ssize_t fields_count
    cdef long long left  # bytes that are missing from the body, or from its chunk
    cdef Py_ssize_t discarded
    cdef Exchange running  # its response is in progress
    cdef Exchange incoming  # its body is being received
    cdef Exchange heard  # it is woken when all waiting bytes are parsed
    cdef bint started  # the application of `running`
    cdef int took(self, int what) except -1
    cdef bint step(self) except -1
    cdef int limit(self, const char *line, Py_ssize_t length, bint unfinished) except -1
    cdef take_request_line(self, const char *line, Py_ssize_t length)
    cdef take_field(self, const char *line, Py_ssize_t length)
    cdef heed(self, int kind, const fs_text *value)
    cdef take_head(self)
    cdef take_target(self, Exchange exchange)
    cdef take_authority(self, Exchange exchange, const char **at, size_t *size)
    cdef take_body(self, bytes data, Py_ssize_t size)
    cdef take_chunk_size(self, const char *line, Py_ssize_t length)
    cdef bint take_chunk_end(self, const char *at, Py_ssize_t size) except -1
    cdef body_complete(self)
    cdef bint has_begun(self) noexcept
    cdef is_last(self)
    cdef too_much(self)
