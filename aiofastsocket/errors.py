"""The exceptions of this package. This module imports no other module of the package.

If the kernel refuses a call, an OSError names the call and the address. The classes here are for
errors that no system call reports: a user's mistake, or a machine that cannot do the task.
"""

import sys


class FastsocketError(Exception):
    """Base class of UsageError and SetupError. The text is one line for a person to read."""


class UsageError(FastsocketError):
    """The arguments are wrong; the text says how to correct them."""


class SetupError(FastsocketError):
    """The arguments are valid, but this machine prevents it: a port in use, a missing device."""


class ClientDisconnected(ConnectionError):
    """The client has disconnected. An application's send() raises this."""


def told(command: str, error: FastsocketError | OSError) -> int:
    """Print an error as one line on standard error. Returns the exit code: 2 if the arguments are
    wrong, 1 if the machine prevents it."""
    print(f"aiofastsocket {command}: error: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
