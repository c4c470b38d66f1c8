"""From a bound socket to its listen table, over whichever backend there is: the one place that asks
which. What was made there knows the rest.

    reuseport   the table has slots, which are the local listeners
    device      the kernel module has them behind the socket, one for each process that asks
                (`spawn`); the table has none, counts, and accepts through the channel
    off         nobody has any: the socket is shared
"""

import socket

from ..address import is_tcp
from ..channel import Channel
from .table import ListenTable


def open_table(
    channel: Channel | None,
    sock: socket.socket,
    *,
    slots: int | None,
    backlog: int,
    steer: str,
    records: int = 0,
    first_is_slot: bool = False,
    supervised: bool = False,
) -> ListenTable:
    """Listen, with local listeners where the backend has some for such a socket. See ListenTable;
    channel None shares the socket, slots=0 does where slots are the local listeners.

    Raises OSError naming the call and the address.
    """
    backend = channel.backend if channel is not None and is_tcp(sock) else "off"
    device = channel if backend == "device" else None
    if device is not None:
        device.listen(sock, backlog)
    table = ListenTable(
        sock,
        slots=slots if backend == "reuseport" else 0,
        records=records,
        backlog=backlog,
        steer=steer,
        first_is_slot=first_is_slot,
        supervised=supervised,
        all_served=True,
        timed=True,
    )
    if device is not None:
        table.accept_through(device)
    return table


def spawn(channel: Channel, table: ListenTable, cpu: int = -1) -> None:
    """This process is about to serve the table: on the device it gets a local listener, for that
    core, or one that the module chooses. Elsewhere claims are all there is."""
    if channel.backend == "device" and is_tcp(table.sock):
        channel.spawn_listen(table.sock, cpu)


def how_steered(channel: Channel, table: ListenTable) -> str:
    """Where the table's new connections go, and why: for people."""
    info = table.info()
    if not info.shared:
        return f"{info.steer} ({info.why})"
    if channel.backend == "reuseport":
        return f"shared at {table.address} ({info.why})"
    return f"by the {channel.backend} backend"
