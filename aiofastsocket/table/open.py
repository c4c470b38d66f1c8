"""Makes the listen table of a bound socket, over the backend in use.

Only this module asks for the backend. The table that it makes knows the rest.

    reuseport   the table has slots, which are the local listeners
    device      the kernel module has the local listeners behind the socket, one for each process
                that calls `spawn`; the table has no slots, counts, and accepts through the channel
    off         there are no local listeners: the socket is shared
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
    """Listen, with local listeners if the backend has them for this kind of socket.

    For the arguments see ListenTable. channel None shares the socket. slots=0 shares it if slots
    are the local listeners. Raises OSError, which names the call and the address.
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
    """Prepare this process to serve the table. On the device, give it a local listener, for core
    `cpu` or for one that the module chooses. On other backends, claims suffice."""
    if channel.backend == "device" and is_tcp(table.sock):
        channel.spawn_listen(table.sock, cpu)


def how_steered(channel: Channel, table: ListenTable) -> str:
    """Text for people: the destination of the table's new connections, and the reason."""
    info = table.info()
    if not info.shared:
        return f"{info.steer} ({info.why})"
    if channel.backend == "reuseport":
        return f"shared at {table.address} ({info.why})"
    return f"by the {channel.backend} backend"
