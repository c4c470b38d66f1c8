"""What `serve` was asked for of HTTP, named as on the command line."""

import os
from dataclasses import dataclass

from ...errors import UsageError
from .proxies import Proxies
from .wire import field

LIFESPANS = ("auto", "on", "off")


@dataclass(frozen=True)
class HttpOptions:
    """Seconds are seconds, sizes bytes; 0 or None is without a limit where it says so.

    headers: as b"name", b"value". forwarded_allow_ips: addresses and networks, or "*".
    """

    lifespan: str = "auto"
    root_path: str = ""
    proxy_headers: bool = True
    forwarded_allow_ips: str | None = None
    access_log: bool = True
    access_logger: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    server_header: bool = True
    date_header: bool = True
    limit_concurrency: int | None = None
    limit_max_requests: int | None = None
    limit_request_line: int = 8192
    limit_request_fields: int = 100
    limit_request_head: int = 65536
    timeout_keep_alive: float = 5.0
    timeout_request_head: float = 30.0
    timeout_request_body: float = 60.0
    ws_max_size: int = 16 * 1024 * 1024
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_per_message_deflate: bool = True

    @property
    def trusted(self) -> str:
        """Whose X-Forwarded headers are believed, as uvicorn has it."""
        if self.forwarded_allow_ips is not None:
            return self.forwarded_allow_ips
        return os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")

    @property
    def behind_a_proxy(self) -> bool:
        """Proxies connect ahead, and would find that nobody accepts."""
        return "FORWARDED_ALLOW_IPS" in os.environ or self.forwarded_allow_ips is not None

    def __post_init__(self) -> None:
        Proxies(self.trusted)
        if self.lifespan not in LIFESPANS:
            raise UsageError(f"--lifespan {self.lifespan!r} is unknown: use {', '.join(LIFESPANS)}")
        for name in ("keep_alive", "request_head", "request_body"):
            if not getattr(self, f"timeout_{name}") > 0:
                option = f"--timeout-{name.replace('_', '-')}"
                raise UsageError(f"{option}: use more than 0 seconds")
        for name in ("interval", "timeout"):
            if not getattr(self, f"ws_ping_{name}") > 0:
                raise UsageError(f"--ws-ping-{name}: use more than 0 seconds")
        if self.ws_max_size < 1:
            raise UsageError("--ws-max-size: use 1 or more bytes")
        for name in ("concurrency", "max_requests"):
            value = getattr(self, f"limit_{name}")
            if value is not None and value < 1:
                raise UsageError(f"--limit-{name.replace('_', '-')} {value}: use 1 or more")
        for name in ("request_line", "request_fields", "request_head"):
            if getattr(self, f"limit_{name}") < 1:
                raise UsageError(f"--limit-{name.replace('_', '-')}: use 1 or more")
        if self.root_path and not self.root_path.startswith("/"):
            raise UsageError(f"--root-path {self.root_path!r}: begin it with /")
        for pair in self.headers:
            try:
                field(*pair)
            except RuntimeError as error:
                raise UsageError(f"--header: {error}") from None
