"""What a service says of itself when it serves: where, how many, on what, steered how and why."""

from .bind import Listener
from .worker import Service


def start_line(service: Service, workers: int, *, pinned: bool) -> str:
    """All of it, for the log."""
    config, channel = service.config, service.channel
    scheme = "TLS " if config.tls.ssl_certfile else ""
    addresses = ", ".join(listener.address for listener in service.listeners)
    table = service.listeners[0].table
    cores = sorted({table.slot(number).cpu for number in range(workers)})
    ways = dict.fromkeys(steering(service, listener) for listener in service.listeners)
    return (
        f"serving {config.target or 'the built-in demo'} on {scheme}{addresses}: "
        f"{workers} {'worker' if workers == 1 else 'workers'} "
        f"{'pinned to' if pinned else 'for'} cores {', '.join(map(str, cores))}; "
        f"backend {channel.backend} ({channel.why}); steering {'; '.join(ways)}; loop {config.loop}"
    )


def steering(service: Service, listener: Listener) -> str:
    """Where its new connections go, and why."""
    info = listener.table.info()
    if not info.shared:
        return f"{info.steer} ({info.why})"
    if listener.foreign:
        return f"shared at {listener.address} (somebody else listens on this socket)"
    if service.channel.backend == "reuseport":
        return f"shared at {listener.address} ({info.why})"
    return f"by the {service.channel.backend} backend"
