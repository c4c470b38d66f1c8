"""The options `--ssl-*`, and the TLS context that they make."""

import ssl
from dataclasses import dataclass

from ..errors import SetupError, UsageError
from .options import check, default


@dataclass(frozen=True)
class TlsConfig:
    """Named as on the command line. ssl_cert_reqs: an ssl.VerifyMode, of the clients' certificates;
    ssl_ciphers: a list in OpenSSL's format, for TLS 1.2 (ciphers(1))."""

    ssl_certfile: str | None = default("ssl_certfile")
    ssl_keyfile: str | None = default("ssl_keyfile")
    ssl_keyfile_password: str | None = default("ssl_keyfile_password")
    ssl_cert_reqs: int = default("ssl_cert_reqs")
    ssl_ca_certs: str | None = default("ssl_ca_certs")
    ssl_ciphers: str | None = default("ssl_ciphers")

    def __post_init__(self) -> None:
        check(self)
        if self.ssl_certfile is None:
            for name, value in vars(self).items():
                if value:
                    raise UsageError(f"--{name.replace('_', '-')} needs --ssl-certfile")
        if self.ssl_cert_reqs not in tuple(ssl.VerifyMode):
            raise UsageError(f"--ssl-cert-reqs {self.ssl_cert_reqs}: use 0, 1 or 2")
        if self.ssl_cert_reqs and self.ssl_ca_certs is None:
            raise UsageError(
                "--ssl-cert-reqs needs --ssl-ca-certs: whose certificates are believed"
            )
        if self.ssl_ca_certs is not None and not self.ssl_cert_reqs:
            raise UsageError(
                "--ssl-ca-certs alone asks no client for a certificate: add --ssl-cert-reqs, "
                "1 (optional) or 2 (required)"
            )
        self.context()

    def context(self) -> ssl.SSLContext | None:
        """A new one, from the files as they are now; None without a certificate. Raises SetupError
        if the files cannot be used, UsageError for the rest."""
        if self.ssl_certfile is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load_certificate(context, self.ssl_certfile)
        if self.ssl_ca_certs is not None:
            try:
                context.load_verify_locations(self.ssl_ca_certs)
            except OSError as error:
                raise SetupError(
                    f"--ssl-ca-certs {self.ssl_ca_certs} cannot be used: {_reason(error)}"
                ) from None
        context.verify_mode = ssl.VerifyMode(self.ssl_cert_reqs)
        if self.ssl_ciphers is not None:
            try:
                context.set_ciphers(self.ssl_ciphers)
            except ssl.SSLError:
                raise UsageError(
                    f"--ssl-ciphers {self.ssl_ciphers!r}: OpenSSL knows none of them"
                ) from None
        return context

    def _load_certificate(self, context: ssl.SSLContext, path: str) -> None:
        asked = False

        def password() -> str:  # or OpenSSL asks at a terminal that nobody watches
            nonlocal asked
            asked = True
            return self.ssl_keyfile_password or ""

        try:
            context.load_cert_chain(path, self.ssl_keyfile, password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = path + (f" with key {self.ssl_keyfile}" if self.ssl_keyfile else "")
            reason = _reason(error)
            if asked and reason != "KEY_VALUES_MISMATCH":
                word = "needs another password" if self.ssl_keyfile_password else "is encrypted"
                reason = f"the key {word}: --ssl-keyfile-password"
            elif isinstance(error, ssl.SSLError) and not self.ssl_keyfile:
                reason = f"{reason} (with its key in it? else give --ssl-keyfile)"
            raise SetupError(f"certificate {files} cannot be used: {reason}") from None


def _reason(error: OSError | ValueError) -> object:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or error
