"""From a request's head to its scope (the ASGI HTTP specification, 2.5)."""

from typing import Any
from urllib.parse import unquote

Headers = list[tuple[bytes, bytes]]
Scope = dict[str, Any]
Address = tuple[str, int | None] | None

# Looking for a number is ten times as fast as for bytes, which CPython takes for a number first.
_HASH, _PERCENT = b"#%"


def split_target(target: bytes, method: bytes) -> tuple[bytes, bytes, bytes]:
    """Path, query and authority of a request's target (RFC 9112, 3.2): "/path?query",
    "http://authority/path?query", or "*" of OPTIONS. Raises ValueError if it is none of these."""
    if target[:1] == b"/" and _HASH not in target:  # nearly all
        path, _, query = target.partition(b"?")
        return path, query, b""
    authority = b""
    if target[:1] == b"*" and (target != b"*" or method != b"OPTIONS"):
        raise ValueError("the target * is for OPTIONS")
    if target[:1] not in (b"/", b"*"):
        scheme, _, target = target.partition(b"://")
        if scheme.lower() not in (b"http", b"https") or b"@" in target.partition(b"/")[0]:
            raise ValueError("the target is no address of this server")
        end = min((at for at in map(target.find, (b"/", b"?", b"#")) if at >= 0), default=None)
        authority, target = (target, b"") if end is None else (target[:end], target[end:])
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return path, query, authority


def text_of(path: bytes) -> str:
    """A path's characters: percent-encoded bytes are UTF-8; what is not becomes U+FFFD."""
    return unquote(path.decode("ascii")) if _PERCENT in path else path.decode("ascii")
