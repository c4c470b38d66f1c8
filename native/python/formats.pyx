# cython: language_level=3
"""Lines of the access log in a configured format: gunicorn's atoms, or JSON.

Values that a client chooses are escaped: they cannot end a line, quotes or a JSON string.
"""

import base64
import binascii
import os
import re
import time
from json import dumps

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.pump cimport now_ns
from aiofastsocket._native.wire cimport *

cdef enum Atom:
    LITERAL
    CLIENT
    NOTHING
    USER
    WHEN
    REQUEST
    METHOD
    PATH
    QUERY
    PROTOCOL
    STATUS
    BYTES
    BYTES_OR_DASH
    REFERER
    AGENT
    SECONDS
    MILLISECONDS
    MICROSECONDS
    DECIMAL
    PROCESS
    QUEUE
    FIELD  # of the request
    HEADER  # of the response

cdef dict ATOMS = {
    "h": CLIENT, "l": NOTHING, "u": USER, "t": WHEN, "r": REQUEST, "m": METHOD, "U": PATH,
    "q": QUERY, "H": PROTOCOL, "s": STATUS, "B": BYTES, "b": BYTES_OR_DASH, "f": REFERER,
    "a": AGENT, "T": SECONDS, "M": MILLISECONDS, "D": MICROSECONDS, "L": DECIMAL, "p": PROCESS,
    "queue": QUEUE,
}
cdef set TIMES = {SECONDS, MILLISECONDS, MICROSECONDS, DECIMAL}
WRITTEN = re.compile(r"%(?:%|\((?:\{([^{}]+)\}([a-zA-Z])|([a-zA-Z]+))\)s)")


def parsed(str form):
    """The parts of a format, each (atom, name or text). Raises ValueError if it is invalid."""
    parts, at = [], 0
    for found in WRITTEN.finditer(form):
        _plain(parts, form[at:found.start()])
        at = found.end()
        name, kind, atom = found.groups()
        if found[0] == "%%":
            parts.append((LITERAL, b"%"))
        elif name is not None and kind in ("i", "o"):
            parts.append((FIELD if kind == "i" else HEADER, name.lower().encode()))
        elif name is None and atom in ATOMS:
            parts.append((ATOMS[atom], b""))
        else:
            raise ValueError(f"{found[0]} is not known; use {', '.join(ATOMS)}, {{name}}i and "
                             "{name}o, each as %(...)s")
    _plain(parts, form[at:])
    return parts


def _plain(parts, str text):
    if "%" in text:
        raise ValueError(f"% in {text!r} does not begin a known atom; write %(...)s, or %% for %")
    if "\n" in text or "\r" in text:
        raise ValueError("a log format must not contain line breaks")
    if text:
        parts.append((LITERAL, text.encode()))


@cython.final
cdef class Formatted(Access):
    """An access log in a format. form: as `parsed` reads it, or "json"."""

    def __init__(self, loop, flush, str form):
        Access.__init__(self, loop, flush)
        self.is_json = form == "json"
        self.parts = [] if self.is_json else parsed(form)
        self.pid = os.getpid()
        self.process = b"<%d>" % self.pid
        atoms = {atom for atom, _ in self.parts}
        self.times = self.is_json or not TIMES.isdisjoint(atoms)
        self.keeps_heads = HEADER in atoms

    cdef note(self, Exchange exchange):
        self.write(exchange, exchange.address, exchange.status)

    cpdef refused(self, client, int status):
        self.write(None, client, status)

    cdef write(self, Exchange exchange, object client, int status):
        cdef bytes line
        if self.lines.used == 0:
            self.loop.call_soon(self.flush)
        if self.is_json:
            line = self.json(exchange, client, status)
        else:
            line = b"".join([
                self.value(atom, name, exchange, client, status) for atom, name in self.parts])
        lines_add(&self.lines, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
        lines_add(&self.lines, b"\n", 1)

    cdef bytes value(self, int atom, bytes name, Exchange exchange, object client, int status):
        if atom == LITERAL:
            return name
        if atom == CLIENT:
            return b"-" if client is None else client[0].encode(errors="backslashreplace")
        if atom == STATUS:
            return b"%d" % status
        if atom == WHEN:
            return self.when()
        if atom == PROCESS:
            return self.process
        if exchange is None or atom == NOTHING:
            return b"-"
        return self.asked(atom, name, exchange)

    cdef bytes asked(self, int atom, bytes name, Exchange exchange):
        """The value of an atom that describes the exchange."""
        cdef long long ns
        if atom == REQUEST:
            return b"%b %b HTTP/%b" % (
                exchange.method.encode(), target_of(exchange), exchange.version.encode())
        if atom == METHOD:
            return exchange.method.encode()
        if atom == PATH:
            return quoted(exchange.raw_path)
        if atom == QUERY:
            return quoted(exchange.query)
        if atom == PROTOCOL:
            return b"HTTP/" + exchange.version.encode()
        if atom == BYTES or atom == BYTES_OR_DASH:
            return b"-" if atom == BYTES_OR_DASH and exchange.sent == 0 else b"%d" % exchange.sent
        if atom == QUEUE:
            return b"-" if exchange.waited < 0 else decimal(exchange.waited)
        if atom in TIMES:
            ns = now_ns() - exchange.began
            if atom == DECIMAL:
                return decimal(ns)
            return b"%d" % (ns // UNITS[atom])
        if atom == HEADER:
            return quoted(field_of_head(exchange.head, name))
        fields = exchange.pairs()
        if atom == USER:
            return quoted(user_of(field_of(fields, b"authorization")))
        if atom == REFERER:
            name = b"referer"
        elif atom == AGENT:
            name = b"user-agent"
        return quoted(field_of(fields, name))

    cdef bytes when(self):
        """The time stamp of the Common Log Format, renewed once a second."""
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second = now.tv_sec
            stamp = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(now.tv_sec))
            self.stamp = stamp.encode()
        return self.stamp

    cdef bytes json(self, Exchange exchange, object client, int status):
        """One object, written part by part: a dict and dumps() cost twice as much."""
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second = now.tv_sec
            self.stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now.tv_sec)).encode()
        head = b'{"time": "%b.%03dZ", "client": %b, "status": %d, "pid": %d, ' % (
            self.stamp, now.tv_nsec // 1_000_000, json_of(None if client is None else client[0]),
            status, self.pid)
        if exchange is None:
            return head + NO_REQUEST
        fields = exchange.pairs()
        return head + (
            b'"method": %b, "path": %b, "query": %b, "protocol": "HTTP/%b", "scheme": "%b", '
            b'"host": %b, "bytes": %d, "seconds": %b, "queue_seconds": %b, "referer": %b, '
            b'"user_agent": %b}'
        ) % (
            json_of(exchange.method), json_of_bytes(exchange.raw_path),
            json_of_bytes(exchange.query), exchange.version.encode(), exchange.scheme.encode(),
            json_of_bytes(field_of(fields, b"host")), exchange.sent,
            decimal(now_ns() - exchange.began),
            b"null" if exchange.waited < 0 else decimal(exchange.waited),
            json_of_bytes(field_of(fields, b"referer")),
            json_of_bytes(field_of(fields, b"user-agent")))


cdef bytes NO_REQUEST = b", ".join([b'"%b": null' % name for name in (
    b"method path query protocol scheme host bytes seconds queue_seconds referer user_agent"
).split()]) + b"}"


cdef bytes json_of(str value):
    """A text as JSON, in ASCII; None is null."""
    if value is None or value.isascii():
        return json_of_bytes(None if value is None else value.encode())
    return dumps(value).encode()


cdef bytes json_of_bytes(bytes value):
    """Bytes as JSON: a text of these code points (Latin-1); None is null."""
    if value is None:
        return b"null"
    if is_plain(value):
        return b'"%b"' % value
    return dumps(value.decode("latin-1")).encode()


cdef bint is_plain(bytes value) noexcept:
    """Whether it needs no escapes, between quotes."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(value)):
        if at[i] < 32 or at[i] > 126 or at[i] == c'"' or at[i] == c"\\":
            return False
    return True


cdef dict UNITS = {SECONDS: 1_000_000_000, MILLISECONDS: 1_000_000, MICROSECONDS: 1_000}


cdef bytes decimal(long long ns):
    return b"%d.%06d" % (ns // 1_000_000_000, ns % 1_000_000_000 // 1_000)


cdef bytes target_of(Exchange exchange):
    whole = exchange.raw_path + b"?" + exchange.query if exchange.query else exchange.raw_path
    return quoted(whole)


cdef object field_of(list fields, bytes name):
    """The value of the first field of that name, or None."""
    for known, value in fields:
        if known == name:
            return value
    return None


cdef object field_of_head(bytes head, bytes name):
    """The value of the first such field in a response's head, as it was sent; or None."""
    for line in (head or b"").split(b"\r\n"):
        known, colon, value = line.partition(b": ")
        if colon and known.lower() == name:
            return value
    return None


cdef object user_of(authorization):
    """The user of Basic authentication (RFC 7617), or None."""
    kind, _, secret = (authorization or b"").partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        user, colon, _ = base64.b64decode(secret.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user if colon else None


cdef bytes quoted(value):
    """Escape a value so that it ends neither quotes nor a line; "-" if it is missing or empty."""
    if not value:
        return b"-"
    return value if is_plain(value) else UNSAFE.sub(escaped, value)


UNSAFE = re.compile(rb'[^ !#-\[\]-~]')


def escaped(found):
    """Escape a byte, for example as \\x22."""
    return b"\\x%02x" % ord(found[0])
