# cython: language_level=3
"""The receiving half of an HTTP/1.1 connection: it turns bytes into exchanges (RFC 9112).

It takes a head line by line (fastsocket/http1.h), and a body part by part. STAGES defines the valid
order of these events. http1.pyx decides whether the connection continues.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from libc.string cimport memchr, memset

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.framing cimport Framed
from aiofastsocket._native.handshake cimport Handshake
from aiofastsocket._native.pump cimport now_ns
from aiofastsocket._native.wire cimport *
from aiofastsocket._native.wsgi cimport Caller

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *one, const char *other, size_t size)

cdef Py_ssize_t MOST_DISCARDED = 1 << 20
"""Bytes of an unread body that are discarded before the connection is ended."""

cdef Py_ssize_t SLACK = 64
"""Bytes of a line in addition to its limited part: for method and version, or white space."""

cdef Py_ssize_t MOST_CHUNK_LINE = 4096

cdef dict WRONG = {
    FS_HTTP_METHOD: "the request line does not begin with a valid method",
    FS_HTTP_TARGET: "the request target is missing or has invalid bytes",
    FS_HTTP_VERSION: "the request line does not end with an HTTP version",
    FS_HTTP_NAME: "a header field name is missing or has invalid bytes",
    FS_HTTP_FOLD: "a header field continues on a second line",
    FS_HTTP_VALUE: "a header field value has control characters",
    FS_HTTP_LINE: "a line does not end with CRLF",
}


cdef enum:  # events: a part of a request was taken, or the head announced the body
    A_LINE
    NO_BODY
    A_LENGTH
    CHUNKS
    A_SIZE
    NO_SIZE  # the size 0 of the last chunk
    ALL

# The rows are in the order of the enum Stage. -1: the event is impossible in that stage.
cdef signed char[7][7] STAGES = [
    # columns: a line, no body, a length, chunks, a size, the last chunk's size, all
    [FIELDS, -1, -1, -1, -1, -1, -1],
    [FIELDS, REQUEST_LINE, BODY, CHUNK_SIZE, -1, -1, -1],
    [-1, -1, -1, -1, -1, -1, REQUEST_LINE],
    [-1, -1, -1, -1, CHUNK, TRAILERS, -1],
    [-1, -1, -1, -1, -1, -1, CHUNK_END],
    [CHUNK_SIZE, -1, -1, -1, -1, -1, -1],
    [TRAILERS, -1, -1, -1, -1, -1, REQUEST_LINE],
]


class Refused(Exception):
    """The request is refused: the client gets `status`, and no further request is read."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


cdef object refused(int status, str text):
    raise Refused(status, text)


cdef class Asked(Framed):
    """The requests of a connection. Bytes that are not a valid request raise Refused."""

    cdef bint step(self) except -1:
        """Take one line, or one part of a body. False: there is none, or it must wait."""
        cdef bytes data = self.waiting
        cdef const char *at
        cdef Py_ssize_t size, length
        cdef bool clean = False
        if data is None:
            return False
        at = PyBytes_AS_STRING(data) + self.at
        size = PyBytes_GET_SIZE(data) - self.at
        if self.stage == REQUEST_LINE and size > 0:
            if self.running is not None or self.room is not None:
                return False
            while size >= 2 and at[0] == c"\r" and at[1] == c"\n":  # RFC 9112, 2.2
                at += 2
                size -= 2
                self.at += 2
        if size == 0:
            self.waiting = None
            return False
        if self.stage == BODY or self.stage == CHUNK:
            self.take_body(data, min(<long long>size, self.left))
            return True
        if self.stage == CHUNK_END:
            return self.take_chunk_end(at, size)
        length = fs_http_line(at, size, &clean)
        self.limit(at, size if length < 0 else length, length < 0)
        if length < 0:
            return False
        if not clean:
            refused(400, WRONG[FS_HTTP_LINE])
        self.at += length + 2
        if self.stage == REQUEST_LINE:
            self.take_request_line(at, length)
        elif self.stage == CHUNK_SIZE:
            self.take_chunk_size(at, length)
        elif length > 0:
            self.took(A_LINE)
            self.take_field(at, length)
        elif self.stage == FIELDS:
            self.take_head()
        else:
            self.body_complete()
        return True

    cdef int limit(self, const char *line, Py_ssize_t length, bint unfinished) except -1:
        """Refuse a line, complete or not, that is too long or cannot begin a request."""
        if unfinished and line[length - 1] == c"\r":
            length -= 1
        if self.stage == REQUEST_LINE:
            if length == 0:
                return 0
            if not fs_http_may_begin(line, length):
                refused(400, WRONG[FS_HTTP_METHOD])
            if length > self.service.most_line + SLACK:
                refused(414, "the request's target is too long")
        elif self.stage == CHUNK_SIZE:
            if length > MOST_CHUNK_LINE:
                refused(431, "a chunk's extensions are too long")
        elif self.fields_size + length > self.service.most_head + SLACK:
            refused(431, "the request's head is too long")
        return 0

    cdef take_request_line(self, const char *line, Py_ssize_t length):
        cdef fs_request_line found
        cdef int wrong = fs_http_request_line(line, length, &found)
        if wrong == FS_HTTP_MAJOR:
            refused(505, "this server supports HTTP/1.0 and 1.1")
        if wrong:
            refused(400, WRONG[wrong])
        if <Py_ssize_t>found.target.length > self.service.most_line:
            refused(414, "the request's target is too long")
        self.method = method_of(found.method.at, found.method.length)
        self.target = PyBytes_FromStringAndSize(found.target.at, found.target.length)
        memset(&self.request, 0, sizeof(Request))
        self.request.minor = found.minor
        self.request.length = -1
        self.fields = []
        self.fields_size = self.fields_count = 0
        self.took(A_LINE)

    cdef take_field(self, const char *line, Py_ssize_t length):
        cdef fs_field found
        cdef int kind = PLAIN
        cdef int wrong
        self.fields_count += 1
        if self.fields_count > self.service.most_fields:
            refused(431, "the request has too many header fields")
        wrong = fs_http_field(line, length, &found)
        if wrong:
            refused(400, WRONG[wrong])
        self.fields_size += found.name.length + found.value.length
        if self.fields_size > self.service.most_head:
            refused(431, "the request's head is too long")
        name = name_of(found.name.at, found.name.length, &kind)
        if self.stage == TRAILERS:  # they are dropped, but see RFC 9110, 6.5.1
            if kind == LENGTH or kind == ENCODING:
                refused(400, "Content-Length and Transfer-Encoding are not allowed in trailers")
            return
        if kind != PLAIN:
            self.heed(kind, &found.value)
        value = PyBytes_FromStringAndSize(found.value.at, found.value.length)
        if self.service.wsgi is not None:  # names and values alternate: see Call
            self.fields.append(name)
            self.fields.append(value)
        else:
            self.fields.append((name, value))

    cdef heed(self, int kind, const fs_text *value):
        """Handle a field that the server itself uses."""
        cdef Request *request = &self.request
        cdef const char *at = value.at
        cdef size_t size = value.length
        if kind == HOST:
            request.hosts += 1
            if not fs_http_is_host(value[0]):
                refused(400, "the Host header field is invalid")
        elif kind == LENGTH:
            if request.length >= 0:
                refused(400, "the request has two Content-Length fields")
            request.length = fs_http_length(value[0])
            if request.length < 0:
                refused(400, "the request's Content-Length is not a number")
        elif kind == ENCODING:
            if request.chunked:
                refused(400, "the request has two Transfer-Encoding fields")
            if not same_word(at, size, b"chunked", 7):
                if has_word(at, size, b"chunked", 7) and not same_word(
                        at + size - 7, 7, b"chunked", 7):
                    refused(400, "Transfer-Encoding: chunked must be last")
                refused(501, "Transfer-Encoding: only chunked is supported")
            request.chunked = True
        elif kind == CONNECTION:
            request.close |= has_word(at, size, b"close", 5)
            request.keep_alive |= has_word(at, size, b"keep-alive", 10)
            request.upgrade |= has_word(at, size, b"upgrade", 7)
        elif kind == UPGRADE:
            request.websocket = same_word(at, size, b"websocket", 9)
        elif kind == EXPECT:
            request.expects = same_word(at, size, b"100-continue", 12)
        elif kind == TE:
            request.trailers |= has_word(at, size, b"trailers", 8)
        elif kind == FORWARDED:
            request.forwarded = True

    cdef take_head(self):
        """Make the exchange: the head is complete."""
        cdef Request *request = &self.request
        cdef Exchange exchange
        cdef bint has_body = request.chunked or request.length > 0
        if request.chunked and request.minor == 0:
            # RFC 9112, 6.1: this framing must not be trusted
            refused(400, "Transfer-Encoding is not allowed in an HTTP/1.0 request")
        if request.chunked and request.length >= 0:
            refused(400, "the request has both a Content-Length and a Transfer-Encoding")
        if self.method == "CONNECT":
            refused(501, "CONNECT is not supported")
        # RFC 6455, 4.2.1. An invalid upgrade is served as a plain HTTP request.
        if (request.websocket and request.upgrade and request.minor > 0 and not has_body
                and self.method == "GET" and self.service.websockets):
            exchange = Handshake.__new__(Handshake)
        elif self.service.wsgi is not None:
            exchange = (<Caller>self.service.wsgi).call()
        else:
            exchange = Exchange.__new__(Exchange)
        exchange.fields = self.fields
        self.take_target(exchange)
        if request.hosts > 1 or (request.minor > 0 and request.hosts == 0):
            refused(400, "a request must have exactly one Host header field")
        exchange.wire = self
        exchange.service = self.service
        exchange.loop = self.loop
        exchange.method = self.method
        exchange.is_head = self.method == "HEAD"
        exchange.version = "1.1" if request.minor > 0 else "1.0"
        exchange.address = self.client
        exchange.waited = -1
        if self.fast is not None:
            exchange.waited, self.fast.waited = self.fast.waited, -1
        if self.service.timed:
            exchange.began = now_ns()
        exchange.scheme = self.scheme
        if request.forwarded and self.service.proxies is not None:
            exchange.address, exchange.scheme = self.service.proxies.heed(
                exchange.pairs(), self.client, self.scheme)
        exchange.offers_trailers = request.trailers and request.minor > 0
        exchange.keep_alive = not request.close and (request.minor > 0 or request.keep_alive)
        exchange.input = IN_COMES if has_body else IN_HERE
        exchange.is_chunked = request.chunked
        exchange.expects = request.expects and has_body and request.minor > 0
        exchange.prepare()
        self.fields = None
        self.running = exchange
        self.started = False
        if has_body:
            self.incoming = exchange
            self.discarded = 0
            self.left = request.length
            self.took(CHUNKS if request.chunked else A_LENGTH)
            # A client that waits for 100 Continue sends nothing until then: see wants_body.
            self.wait_until(None if exchange.expects else self.service.bodies)
        else:
            self.took(NO_BODY)
            if not exchange.keep_alive:
                self.is_last()
            if self.due is not None:
                self.wait_until(None)

    cdef take_target(self, Exchange exchange):
        """Set path and query from the request target (RFC 9112, 3.2): "/path?query",
        "http://authority/path?query", or "*" for OPTIONS."""
        cdef const char *at = PyBytes_AS_STRING(self.target)
        cdef size_t size = PyBytes_GET_SIZE(self.target), path
        cdef const char *found
        if at[0] == c"*":
            if size != 1 or self.method != "OPTIONS":
                refused(400, "the target * is only valid for OPTIONS")
        elif at[0] != c"/":
            self.take_authority(exchange, &at, &size)
        found = <const char *>memchr(at, c"#", size)
        if found is not NULL:
            size = found - at
        found = <const char *>memchr(at, c"?", size)
        path = size if found is NULL else found - at
        exchange.query = b"" if path == size else at[path + 1:size]
        if path == <size_t>PyBytes_GET_SIZE(self.target):
            exchange.path = self.target
        else:
            exchange.path = at[:path] if path > 0 else b"/"

    cdef take_authority(self, Exchange exchange, const char **at, size_t *size):
        """Take the host of http://authority/path (RFC 9112, 3.2.2). It overrides the Host field."""
        cdef const char *target = at[0]
        cdef size_t length = size[0], scheme = 0, end
        cdef fs_text authority
        if length > 7 and strncasecmp(target, b"http://", 7) == 0:
            scheme = 7
        elif length > 8 and strncasecmp(target, b"https://", 8) == 0:
            scheme = 8
        if scheme == 0:
            refused(400, "the request target is neither a path nor an http or https URL")
        end = scheme
        while end < length and target[end] not in (c"/", c"?", c"#"):
            end += 1
        authority.at = target + scheme
        authority.length = end - scheme
        if not fs_http_is_host(authority):
            refused(400, "the request target has no valid host")
        at[0] = target + end
        size[0] = length - end
        exchange.names_host(authority.at[:authority.length])

    # -- bodies --

    cdef take_body(self, bytes data, Py_ssize_t size):
        cdef Exchange exchange = self.incoming
        cdef bytes part
        if self.at == 0 and size == PyBytes_GET_SIZE(data):
            part = data
        else:
            part = data[self.at:self.at + size]
        self.at += size
        self.left -= size
        exchange.expects = False
        if exchange.out == OUT_DONE:  # no application reads it
            self.discarded += size
            if self.discarded > MOST_DISCARDED:
                self.too_much()
                return
        else:
            exchange.part(part)
            self.heard = exchange
        self.wait_until(self.service.bodies)
        if self.left > 0:
            return
        if self.stage == CHUNK:
            self.took(ALL)
        else:
            self.body_complete()

    cdef take_chunk_size(self, const char *line, Py_ssize_t length):
        self.left = fs_http_chunk(line, length)
        if self.left < 0:
            refused(400, "a chunk's size or extensions are invalid")
        self.incoming.expects = False
        if self.left > 0:
            self.took(A_SIZE)
        else:
            self.took(NO_SIZE)
            self.fields_size = self.fields_count = 0

    cdef bint take_chunk_end(self, const char *at, Py_ssize_t size) except -1:
        if at[0] != c"\r" or (size > 1 and at[1] != c"\n"):
            refused(400, "a chunk is longer than its size")
        if size < 2:
            return False
        self.at += 2
        self.took(A_LINE)
        return True

    cdef body_complete(self):
        exchange, self.incoming = self.incoming, None
        (<Exchange>exchange).all_came()
        self.heard = exchange
        self.took(ALL)
        if not (<Exchange>exchange).keep_alive:
            self.is_last()
        self.wait_until(None)

    cdef bint has_begun(self) noexcept:
        """Whether a part of a head was received."""
        return self.stage == FIELDS or (self.stage == REQUEST_LINE and self.waiting is not None)

    cdef int took(self, int what) except -1:
        """Move to the stage that follows this event."""
        assert STAGES[<int>self.stage][what] >= 0, (self.stage, what)
        self.stage = <Stage>STAGES[<int>self.stage][what]
        return 0

    # -- defined by the connection --

    cdef is_last(self):
        """Ignore everything that follows this request."""

    cdef too_much(self):
        """End the connection: the unread body is too long to be discarded."""
