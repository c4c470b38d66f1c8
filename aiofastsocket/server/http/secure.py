"""TLS as applications see it, and the answers to clients that do not use TLS.

ASGI has an extension for it (`tls` in the scope's extensions). WSGI has none, and gets the
variables of Apache's mod_ssl, which programs know.
"""

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from ..._native.front import Front
from ..certificates import Certificates
from ..tls import TlsConfig

VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}  # as on the wire: RFC 8446, 4.2.1

# RFC 4514, 3; other kinds of names keep OpenSSL's word for them.
SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


class Secure:
    """The TLS of one service. port: that of the first address with TLS, if it is known."""

    def __init__(self, service: Front, config: TlsConfig, certificates: Certificates) -> None:
        self._service = service
        self._certificates = certificates
        self._except = tuple(prefix.encode() for prefix in config.redirect_http_except)
        self._asks = bool(config.ssl_cert_reqs)
        self._numbers: dict[str, int] = {}  # of cipher suites: RFC 8446, B.4
        self._known: dict[object, dict[str, Any]] = {}
        self.port: int | None = None

    def about(self, connection: ssl.SSLObject) -> dict[str, Any]:
        """The contents of ASGI's extension `tls`, for one connection."""
        name, *_ = connection.cipher() or (None,)
        key = (name, connection.version(), connection.context)
        known = self._known.get(key)
        if known is None:
            if not self._numbers:
                for suite in connection.context.get_ciphers():
                    self._numbers[suite["name"]] = suite["id"] & 0xFFFF
            known = self._known[key] = {
                "server_cert": self._certificates.pem(connection.context),
                "client_cert_chain": (),
                "client_cert_name": None,
                "client_cert_error": None,
                "tls_version": VERSIONS.get(connection.version() or ""),
                "cipher_suite": self._numbers.get(name or ""),
            }
        return known | (self._client(connection) if self._asks else {})

    def _client(self, connection: ssl.SSLObject) -> dict[str, Any]:
        own = connection.getpeercert(True)
        if own is None:
            return {}
        chain = [own]
        if hasattr(connection, "get_unverified_chain"):  # Python 3.13
            chain = list(connection.get_unverified_chain())
        return {
            "client_cert_chain": tuple(map(ssl.DER_cert_to_PEM_cert, chain)),
            "client_cert_name": distinguished_name(connection.getpeercert() or {}),
        }

    def environ(self, connection: ssl.SSLObject) -> dict[str, str]:
        """The variables of WSGI environments, for one connection."""
        about = self.about(connection)
        found = {
            "HTTPS": "on",
            "SSL_PROTOCOL": connection.version() or "",
            "SSL_CIPHER": (connection.cipher() or ("",))[0],
        }
        if self._asks:
            chain = about["client_cert_chain"]
            found["SSL_CLIENT_VERIFY"] = "SUCCESS" if chain else "NONE"
            if chain:
                # PEP 3333: bytes, as Latin-1.
                found["SSL_CLIENT_S_DN"] = about["client_cert_name"].encode().decode("latin-1")
                found["SSL_CLIENT_CERT"] = chain[0]
        return found

    def redirect(self, host: bytes | None, path: bytes, query: bytes) -> bytes | None:
        """The URL to redirect to. host: the value of the request's Host, which was checked before.
        None: the request is for the application. Empty: there is no such URL."""
        if path.startswith(self._except) and not _has_dots(path):
            return None
        if host is None or not path.startswith(b"/"):
            return b""
        name = host
        if not host.endswith(b"]"):  # as an IPv6 address without a port does
            before, colon, port = host.rpartition(b":")
            name = before if colon and port.isdigit() else host.removesuffix(b":")
        port = b"" if self.port in (443, None) else b":%d" % self.port
        return b"https://" + name + port + path + (b"?" + query if query else b"")

    def tell(self, transport: Any) -> bytes:
        """The answer to a client that sends plain HTTP to a TLS port."""
        peer = transport.get_extra_info("peername")
        self._service.not_tls(peer[:2] if isinstance(peer, tuple) else None)
        return self._service.clock.refusal(
            400, "plain HTTP request on a TLS port: use an address that begins with https://"
        )


def _has_dots(path: bytes) -> bool:
    """Whether a path has dot segments, which may change its prefix in an application (RFC 3986,
    5.2.4)."""
    return not {b".", b".."}.isdisjoint(unquote_to_bytes(path).split(b"/"))


def distinguished_name(certificate: Mapping[str, Any]) -> str:
    """The name of a certificate's subject, as RFC 4514 writes it: the last part first."""
    parts = []
    for part in reversed(certificate.get("subject", ())):
        parts.append("+".join(f"{SHORT.get(kind, kind)}={_escaped(text)}" for kind, text in part))
    return ",".join(parts)


def _escaped(text: str) -> str:
    out = "".join(f"\\{c}" if c in ',+"\\<>;' else "\\00" if c == "\0" else c for c in text)
    if out.startswith(("#", " ")):
        out = "\\" + out
    return out[:-1] + "\\ " if out.endswith(" ") and len(text) > 1 else out
