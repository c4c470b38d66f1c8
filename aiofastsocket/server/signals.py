"""Signals, signal(7): those that the service acts on, and those that must not end it.

The default action of most signals ends a process. A supervisor or a worker must not end by a signal
that does not ask for it: a logrotate script sends USR1, a timer sends ALRM. These signals get a
handler that does nothing; never SIG_IGN, which executed programs would inherit. An application
installs its own handlers later, in a worker, and they have priority. These signals keep their
default action: faults (SEGV, BUS, ILL, FPE, ABRT, TRAP, SYS), limits (XCPU, XFSZ), and job control
(TSTP, CONT).
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
"""The signals that the supervisor has handlers for; a worker must not inherit these handlers."""

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
"""The signals that must not end the service."""


def nothing(*_: object) -> None:
    """A handler that does nothing."""


def unheed() -> None:
    """From now on, no signal of UNHEEDED ends this process or its forks."""
    for number in UNHEEDED:
        signal.signal(number, nothing)


def name_of(number: int) -> str:
    """The name of a signal as people write it: USR1, RTMIN+3."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"
