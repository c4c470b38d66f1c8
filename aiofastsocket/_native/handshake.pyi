"""What this package uses of native/python/handshake.pyx."""

from .exchange import Exchange

class Handshake(Exchange):
    is_answered: bool
    is_over: bool
    def over(self, code: int, status: int) -> None: ...
