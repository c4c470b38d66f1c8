"""HTTP/1.1 by hand: tests send exact bytes, and get the exact bytes that come back."""

import json
import re
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

from .client import Address, connect
from .over_tls import secured


def get(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@dataclass
class Answer:
    """One response. headers: names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Client:
    """A connection that sends bytes and reads responses one by one."""

    def __init__(self, address: Address | str, tls: ssl.SSLContext | None = None) -> None:
        """tls: the context of a test about TLS; without it, support.over_tls decides."""
        self.sock = connect(address)
        self.sock = (
            tls.wrap_socket(self.sock, server_hostname="localhost")
            if tls is not None
            else secured(self.sock)
        )
        self._data = bytearray()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        # TLS's own shutdown would end the other half, too.
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection: socket(7), SO_LINGER."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def answer(self, *, to: str = "GET") -> Answer:
        """The next response; raises EOFError when there is none."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", head[0])
        assert found, head
        answer = Answer(int(found[1]))
        for line in head[1:-2]:
            name, _, value = line.partition(": ")
            assert name.lower() not in answer.headers or name.lower() == "set-cookie", head
            answer.headers[name.lower()] = value
        if to == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                answer.body += self.exactly(size + 2)[:-2]
            assert self.exactly(2) == b"\r\n"
        elif "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))
        else:
            answer.body = self.rest()
        return answer

    def rest(self) -> bytes:
        """All bytes until the server closes; none if it has closed already."""
        try:
            while more := self.sock.recv(1 << 20):
                self._data += more
        except ConnectionResetError:
            pass
        return self._take(len(self._data))

    def closed(self) -> bool:
        """Whether the server closes without another byte."""
        return self.rest() == b""

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._data) < size:
            self._more()
        return self._take(size)

    def until(self, end: bytes) -> bytes:
        """The next bytes, up to and with `end`."""
        while (at := self._data.find(end)) < 0:
            self._more()
        return self._take(at + len(end))

    def _more(self) -> None:
        more = self.sock.recv(1 << 20)
        if not more:
            raise EOFError(f"the server has closed after {bytes(self._data[:200])!r}")
        self._data += more

    def _take(self, size: int) -> bytes:
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken


def ask(server: Any, request: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    with Client(server.address) as client:
        client.send(request)
        return client.answer(to=request.split(b" ")[0].decode())


def scope_of(server: Any, request: bytes) -> dict[str, Any]:
    """The scope that the application of tests/support/app/web.py sees in a request of /scope."""
    with Client(server.address) as client:
        client.send(request)
        scope: dict[str, Any] = json.loads(client.answer().body)
        return scope
