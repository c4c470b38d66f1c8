"""`--user` and `--group`: the privileges that a forked child drops."""

import os
import signal

from .._native import check, lib
from .config import Config


def drop(config: Config, supervisor: int, end: int = signal.SIGTERM) -> None:
    """Become the user and group of the options, and get the signal `end` when the supervisor ends.
    Raises OSError if that is refused, or if the supervisor has ended."""
    ids = config.ids()
    if ids is not None and os.geteuid() == 0:
        uid, gid = ids
        if config.user is not None and not config.user.isdecimal():
            os.initgroups(config.user, gid)
        else:
            os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of credentials, which would clear it: prctl(2).
    check(lib.fs_parent_death_signal(end, supervisor), "supervisor is gone")
