"""Open idle TLS connections and keep them. clients.py runs this for a TlsIdle.

    python tls_idle.py PORT CONNECTIONS KIND

KIND: idle connections have sent one request, silent ones nothing, partial ones half of a first
record. The program writes a line when all are open, and then waits for a line.
"""

import json
import socket
import ssl
import sys
import time

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main() -> None:
    port, count, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.monotonic()
    kept: list[socket.socket] = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 20)
        if kind == "idle":
            sock = context.wrap_socket(sock, server_hostname="localhost")
            sock.sendall(HEAD)
            sock.recv(65536)
        elif kind == "partial":
            sock.sendall(b"\x16\x03\x01\x02\x00" + b"\x01" * 200)
        kept.append(sock)
    time.sleep(0.5)
    print("open", flush=True)
    sys.stdin.readline()
    seconds = time.monotonic() - began
    print(
        json.dumps(
            {
                "requests": count,
                "errors": 0,
                "seconds": seconds,
                "p50": 0,
                "p99": 0,
                "p999": 0,
            }
        )
    )


main()
