# cython: language_level=3
"""Lines of the access log: one for each response, in the Common Log Format that log tools know."""

import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH
from libc.stdio cimport snprintf
from libc.string cimport memchr
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from aiofastsocket._native.wire cimport *

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef size_t MOST_KEPT = 1 << 20
"""Bytes of memory that are kept for the next turn's lines."""


cdef class Access:
    """Lines that are not written yet. flush: called in the loop's next turn; it takes them."""

    def __cinit__(self):
        lines_begin(&self.lines)

    def __dealloc__(self):
        lines_free(&self.lines)

    def __init__(self, loop, flush):
        self.loop = loop
        self.flush = flush
        self.stamp = b""

    def take(self):
        """Take all waiting lines, as bytes."""
        lines = lines_take(&self.lines)
        self.lines.used = 0
        if self.lines.room > MOST_KEPT:
            lines_free(&self.lines)
            lines_begin(&self.lines)
        return lines

    cdef note(self, Exchange exchange):
        """Add the line of a response."""
        self.begin(exchange.address)
        self.add(exchange.method)
        lines_add(&self.lines, b" ", 1)
        self.add_target(exchange.service.mount)
        self.add_target(exchange.path)
        if PyBytes_GET_SIZE(exchange.query) > 0:
            lines_add(&self.lines, b"?", 1)
            self.add_target(exchange.query)
        lines_add(&self.lines, b" HTTP/", 6)
        self.add(exchange.version)
        self.end(exchange.status, exchange.sent)

    cpdef refused(self, client, int status):
        """Add the line of an invalid request."""
        self.begin(client)
        lines_add(&self.lines, b"-", 1)
        self.end(status, 0)

    cdef begin(self, client):
        cdef timespec now
        if self.lines.used == 0:
            self.loop.call_soon(self.flush)
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second = now.tv_sec
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(now.tv_sec))
            self.stamp = f' - - [{stamp}] "'.encode()
        self.add(client[0] if client is not None else "-")
        lines_add(&self.lines, PyBytes_AS_STRING(self.stamp), PyBytes_GET_SIZE(self.stamp))

    cdef end(self, int status, long long sent):
        cdef char end[48]
        lines_add(&self.lines, end, snprintf(end, sizeof(end), b"\" %d %lld\n", status, sent))

    cdef add(self, str text):
        cdef bytes encoded
        if PyUnicode_IS_COMPACT_ASCII(text):
            lines_add(&self.lines, <const char *>PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
        else:
            encoded = text.encode(errors="backslashreplace")
            lines_add(&self.lines, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))

    cdef add_target(self, bytes part):
        """Add a part of a target. A target is visible ASCII (fs_http_request_line), so only a quote
        could end the quoted text. (The mount is an exception: the user sets it.)"""
        if memchr(PyBytes_AS_STRING(part), c'"', PyBytes_GET_SIZE(part)) is not NULL:
            part = part.replace(b'"', b"%22")
        lines_add(&self.lines, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
