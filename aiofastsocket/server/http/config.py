"""The HTTP options of `serve`, named as on the command line."""

import os
from dataclasses import dataclass

from ..._native.formats import parsed
from ..._native.wire import field
from ...errors import UsageError
from ..options import BY_NAME, check, default
from .proxies import Proxies

_VARIABLE = BY_NAME["forwarded_allow_ips"].variable


@dataclass(frozen=True)
class HttpConfig:
    """The HTTP options. Times are in seconds, sizes in bytes. 0 or None means no limit, if the
    option allows it.

    headers: pairs b"name", b"value". forwarded_allow_ips: addresses and networks, or "*".
    """

    lifespan: str = default("lifespan")
    root_path: str = default("root_path")
    proxy_headers: bool = default("proxy_headers")
    proxy_protocol: bool = default("proxy_protocol")
    forwarded_allow_ips: str | None = default("forwarded_allow_ips")
    access_log: bool = default("access_log")
    access_log_format: str | None = default("access_log_format")
    access_logger: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = default("headers")
    server_header: bool = default("server_header")
    date_header: bool = default("date_header")
    queue_time: bool = default("queue_time")
    shed_after: float | None = default("shed_after")
    health_path: str | None = default("health_path")
    limit_concurrency: int | None = default("limit_concurrency")
    limit_max_requests: int | None = default("limit_max_requests")
    limit_max_requests_jitter: int = default("limit_max_requests_jitter")
    limit_request_line: int = default("limit_request_line")
    limit_request_fields: int = default("limit_request_fields")
    limit_request_head: int = default("limit_request_head")
    timeout_keep_alive: float = default("timeout_keep_alive")
    timeout_request_head: float = default("timeout_request_head")
    timeout_request_body: float = default("timeout_request_body")
    timeout_disconnect: float = default("timeout_disconnect")
    wsgi_threads: int = default("wsgi_threads")
    wsgi_underscores: bool = default("wsgi_underscores")
    ws: str = default("ws")
    ws_max_size: int = default("ws_max_size")
    ws_ping_interval: float = default("ws_ping_interval")
    ws_ping_timeout: float = default("ws_ping_timeout")
    ws_per_message_deflate: bool = default("ws_per_message_deflate")
    ws_deflate_window: int = default("ws_deflate_window")
    ws_deflate_level: int = default("ws_deflate_level")

    def __post_init__(self) -> None:
        check(self)
        Proxies(self.trusted)
        if self.root_path and not self.root_path.startswith("/"):
            raise UsageError(f"--root-path {self.root_path!r}: begin it with /")
        if self.health_path is not None and not self.health_path.startswith("/"):
            raise UsageError(f"--health-path {self.health_path!r}: begin it with /")
        if self.health_path is not None and not self.health_path.isascii():
            raise UsageError(
                f"--health-path {self.health_path!r}: write it as clients send it, percent-encoded"
            )
        if self.access_log_format not in (None, "json"):
            try:
                parsed(self.access_log_format)
            except ValueError as error:
                raise UsageError(f"--access-log-format: {error}") from None
        for pair in self.headers:
            try:
                field(*pair)
            except RuntimeError as error:
                raise UsageError(f"--header: {error}") from None

    @property
    def trusted(self) -> str:
        """The proxies whose X-Forwarded fields are trusted, as in uvicorn. A worker reads this
        after it has imported the program, which may have set the variable."""
        given = self.forwarded_allow_ips
        return os.environ.get(_VARIABLE, "127.0.0.1") if given is None else given

    @property
    def behind_a_proxy(self) -> bool:
        """Whether proxies are configured. They connect in advance, and with deferred accept their
        connections would not be accepted."""
        return self.forwarded_allow_ips is not None or _VARIABLE in os.environ
