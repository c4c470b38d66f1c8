"""Certificates for tests, by the openssl command."""

import subprocess
from pathlib import Path

KEYS = {"rsa": ("rsa:2048",), "ec": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")}


def certificate(
    folder: Path,
    name: str,
    host: str = "localhost",
    *,
    key: str = "ec",
    days: int = 90,
    signed_by: Path | None = None,
    more: str = "",
) -> Path:
    """A certificate with its key in the same file; the key alone is NAME.key next to it. signed_by:
    the authority's certificate; without it, the new one is its own authority. more: further names,
    such as IP:127.0.0.1."""
    path, own = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        *KEYS[key],
        "-nodes",
        "-utf8",
        "-days",
        str(days),
    ]
    command += [
        "-subj",
        f"/O=Some, Ltd/CN={host}",
        "-addext",
        f"subjectAltName=DNS:{host}{more and ',' + more}",
    ]
    if signed_by is None:  # Python requires it from 3.13 on: RFC 5280, 4.2.1.3
        command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    else:
        by = ["-CA", str(signed_by), "-CAkey", str(signed_by.with_suffix(".key"))]
        command += [*by, "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(
        [*command, "-keyout", str(own), "-out", str(path)], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + own.read_bytes())
    return path
