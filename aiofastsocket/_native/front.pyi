"""The names of native/python/front.pyx that this package uses."""

from .access import Access
from .exchange import Service

class Front(Service):
    access: Access | None
    most_connections: int
    most_waited: int
    health_path: bytes | None
    healthy: bool
    def count(self, counters: int) -> None: ...
    def count_dropped(self, lines: int) -> None: ...
    def no_proxy(self) -> None: ...
    def not_tls(self, client: object) -> None: ...
