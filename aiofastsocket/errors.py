"""The exceptions of this package; imports nothing of ours.

What the kernel refuses is an OSError that names the call and the address. The classes here are for
what no system call said: a user's mistake, or an environment that cannot do what was asked.
"""


class FastsocketError(Exception):
    """Base of the errors below. Its text is one line, fit for a person."""


class UsageError(FastsocketError):
    """The arguments are wrong; the text says what would be right."""


class SetupError(FastsocketError):
    """The arguments are fine, but this machine will not have it: port in use, no such device."""
