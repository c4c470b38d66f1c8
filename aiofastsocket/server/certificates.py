"""Certificates and their keys: from files to the contexts that serve clients.

A client gets the certificate for the name that it requests (SNI, RFC 6066, 3), or else the first
one. Certificates for the same names, with different kinds of keys, share a context: OpenSSL takes
one that the client can verify.

All connections begin with one context, the front, which has no certificate of its own. OpenSSL
takes the keys of session tickets from the context that SSL_new(3) was given. The front is made
before the first worker, which inherits it, and outlives every reload. So do session tickets, for
two hours each (OpenSSL's timeout of a session).
"""

import logging
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SetupError, UsageError
from ..private import decode_certificate

logger = logging.getLogger("aiofastsocket")

SOON_SECONDS = 14 * 86400.0
"""The time before a certificate's end from which a warning is logged."""

# DER of the object identifiers of public keys (RFC 3279, 2.3; RFC 5480, 2.1.1; RFC 8410, 3).
KINDS = {
    "RSA": bytes.fromhex("06092a864886f70d010101"),
    "EC": bytes.fromhex("06072a8648ce3d0201"),
    "Ed25519": bytes.fromhex("06032b6570"),
    "Ed448": bytes.fromhex("06032b6571"),
}

Loader = Callable[[ssl.SSLContext, str, str | None], None]


@dataclass(frozen=True)
class Certificate:
    """One certificate. names: of hosts, in lower case, with * for a label. ends: as time.time()."""

    names: frozenset[str]
    kind: str
    ends: float
    pem: str


def read(path: str) -> Certificate:
    """The first certificate of a file that could be loaded with its key."""
    about: Any = decode_certificate(path)
    with open(path, encoding="ascii", errors="replace") as file:
        _, begin, rest = file.read().partition("-----BEGIN CERTIFICATE-----")
    text, end, _ = rest.partition("-----END CERTIFICATE-----")
    pem = f"{begin}{text}{end}\n"
    der = ssl.PEM_cert_to_DER_cert(pem)
    names = {value.lower() for kind, value in about.get("subjectAltName", ()) if kind == "DNS"}
    if not names:
        pairs = [pair for part in about.get("subject", ()) for pair in part]
        names = {value.lower() for kind, value in pairs if kind == "commonName"}
    kind = next((kind for kind, oid in KINDS.items() if oid in der), "another kind")
    return Certificate(frozenset(names), kind, ssl.cert_time_to_seconds(about["notAfter"]), pem)


@dataclass(frozen=True)
class _Loaded:
    """The result of reading all files."""

    first: ssl.SSLContext
    by_name: dict[str, ssl.SSLContext]
    pems: dict[ssl.SSLContext, str | None]  # None: it has several
    certificates: tuple[tuple[str, Certificate], ...]  # with their files


@dataclass
class Certificates:
    """The certificates of a service, with their keys. make: makes a context with everything except
    a certificate. load: puts a pair into a context; it raises SetupError. more: other files that
    make() reads."""

    pairs: Sequence[tuple[str, str | None]]  # the file of a certificate, and that of its key
    make: Callable[[], ssl.SSLContext]
    load: Loader
    more: tuple[str, ...] = ()
    front: ssl.SSLContext = field(init=False)
    _now: _Loaded = field(init=False)
    _seen: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.front = self.make()
        self.read()

    def read(self) -> None:
        """Read the files again. Raises SetupError; then the old certificates stay in use.

        With client certificates, a reload ends session tickets too: a client whose authority is not
        trusted any more must present its certificate again.
        """
        self._seen = self._stamps()
        contexts: dict[frozenset[str], ssl.SSLContext] = {}
        kinds: dict[frozenset[str], dict[str, str]] = {}
        pems: dict[ssl.SSLContext, str | None] = {}
        by_name: dict[str, ssl.SSLContext] = {}
        found = []
        for path, key in self.pairs:
            self.load(self.make(), path, key)  # its errors are reported first
            certificate = read(path)
            names = certificate.names
            other = kinds.setdefault(names, {}).setdefault(certificate.kind, path)
            if other != path:
                raise SetupError(
                    f"certificates {other} and {path} are for the same names and kind of key: "
                    "leave one out"
                )
            context = contexts.get(names) or contexts.setdefault(names, self.make())
            self.load(context, path, key)
            pems[context] = None if context in pems else certificate.pem
            for name in names:
                by_name.setdefault(name, context)
            found.append((path, certificate))
        first = next(iter(contexts.values()))
        self._now = _Loaded(first, by_name, pems, tuple(found))
        if self.front.verify_mode != ssl.CERT_NONE:
            self.front = self.make()
        self.front.sni_callback = self._named

    def renew(self) -> bool:
        """Read the files again, for new workers; return whether they are usable. The old ones stay
        in use if they are not, and a line says so."""
        try:
            self.read()
        except (SetupError, UsageError, OSError) as error:
            logger.error("%s: the old certificates stay in use", error)
            return False
        for line in self.ending():
            logger.warning("%s", line)
        return True

    def changed(self) -> bool:
        """Whether a file has changed since the last read, successful or not."""
        return self._stamps() != self._seen

    def ending(self) -> list[str]:
        """A line for each certificate that ends soon, or has ended."""
        lines = []
        for path, certificate in self._now.certificates:
            days = (certificate.ends - time.time()) / 86400
            if days < 0:
                lines.append(f"certificate {path} expired {-days:.0f} days ago: clients refuse it")
            elif days * 86400 < SOON_SECONDS:
                lines.append(f"certificate {path} expires in {days:.0f} days: renew it")
        return lines

    def ends(self) -> int:
        """The end of the first certificate to end, in seconds since 1970."""
        return int(min(certificate.ends for _, certificate in self._now.certificates))

    def pem(self, context: ssl.SSLContext) -> str | None:
        """The certificate of a connection's context, if it has only one."""
        return self._now.pems.get(context)

    def context(self, name: str | None) -> ssl.SSLContext:
        """The context for the host that a client requests."""
        if name is None:
            return self._now.first
        name = name.lower()
        exact = self._now.by_name.get(name)
        if exact is None:  # RFC 9525, 6.3: * is one label
            exact = self._now.by_name.get(f"*.{name.partition('.')[2]}")
        return exact or self._now.first

    def _named(self, connection: Any, name: str | None, _: object) -> None:
        connection.context = self.context(name)

    def _stamps(self) -> tuple[object, ...]:
        stamps: list[object] = []
        files = {path for pair in self.pairs for path in pair if path is not None}
        for path in files | set(self.more):
            try:
                about = os.stat(path)
            except OSError as error:
                stamps.append((path, error.errno))
            else:
                stamps.append((path, about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(sorted(stamps, key=str))
