"""The bytes of a response's head (RFC 9112): status lines, fields checked once, the date."""

import re
import time
from email.utils import formatdate
from http import HTTPStatus

# RFC 9110, 5.6.2: a field's name is a token. 5.5: what a value must not have, but that a tab and
# obs-text may be in it.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

PLAIN, LENGTH, CONNECTION, ENCODING, DATE, SERVER, TYPE, EVENTS = range(8)
_KINDS = {
    b"content-type": TYPE,
    b"content-length": LENGTH,
    b"connection": CONNECTION,
    b"transfer-encoding": ENCODING,
    b"date": DATE,
    b"server": SERVER,
}


def _status_line(code: int) -> bytes:
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {code} {phrase}\r\n".encode()


STATUS_LINES = {code: _status_line(code) for code in range(100, 600)}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_MOST_LINES = 1024
_LONGEST_KEPT = 256
lines: dict[tuple[bytes, bytes], tuple[bytes, int]] = {}
"""Fields that were checked: as field() returns them."""


def field(name: bytes, value: bytes) -> tuple[bytes, int]:
    """A header field's line and what kind it is.

    Raises RuntimeError if it is none, so that nobody splits a response by what he gets into a value
    (RFC 9112, 11.1), and TypeError if it is not bytes.
    """
    found = lines.get((name, value))
    if found is None:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError(f"header ({name!r}, {value!r}): name and value are bytes")
        if not _NAME.fullmatch(name):
            raise RuntimeError(f"header name {name!r} is no token")
        if _BAD_VALUE.search(value):
            raise RuntimeError(f"header {name.decode()}: control characters in {value!r}")
        kind = _KINDS.get(name.lower(), PLAIN)
        if kind == TYPE:
            kind = EVENTS if value.lower().startswith(b"text/event-stream") else PLAIN
        found = b"%b: %b\r\n" % (name, value), kind
        if len(value) <= _LONGEST_KEPT:
            if len(lines) >= _MOST_LINES:
                lines.clear()
            lines[name, value] = found
    return found


class Clock:
    """The `date` field, made anew once a second, and the lines that follow it in each response."""

    def __init__(self, *, dated: bool, rest: bytes) -> None:
        self._dated = dated
        self._rest = rest
        self._second = 0
        self._date = b""
        self._lines = rest

    def _tick(self, now: int) -> None:
        self._second = now
        if self._dated:
            self._date = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
            self._lines = self._date + self._rest

    def date(self) -> bytes:
        """The `date` line, or nothing."""
        self.lines()
        return self._date

    def lines(self) -> bytes:
        """All of them."""
        now = int(time.time())
        if now != self._second:
            self._tick(now)
        return self._lines


def plain(code: int, lines: bytes, text: str = "") -> bytes:
    """A whole response of the server's own, after which the connection ends. lines: more of its
    head's."""
    body = (text or HTTPStatus(code).phrase).encode() + b"\n"
    return b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n%b\r\n%b" % (
        STATUS_LINES[code],
        lines,
        len(body),
        CLOSE,
        body,
    )
