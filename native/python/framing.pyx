# cython: language_level=3
"""The framing of responses in HTTP/1.1 (RFC 9112, 6): the head, and the body by a length, in
chunks, or up to the end of the connection."""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.link cimport LARGE

cdef bytes CLOSE = b"connection: close\r\n"
cdef bytes KEEP_ALIVE = b"connection: keep-alive\r\n"
cdef bytes CHUNKED = b"transfer-encoding: chunked\r\n"


cdef class Framed(Wire):
    """The sending half of a connection: one response at a time."""

    cdef respond(self, Exchange exchange, headers):
        cdef Service service = self.service
        cdef bint has_date = False, has_server = False
        cdef long long left = -1
        cdef Lines lines
        cdef fs_text first, second
        cdef size_t before
        cdef int kind
        lines_begin(&lines)
        try:
            line = status_line(exchange.status)
            lines_add(&lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            for name, value in headers:
                before = lines.used
                as_text(name, &first)
                as_text(value, &second)
                lines_field(&lines, &first, &second)
                kind = kind_of(&first)
                if kind == PLAIN:
                    continue
                if kind == LENGTH:
                    if exchange.status == 204:  # RFC 9110, 8.6
                        lines.used = before
                        continue
                    if left >= 0:
                        raise RuntimeError("content-length was given twice")
                    left = length_of(&second)
                elif kind == CONNECTION:  # the server alone decides about other words
                    lines.used = before
                    if has_word(second.at, second.length, b"close", 5):
                        exchange.keep_alive = False
                elif kind == ENCODING:  # ignored, as the specification requires
                    lines.used = before
                elif kind == DATE:
                    has_date = True
                elif kind == SERVER:
                    has_server = True
                elif kind == TYPE and second.length >= 17 and same_word(
                        second.at, 17, b"text/event-stream", 17):
                    exchange.has_events = True
            if not has_date and not has_server:
                line = service.clock.lines()
                lines_add(&lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            else:
                line = b"" if has_date else service.clock.date()
                line += (b"" if has_server else service.server_line) + service.fields_lines
                lines_add(&lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            self.head = lines_take(&lines)
            if service.keeps_heads:
                exchange.head = self.head
        finally:
            lines_free(&lines)
        exchange.left = left
        self.is_chunked = False
        if exchange.has_events and service.draining:
            service.loop.call_soon(service.tell_events, exchange)

    cdef int finish_head(self, Exchange exchange, Lines *lines, long long length,
                         bint more) except -1:
        """Add the head and the body's fields. length: of its first part; more: others follow."""
        cdef char number[64]
        cdef bint bodiless = exchange.status in (204, 304)
        if self.head is None:
            raise RuntimeError("the body was sent before the head was complete")
        lines_add(lines, PyBytes_AS_STRING(self.head), PyBytes_GET_SIZE(self.head))
        self.head = None
        if exchange.left >= 0:
            pass
        elif exchange.is_head and not more and length == 0:
            pass  # the length for GET is unknown
        elif not more and not bodiless and not exchange.has_trailers:
            exchange.left = length
            lines_add(lines, number, snprintf(
                number, sizeof(number), b"content-length: %lld\r\n", length))
        elif not exchange.silent:
            if exchange.version == "1.1":
                self.is_chunked = True
                lines_add(lines, CHUNKED, 28)
            else:
                exchange.keep_alive = False
        # If the client still waits for 100 Continue, it may send its body now or not.
        if exchange.expects or self.service.draining:
            exchange.keep_alive = False
        if self.service.hsts_line is not None and self.scheme == "https":
            line = self.service.hsts_line
            lines_add(lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
        if not exchange.keep_alive:
            lines_add(lines, CLOSE, 19)
        elif exchange.version == "1.0":
            lines_add(lines, KEEP_ALIVE, 24)
        lines_add(lines, b"\r\n", 2)
        return 0

    cdef send_head(self, Exchange exchange, long long length):
        cdef Lines lines
        lines_begin(&lines)
        try:
            self.finish_head(exchange, &lines, length, False)
            self.write(lines_take(&lines))
        finally:
            lines_free(&lines)

    cdef send_part(self, Exchange exchange, bytes data, bint more):
        cdef Lines lines
        cdef char number[32]
        cdef const char *tail = b""
        cdef size_t size = PyBytes_GET_SIZE(data), rest = 0
        lines_begin(&lines)
        try:
            if exchange.out == OUT_HEAD:
                self.finish_head(exchange, &lines, size, more)
            if exchange.silent:
                size = 0
            elif self.is_chunked:
                if size > 0:
                    lines_add(&lines, number, snprintf(number, sizeof(number), b"%zx\r\n", size))
                if more or exchange.has_trailers:
                    tail, rest = b"\r\n", 2 if size > 0 else 0
                else:
                    tail, rest = b"\r\n0\r\n\r\n", 7
                    if size == 0:
                        tail, rest = b"0\r\n\r\n", 5
            if size < LARGE:
                if lines.used + size + rest > 0:
                    self.write(joined(&lines, data, size, tail, rest))
                return
            if lines.used > 0:
                self.write(lines_take(&lines))
            self.write(data)
            if rest > 0:
                self.write(tail[:rest])
        finally:
            lines_free(&lines)

    cdef send_trailers(self, Exchange exchange, headers):
        cdef Lines lines
        cdef fs_text first
        lines_begin(&lines)
        try:
            lines_add(&lines, b"0\r\n", 3)
            for name, value in headers:
                as_text(name, &first)
                if kind_of(&first) in (LENGTH, ENCODING, HOST, CONNECTION, TE, TYPE):
                    raise RuntimeError(f"{name!r} cannot be a trailer (RFC 9110, 6.5.1)")
                add_field(&lines, name, value)
            lines_add(&lines, b"\r\n", 2)
            self.write(lines_take(&lines))
        finally:
            lines_free(&lines)

    cdef send_hint(self, Exchange exchange, headers):
        cdef Lines lines
        if exchange.version != "1.1":  # RFC 8297, 2
            return
        lines_begin(&lines)
        try:
            lines_add(&lines, b"HTTP/1.1 103 Early Hints\r\n", 26)
            for name, value in headers:
                add_field(&lines, name, value)
            lines_add(&lines, b"\r\n", 2)
            self.write(lines_take(&lines))
        finally:
            lines_free(&lines)


cdef object joined(Lines *lines, bytes data, size_t size, const char *tail, size_t rest):
    """Join the lines, the data and the tail into one bytes object."""
    cdef bytes whole
    cdef char *at
    if lines.used + rest == 0:
        return data
    whole = PyBytes_FromStringAndSize(NULL, lines.used + size + rest)
    at = PyBytes_AS_STRING(whole)
    memcpy(at, lines.at, lines.used)
    memcpy(at + lines.used, PyBytes_AS_STRING(data), size)
    memcpy(at + lines.used + size, tail, rest)
    return whole


cdef long long length_of(const fs_text *value) except -1:
    cdef long long length = fs_http_length(value[0])
    if length < 0:
        raise RuntimeError(f"content-length {value.at[:value.length]!r} is not a number")
    return length
