"""The names of native/python/pool.pyx that this package uses."""

from .exchange import Service

class Pool:
    def __init__(self, service: Service, threads: int, page: object, underscores: bool) -> None: ...
