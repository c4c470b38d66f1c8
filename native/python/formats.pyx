# cython: language_level=3
"""Lines of the access log in a format that was asked for: gunicorn's atoms, or JSON.

What a client may choose is escaped: it ends no line, no quotes, no JSON string.
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
    """The parts of a format: (atom, name or text) each. Raises ValueError: what is wrong with it."""
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
        raise ValueError(f"% in {text!r} begins nothing that is known; write %(...)s, or %% for %")
    if "\n" in text or "\r" in text:
        raise ValueError("a line has no end within it")
    if text:
        parts.append((LITERAL, text.encode()))


@cython.final
cdef class Formatted(Access):
    """See Access. form: as `parsed` reads it, or "json"."""

    def __init__(self, loop, flush, str form):
        Access.__init__(self, loop, flush)
        self.is_json = form == "json"
        self.parts = [] if self.is_json else parsed(form)
        self.process = b"<%d>" % os.getpid()
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
        """What a request tells."""
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
        """The Common Log Format's, made anew once a second."""
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self.second:
            self.second = now.tv_sec
            stamp = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(now.tv_sec))
            self.stamp = stamp.encode()
        return self.stamp

    cdef bytes json(self, Exchange exchange, object client, int status):
        cdef timespec now
        clock_gettime(CLOCK_REALTIME, &now)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now.tv_sec))
        said = {
            "time": f"{stamp}.{now.tv_nsec // 1_000_000:03d}Z",
            "client": None if client is None else client[0],
            "status": status,
            "pid": os.getpid(),
        }
        if exchange is not None:
            fields = exchange.pairs()
            said |= {
                "method": exchange.method,
                "path": exchange.raw_path.decode("latin-1"),
                "query": exchange.query.decode("latin-1"),
                "protocol": f"HTTP/{exchange.version}",
                "scheme": exchange.scheme,
                "host": text_or_none(field_of(fields, b"host")),
                "bytes": exchange.sent,
                "seconds": round((now_ns() - exchange.began) * 1e-9, 6),
                "queue_seconds": None if exchange.waited < 0 else round(exchange.waited * 1e-9, 6),
                "referer": text_or_none(field_of(fields, b"referer")),
                "user_agent": text_or_none(field_of(fields, b"user-agent")),
            }
        else:
            said |= NO_REQUEST
        return dumps(said).encode()  # ASCII: other characters are escaped


cdef dict NO_REQUEST = dict.fromkeys(
    "method path query protocol scheme host bytes seconds queue_seconds referer user_agent".split())
cdef dict UNITS = {SECONDS: 1_000_000_000, MILLISECONDS: 1_000_000, MICROSECONDS: 1_000}


cdef bytes decimal(long long ns):
    return b"%d.%06d" % (ns // 1_000_000_000, ns % 1_000_000_000 // 1_000)


cdef bytes target_of(Exchange exchange):
    whole = exchange.raw_path + b"?" + exchange.query if exchange.query else exchange.raw_path
    return quoted(whole)


cdef object field_of(list fields, bytes name):
    """The first of that name, or None."""
    for known, value in fields:
        if known == name:
            return value
    return None


cdef object field_of_head(bytes head, bytes name):
    """The same of a response's, as it was sent."""
    for line in (head or b"").split(b"\r\n"):
        known, colon, value = line.partition(b": ")
        if colon and known.lower() == name:
            return value
    return None


cdef object user_of(authorization):
    """Of Basic authentication (RFC 7617), or None."""
    kind, _, secret = (authorization or b"").partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        user, colon, _ = base64.b64decode(secret.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user if colon else None


cdef object text_or_none(value):
    return None if value is None else value.decode("latin-1")


cdef bytes quoted(value):
    """So that it ends neither quotes nor a line; "-" for what is not there."""
    if not value:
        return b"-"
    return UNSAFE.sub(escaped, value)


UNSAFE = re.compile(rb'[^ !#-\[\]-~]')


def escaped(found):
    """As \\x22."""
    return b"\\x%02x" % ord(found[0])
