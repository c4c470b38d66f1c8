"""What this package uses of native/python/pool.pyx."""

from .exchange import Service

class Pool:
    def __init__(self, service: Service, threads: int, page: object, underscores: bool) -> None: ...
