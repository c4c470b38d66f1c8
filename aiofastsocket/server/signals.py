"""Signals, signal(7): what the service acts on, and what it does not let end it.

The default action of most signals ends a process. None of them is to end a supervisor or a worker
that nobody asked to end: a logrotate script sends USR1, a timer of somebody's ALRM. They get a
handler that does nothing; never SIG_IGN, which what is executed would inherit. An application's own
handlers, in a worker, are put in place later, and win. What stays as it is: faults (SEGV, BUS, ILL,
FPE, ABRT, TRAP, SYS), limits that somebody has set (XCPU, XFSZ), and job control (TSTP, CONT).
"""

import signal

ACTED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)
"""What the supervisor has handlers for, and a worker must not inherit them."""

UNHEEDED = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGSTKFLT,
    *map(int, range(signal.SIGRTMIN, signal.SIGRTMAX + 1)),
)
"""What means nothing to it."""


def nothing(*_: object) -> None:
    """A handler that does nothing."""


def unheed() -> None:
    """From now on in this process, and its forks, none of them ends it."""
    for number in UNHEEDED:
        signal.signal(number, nothing)


def name_of(number: int) -> str:
    """As people write it: USR1, RTMIN+3."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"
