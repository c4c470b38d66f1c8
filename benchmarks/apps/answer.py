"""The answer of the HTTP-like servers: the same bytes as in c/hello.h."""

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
