"""Malformed and malicious requests: each has its answer, and none reaches the application.

The table has our status next to the one of uvicorn, with httptools as its parser.
"""

from typing import Any

import pytest
from support.by_hand import Answer, Client
from support.client import Address

HEAD = b"GET /hello HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"\r\n"

# name: request, our status, uvicorn's status (None: uvicorn lets the request through).
# fmt: off
CASES: dict[str, tuple[bytes, int, int | None]] = {
    "length and chunked": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        400,
    ),
    "chunked and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
        400,
    ),
    "two lengths that differ": (
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        400,
        400,
    ),
    "two lengths that agree": (
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        400,
        400,
    ),
    "a list of lengths": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400, 400),
    "a length with a sign": (POST + b"Content-Length: +3\r\n\r\nabc", 400, 400),
    "a negative length": (POST + b"Content-Length: -3\r\n\r\nabc", 400, 400),
    "a hexadecimal length": (POST + b"Content-Length: 0x3\r\n\r\nabc", 400, 400),
    "a length beyond 64 bits": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400, 400),
    "an empty length": (POST + b"Content-Length: \r\n\r\n", 400, 400),
    "a chunk size that is none": (CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n", 400, 400),
    "a chunk size with 0x": (CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400, 400),
    "a chunk size beyond 64 bits": (CHUNKED + b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n", 400, 400),
    "a chunk size with a bare LF": (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400, 400),
    "a chunk extension with a bare LF": (CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400, 400),
    "a chunk longer than its size": (CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n", 400, 400),
    "another coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, 400),
    "another coding before chunked": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        None,
    ),
    "chunked that is not last": (
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        400,
        400,
    ),
    "chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        400,
    ),
    "nearly chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, 400),
    "chunked with a control character": (
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
        400,
    ),
    "chunked in HTTP/1.0": (
        b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        None,
    ),
    "obs-fold": (HEAD + b"X: a\r\n b\r\n\r\n", 400, 400),
    "a fold before the first field": (b"GET /hello HTTP/1.1\r\n Host: a\r\n\r\n", 400, 400),
    "a bare LF after the request line": (b"GET /hello HTTP/1.1\nHost: a\r\n\r\n", 400, 400),
    "a bare LF after a field": (HEAD + b"X: a\nY: b\r\n\r\n", 400, 400),
    "a bare LF at the end": (HEAD + b"\n", 400, 400),
    "NUL in a value": (HEAD + b"X: a\0b\r\n\r\n", 400, 400),
    "NUL in a name": (HEAD + b"X\0: a\r\n\r\n", 400, 400),
    "CR in a value": (HEAD + b"X: a\rb\r\n\r\n", 400, 400),
    "a control character in a value": (HEAD + b"X: a\x01b\r\n\r\n", 400, 400),
    "a space before the colon": (HEAD + b"X : a\r\n\r\n", 400, 400),
    "a space in a name": (HEAD + b"X Y: a\r\n\r\n", 400, 400),
    "an empty name": (HEAD + b": a\r\n\r\n", 400, 400),
    "no colon": (HEAD + b"X\r\n\r\n", 400, 400),
    "no host": (b"GET /hello HTTP/1.1\r\n\r\n", 400, None),
    "two hosts": (HEAD + b"Host: b\r\n\r\n", 400, None),
    "no version": (b"GET /hello\r\n\r\n", 505, None),
    "HTTP/2.0": (b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505, None),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 400),
    "a lower case protocol": (b"GET /hello http/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "no method": (b"/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "a method that is no token": (b"F(O /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "a target that is none": (b"GET hello HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "a control character in the target": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "raw UTF-8 in the target": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, 400),
    "RTSP": (b"DESCRIBE /hello RTSP/1.0\r\nHost: a\r\n\r\n", 400, None),
    "ICE": (b"SOURCE /hello ICE/1.0\r\nHost: a\r\n\r\n", 400, None),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, 400),
}
# fmt: on


def outcome(address: Address, request: bytes) -> Answer | None:
    with Client(address) as client:
        client.send(request)
        try:
            answer = client.answer()
        except EOFError:
            return None
        if answer.status != 200:
            assert client.closed()
        return answer


@pytest.mark.parametrize("name", CASES)
def test_it_has_its_answer(server: Any, ours: bool, name: str) -> None:
    request, status, theirs = CASES[name]
    answer = outcome(server.address, request)
    if ours:
        assert answer is not None
        assert answer.status == status, answer
        assert answer.headers["connection"] == "close"
    elif theirs is not None:
        assert answer is not None
        assert answer.status == theirs, answer
    else:
        assert answer is None or answer.status in (200, 500), answer


# Not on uvicorn: it sends the 400 at once, in place of the application's answer.
@pytest.mark.parametrize("server", ["ours-uvloop", "ours-asyncio"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_what_came_before_is_answered(server: Any, name: str) -> None:
    """Requests behind the bad one are not answered: none that is hidden there gets through."""
    request, status, _ = CASES[name]
    with Client(server.address) as client:
        client.send(HEAD + END + request + HEAD + END)
        assert client.answer().body == b"hello"
        assert client.answer().status == status
        assert client.closed()
