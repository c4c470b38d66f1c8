"""The exceptions of this package; imports nothing of ours.

What the kernel refuses is an OSError that names the call and the address. The classes here are for
what no system call said: a user's mistake, or an environment that cannot do what was asked.
"""

import sys


class FastsocketError(Exception):
    """Base of the errors below. Its text is one line, fit for a person."""


class UsageError(FastsocketError):
    """The arguments are wrong; the text says what would be right."""


class SetupError(FastsocketError):
    """The arguments are fine, but this machine will not have it: port in use, no such device."""


class ClientDisconnected(ConnectionError):
    """The client is gone; raised by an application's send()."""


def told(command: str, error: FastsocketError | OSError) -> int:
    """Say one line of it on standard error; the exit code: 2 the arguments are wrong, 1 the
    environment will not have it."""
    print(f"aiofastsocket {command}: error: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
