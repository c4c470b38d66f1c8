"""The options `--ssl-*`, and the certificates and contexts that they make."""

import re
import ssl
from dataclasses import dataclass

from ..errors import SetupError, UsageError
from .bind import Bind
from .certificates import Certificates
from .options import check, default

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# For TLS 1.2: forward secrecy and authenticated encryption. Every client since 2014 supports one.
CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
HSTS = re.compile(r"\d+(; *includeSubDomains)?(; *preload)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class TlsConfig:
    """The options of TLS, named as on the command line. ssl_cert_reqs: an ssl.VerifyMode, for
    client certificates; ssl_ciphers: a list in OpenSSL's format, for TLS 1.2 (ciphers(1))."""

    ssl_certfile: tuple[str, ...] = default("ssl_certfile")
    ssl_keyfile: tuple[str, ...] = default("ssl_keyfile")
    ssl_keyfile_password: str | None = default("ssl_keyfile_password")
    ssl_cert_reqs: int = default("ssl_cert_reqs")
    ssl_ca_certs: str | None = default("ssl_ca_certs")
    ssl_ciphers: str | None = default("ssl_ciphers")
    ssl_min_version: str = default("ssl_min_version")
    ssl_alpn: str = default("ssl_alpn")
    ssl_reload: float | None = default("ssl_reload")
    timeout_tls_handshake: float = default("timeout_tls_handshake")
    redirect_http: tuple[str, ...] = default("redirect_http")
    redirect_http_except: tuple[str, ...] = default("redirect_http_except")
    hsts: str | None = default("hsts")

    def __post_init__(self) -> None:
        check(self)
        if not self.ssl_certfile:
            for name, value in vars(self).items():
                if value and value != default(name):
                    raise UsageError(f"--{name.replace('_', '-')} needs --ssl-certfile")
            return
        if self.ssl_keyfile and len(self.ssl_keyfile) != len(self.ssl_certfile):
            raise UsageError(
                f"--ssl-keyfile was given {len(self.ssl_keyfile)} times, --ssl-certfile "
                f"{len(self.ssl_certfile)} times: give a key for each certificate, in the same "
                "order, or none if the keys are in the certificate files"
            )
        if self.ssl_cert_reqs not in tuple(ssl.VerifyMode):
            raise UsageError(f"--ssl-cert-reqs {self.ssl_cert_reqs}: use 0, 1 or 2")
        if self.ssl_cert_reqs and self.ssl_ca_certs is None:
            raise UsageError("--ssl-cert-reqs needs --ssl-ca-certs, with the trusted authorities")
        if self.ssl_ca_certs is not None and not self.ssl_cert_reqs:
            raise UsageError(
                "--ssl-ca-certs alone does not request client certificates: add --ssl-cert-reqs, "
                "1 (optional) or 2 (required)"
            )
        if self.redirect_http_except and not self.redirect_http:
            raise UsageError("--redirect-http-except needs --redirect-http")
        for prefix in self.redirect_http_except:
            if not prefix.startswith("/") or not prefix.isascii():
                raise UsageError(
                    f"--redirect-http-except {prefix!r}: begin it with /, and write it as clients "
                    "send it, in ASCII"
                )
        if self.hsts is not None and not HSTS.fullmatch(self.hsts):
            raise UsageError(
                f"--hsts {self.hsts!r}: use a number of seconds, such as 31536000, and optionally "
                "'; includeSubDomains' and '; preload' after it"
            )
        for text in self.redirect_http:
            Bind.parse(text, "--redirect-http")

    def certificates(self) -> Certificates | None:
        """The certificates in the files as they are now; None without a certificate. Raises
        SetupError if the files cannot be used, UsageError for other errors."""
        if not self.ssl_certfile:
            return None
        keys = self.ssl_keyfile or (None,) * len(self.ssl_certfile)
        pairs = tuple(zip(self.ssl_certfile, keys, strict=True))
        more = () if self.ssl_ca_certs is None else (self.ssl_ca_certs,)
        return Certificates(pairs, self._context, self._load_certificate, more)

    def _context(self) -> ssl.SSLContext:
        """A context with everything except a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = VERSIONS[self.ssl_min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION
        protocols = [name for name in self.ssl_alpn.split(",") if name]
        if protocols:
            try:
                context.set_alpn_protocols(protocols)
            except (ssl.SSLError, ValueError):
                raise UsageError(
                    f"--ssl-alpn {self.ssl_alpn!r}: names have 1 to 255 ASCII characters"
                ) from None
        if self.ssl_ca_certs is not None:
            try:
                context.load_verify_locations(self.ssl_ca_certs)
            except OSError as error:
                raise SetupError(
                    f"--ssl-ca-certs {self.ssl_ca_certs} cannot be used: {_reason(error)}"
                ) from None
        context.verify_mode = ssl.VerifyMode(self.ssl_cert_reqs)
        try:
            context.set_ciphers(self.ssl_ciphers or CIPHERS)
        except ssl.SSLError:
            raise UsageError(
                f"--ssl-ciphers {self.ssl_ciphers!r}: OpenSSL supports none of them"
            ) from None
        return context

    def _load_certificate(self, context: ssl.SSLContext, path: str, key: str | None) -> None:
        asked = False

        def password() -> str:  # without it, OpenSSL would ask at a terminal
            nonlocal asked
            asked = True
            return self.ssl_keyfile_password or ""

        try:
            context.load_cert_chain(path, key, password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = path + (f" with key {key}" if key else "")
            reason = _reason(error)
            if reason == "KEY_VALUES_MISMATCH":
                reason = "the key belongs to another certificate"
            elif asked:
                word = "needs another password" if self.ssl_keyfile_password else "is encrypted"
                reason = f"the key {word}: --ssl-keyfile-password"
            else:
                reason = _missing(path, key) or reason
            raise SetupError(f"certificate {files} cannot be used: {reason}") from None


def _missing(path: str, key: str | None) -> str:
    """The part that a pair of files lacks; empty: none."""
    for file, what, hint in (
        (path, "CERTIFICATE", ""),
        (key or path, "PRIVATE KEY", "" if key else ": give --ssl-keyfile"),
    ):
        try:
            with open(file, encoding="ascii", errors="replace") as opened:
                if f"{what}-----" not in opened.read():
                    return f"{file} contains no {what.lower()} in PEM{hint}"
        except OSError as error:
            return f"{file}: {error.strerror}"
    return ""


def _reason(error: OSError | ValueError) -> object:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or error
