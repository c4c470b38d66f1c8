# cython: language_level=3
"""The bytes of heads (RFC 9112): received names, sent lines (each checked once), the date."""

from email.utils import formatdate
from http import HTTPStatus

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport (
    PyUnicode_1BYTE_KIND, PyUnicode_DATA, PyUnicode_DecodeASCII, PyUnicode_GET_LENGTH,
    PyUnicode_KIND)
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *one, const char *other, size_t size)


# -- input --

cdef enum:
    NAMES = 512  # a power of two
    PROBES = 4
    LONGEST_NAME = 48


cdef struct Name:
    PyObject *name  # bytes, in lower case
    int kind


# Field names: the same few come thousands of times. A new name replaces one that the server does
# not use, so the table does not grow.
cdef Name names[NAMES]
cdef unsigned victim = 0

cdef dict KINDS = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"connection": CONNECTION,
    b"transfer-encoding": ENCODING,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
}


cdef int kind_of(const fs_text *name) noexcept:
    """The kind of a field that is sent."""
    cdef const char *at = name.at
    cdef size_t size = name.length
    if size == 4:
        if same_word(at, size, b"date", 4):
            return DATE
        return HOST if same_word(at, size, b"host", 4) else PLAIN
    if size == 2:
        return TE if same_word(at, size, b"te", 2) else PLAIN
    if size == 6:
        return SERVER if same_word(at, size, b"server", 6) else PLAIN
    if size == 10:
        return CONNECTION if same_word(at, size, b"connection", 10) else PLAIN
    if size == 12:
        return TYPE if same_word(at, size, b"content-type", 12) else PLAIN
    if size == 14:
        return LENGTH if same_word(at, size, b"content-length", 14) else PLAIN
    if size == 17:
        return ENCODING if same_word(at, size, b"transfer-encoding", 17) else PLAIN
    return PLAIN


cdef bytes name_of(const char *name, size_t length, int *kind):
    """A field's name in lower case, and its kind."""
    global victim
    cdef char lower[LONGEST_NAME]
    cdef unsigned value = 2166136261u
    cdef unsigned char c
    cdef Name *entry
    cdef size_t i
    cdef int place = -1
    if length > LONGEST_NAME:
        kind[0] = PLAIN
        return name[:length].lower()
    for i in range(length):
        c = <unsigned char>name[i]
        if c'A' <= c <= c'Z':
            c |= 0x20
        lower[i] = <char>c
        value = (value ^ c) * 16777619u
    for i in range(PROBES):
        entry = &names[(value + i) & (NAMES - 1)]
        if entry.name is NULL:
            place = (value + i) & (NAMES - 1)
            break
        if (PyBytes_GET_SIZE(<object>entry.name) == <Py_ssize_t>length
                and memcmp(PyBytes_AS_STRING(<object>entry.name), lower, length) == 0):
            kind[0] = entry.kind
            return <bytes>entry.name
        if entry.kind == PLAIN and (place < 0 or i == victim):
            place = (value + i) & (NAMES - 1)
    made = PyBytes_FromStringAndSize(lower, length)
    kind[0] = KINDS.get(made, PLAIN)
    if place >= 0:
        victim = (victim + 1) % PROBES
        Py_INCREF(made)
        Py_XDECREF(names[place].name)
        names[place].name = <PyObject *>made
        names[place].kind = kind[0]
    return made


cdef dict METHODS = {
    name.encode(): name
    for name in "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE CONNECT QUERY".split()
}
cdef str GET = METHODS[b"GET"]


cdef str method_of(const char *name, size_t length):
    if length == 3 and memcmp(name, b"GET", 3) == 0:
        return GET
    given = PyBytes_FromStringAndSize(name, length)
    return METHODS.get(given) or given.decode("ascii")


cdef int digit(char c) noexcept:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef bytes unquoted(bytes encoded):
    """A path's bytes. An invalid percent-encoding stays as it is, as in urllib.parse.unquote."""
    cdef const char *path = PyBytes_AS_STRING(encoded)
    cdef size_t length = PyBytes_GET_SIZE(encoded), i = 0, used = 0
    cdef char *decoded
    if memchr(path, c'%', length) is NULL:
        return encoded
    decoded = <char *>malloc(length)
    if decoded is NULL:
        raise MemoryError()
    try:
        while i < length:
            if (path[i] == c'%' and length - i > 2 and digit(path[i + 1]) >= 0
                    and digit(path[i + 2]) >= 0):
                decoded[used] = <char>(digit(path[i + 1]) << 4 | digit(path[i + 2]))
                i += 3
            else:
                decoded[used] = path[i]
                i += 1
            used += 1
        return PyBytes_FromStringAndSize(decoded, used)
    finally:
        free(decoded)


cdef str text_of(bytes path):
    """A path's characters: percent-encoded bytes are UTF-8; invalid bytes become U+FFFD."""
    cdef const char *at = PyBytes_AS_STRING(path)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(path)
    if memchr(at, c'%', size) is NULL:
        return PyUnicode_DecodeASCII(at, size, NULL)
    return unquoted(path).decode("utf-8", "replace")


cdef bint same_word(const char *value, size_t length, const char *word, size_t size) noexcept:
    """Whether the value is this word, in any case."""
    return length == size and strncasecmp(value, word, size) == 0


cdef bint has_word(const char *value, size_t length, const char *word, size_t size) noexcept:
    """Whether the word is in a comma-separated list (RFC 9110, 5.6.1)."""
    cdef size_t start = 0, end, next_start
    while start < length:
        end = start
        while end < length and value[end] != c',':
            end += 1
        next_start = end + 1
        while start < end and value[start] in (c' ', c'\t'):
            start += 1
        while end > start and value[end - 1] in (c' ', c'\t'):
            end -= 1
        if same_word(value + start, end - start, word, size):
            return True
        start = next_start
    return False


# -- output --

cdef void lines_begin(Lines *lines) noexcept:
    lines.at = lines.own
    lines.used = 0
    lines.room = LOCAL


cdef void lines_free(Lines *lines) noexcept:
    if lines.at is not lines.own:
        free(lines.at)


cdef int lines_grow(Lines *lines, size_t size) except -1:
    cdef size_t room = max(lines.room * 2, lines.used + size)
    cdef char *grown = <char *>(
        malloc(room) if lines.at is lines.own else realloc(lines.at, room))
    if grown is NULL:
        raise MemoryError()
    if lines.at is lines.own:
        memcpy(grown, lines.own, lines.used)
    lines.at = grown
    lines.room = room
    return 0


cdef int lines_add(Lines *lines, const char *data, size_t size) except -1:
    if lines.room - lines.used < size:
        lines_grow(lines, size)
    memcpy(lines.at + lines.used, data, size)
    lines.used += size
    return 0


cdef int lines_field(Lines *lines, const fs_text *name, const fs_text *value) except -1:
    """Add a header field's line.

    Raises RuntimeError if the field is invalid, so that a value from a client cannot split a
    response (RFC 9112, 11.1).
    """
    cdef char *at
    if not fs_http_is_token(name.at, name.length):
        raise RuntimeError(f"{shown(name)!r} is not a valid header name")
    if fs_http_value_end(value.at, value.length) != value.length:
        raise RuntimeError(f"header {shown(name)} has control characters: {shown(value)!r}")
    if lines.room - lines.used < name.length + value.length + 4:
        lines_grow(lines, name.length + value.length + 4)
    at = lines.at + lines.used
    memcpy(at, name.at, name.length)
    memcpy(at + name.length, b": ", 2)
    memcpy(at + name.length + 2, value.at, value.length)
    memcpy(at + name.length + 2 + value.length, b"\r\n", 2)
    lines.used += name.length + value.length + 4
    return 0


cdef str shown(const fs_text *text):
    return text.at[:text.length].decode("latin-1")


cdef int as_text(object given, fs_text *out) except -1:
    """View bytes, or a WSGI str, whose characters are Latin-1, as text. Raises TypeError for other
    types, and RuntimeError for other characters."""
    if isinstance(given, bytes):
        out.at, out.length = PyBytes_AS_STRING(given), PyBytes_GET_SIZE(given)
    elif isinstance(given, str):
        if PyUnicode_KIND(given) != PyUnicode_1BYTE_KIND:
            raise RuntimeError(f"header {given!r} has characters that are not Latin-1")
        out.at, out.length = <const char *>PyUnicode_DATA(given), PyUnicode_GET_LENGTH(given)
    else:
        raise TypeError(f"header {given!r}: name and value must be bytes, or str in WSGI")
    return 0


cdef int add_field(Lines *lines, object name, object value) except -1:
    """Add the line of a header field whose name and value are objects."""
    cdef fs_text first, second
    as_text(name, &first)
    as_text(value, &second)
    return lines_field(lines, &first, &second)


cdef bytes lines_take(Lines *lines):
    return PyBytes_FromStringAndSize(lines.at, lines.used)


def field(name, value):
    """A header field's line, as bytes. Raises RuntimeError or TypeError if it is invalid."""
    cdef Lines lines
    lines_begin(&lines)
    try:
        add_field(&lines, name, value)
        return lines_take(&lines)
    finally:
        lines_free(&lines)


def _status_line(code):
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {code} {phrase}\r\n".encode()


cdef list STATUS_LINES = [_status_line(code) for code in range(600)]


cdef bytes status_line(int status):
    """The status line of a status from 100 to 599."""
    return <bytes>STATUS_LINES[status]


def plain(int code, bytes lines, str text=""):
    """A whole response of the server's own, after which the connection ends. lines: further lines
    of its head."""
    body = (text or HTTPStatus(code).phrase).encode() + b"\n"
    return b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status_line(code), lines, len(body), b"connection: close\r\n", body)


@cython.final
cdef class Clock:
    """The `date` field, renewed once a second, and the lines that follow it in each response."""

    def __init__(self, *, bint dated, bytes rest):
        self.dated = dated
        self.rest = rest
        self.date_line = b""
        self.all_lines = rest

    def refusal(self, int code, str text):
        """See plain."""
        return plain(code, self.lines(), text)

    cdef bytes lines(self):
        """The `date` line and the lines that follow it."""
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second and self.dated:
            self.tick(now.tv_sec)
        return self.all_lines

    cdef bytes date(self):
        """The `date` line, or empty bytes."""
        self.lines()
        return self.date_line

    cdef tick(self, long long second):
        self.second = second
        self.date_line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        self.all_lines = self.date_line + self.rest
