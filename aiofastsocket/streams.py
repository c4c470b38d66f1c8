"""The standard streams, descriptors 0 to 2: where one is closed, the next descriptor that anybody
opens gets its number, and everything that is meant for the stream.
"""

import os
import sys
from contextlib import suppress


def fill_standard_streams() -> None:
    """Open those that are closed on /dev/null, for this process and what it executes. Python's own
    sys.stdin, stdout and stderr stay None where they were closed when it started."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_standard_streams() -> None:
    """Have nothing in buffers that another process, or program, would write too."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # None, closed, or on a full disk
            stream.flush()
