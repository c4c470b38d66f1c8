"""What this package uses of native/python/inline.pyx."""

from .exchange import Service

class Inline:
    def __init__(self, service: Service, underscores: bool) -> None: ...
