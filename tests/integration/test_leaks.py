"""A server has not grown after a hundred thousand connections."""

import asyncio
import gc
import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from support.client import ask
from support.service import until
from support.workers import bound, fork, serve_table, shake

from aiofastsocket import ListenTable, new_event_loop
from aiofastsocket.choices import LOOPS

WARM, CONNECTIONS = 20_000, 80_000
# An allocator's arenas come and go; a leak of one small object per connection is 4 MiB.
SLACK_BYTES = 1 << 20


class Census(asyncio.Protocol):
    """Reports the tasks of its process, and the objects that the collector knows."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data == b"census\n":
            gc.collect()
            self.transport.write(b"%d %d\n" % (len(asyncio.all_tasks()), len(gc.get_objects())))
        else:
            self.transport.write(b"%d\n" % os.getpid())
        self.transport.close()


@pytest.mark.parametrize("name", LOOPS)
def test_connections_that_a_closed_loop_leaves(name: str) -> None:
    """Each is closed when it is collected, with a warning, and its client sees the end."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        loop = new_event_loop(name)
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
        loop.run_until_complete(asyncio.sleep(0.1))
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del loop, server
        with pytest.warns(ResourceWarning, match="unclosed transport") as warned:
            gc.collect()
        assert len(warned) == 20
        for client in clients:
            client.settimeout(30)
            assert client.recv(1) == b""
            client.close()
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def resident(pid: int) -> int:
    """Resident memory in bytes: proc(5), /proc/pid/statm."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.long
@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_grows(loop: str) -> None:
    with bound() as sock, ListenTable(sock, slots=2, steer="spread") as table:
        address = sock.getsockname()
        pid = fork(partial(serve_table, table, loop, Census))
        until(lambda: any(slot.live for slot in table.slots()), "it serves")

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        idle = descriptors()

        def census() -> list[int]:
            return [int(part) for part in ask(address, b"census\n").split()]

        try:
            shake(address, WARM)
            tasks, objects = census()
            before = resident(pid)
            shake(address, CONNECTIONS)
            tasks_after, objects_after = census()
            assert resident(pid) - before < SLACK_BYTES
            assert tasks_after == tasks
            # The end of a connection reaches its client before the descriptor is closed.
            until(lambda: descriptors() == idle, "all descriptors are closed")
            assert abs(objects_after - objects) < 100
            slots = table.slots()
            assert sum(slot.own for slot in slots) == WARM + CONNECTIONS + 2
        finally:
            os.kill(pid, signal.SIGTERM)
            assert os.waitpid(pid, 0)[1] == 0
