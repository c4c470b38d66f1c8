"""The names of native/python/inline.pyx that this package uses."""

from .exchange import Service

class Inline:
    def __init__(self, service: Service, underscores: bool) -> None: ...
