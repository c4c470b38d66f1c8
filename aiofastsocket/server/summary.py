"""The log line of a service that begins to serve: its addresses, workers, backend and steering."""

from ..table.open import how_steered
from .bind import Listener
from .worker import Setup


def start_line(setup: Setup, workers: int, *, pinned: bool) -> str:
    """The whole line, for the log."""
    config, channel = setup.config, setup.channel
    scheme = "TLS " if config.tls.ssl_certfile else ""
    addresses = ", ".join(one.address for one in setup.listeners if not one.redirects)
    if origin := config.binds[0].origin:
        addresses += f" ({origin})"
    if plain := ", ".join(one.address for one in setup.listeners if one.redirects):
        addresses += f" (plain HTTP at {plain} is redirected to TLS)"
    table = setup.listeners[0].table
    cores = sorted({table.slot(number).cpu for number in range(workers)})
    ways = dict.fromkeys(steering(setup, listener) for listener in setup.listeners)
    return (
        f"serving {config.target or 'the built-in demo'} on {scheme}{addresses}: "
        f"{workers} {'worker' if workers == 1 else 'workers'} "
        f"{'pinned to' if pinned else 'for'} {'core' if len(cores) == 1 else 'cores'} "
        f"{', '.join(map(str, cores))}; "
        f"backend {channel.backend} ({channel.why}); steering {'; '.join(ways)}; loop {config.loop}"
    )


def steering(setup: Setup, listener: Listener) -> str:
    """The steering of a listener's new connections, and the reason for it."""
    if listener.foreign:
        return f"shared at {listener.address} (another process listens on this socket)"
    return how_steered(setup.channel, listener.table)
