"""The names of native/python/handshake.pyx that this package uses."""

from .exchange import Exchange

class Handshake(Exchange):
    is_answered: bool
    is_over: bool
    def over(self, code: int, status: int) -> None: ...
