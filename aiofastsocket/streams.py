"""The standard streams, descriptors 0 to 2.

If one is closed, the next descriptor that the process opens gets its number, and with the number
all data meant for the stream.
"""

import os
import sys
from contextlib import suppress


def fill_standard_streams() -> None:
    """Open closed standard streams on /dev/null, for this process and programs that it executes.

    Python's sys.stdin, stdout and stderr stay None if they were closed when Python started.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_standard_streams() -> None:
    """Empty the buffers before a fork, which writes them twice, or an exec, which loses them."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # None, closed, or on a full disk
            stream.flush()
