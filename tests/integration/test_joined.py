"""Another process's socket joins a table's address by SO_REUSEPORT.

One process says so in one line, and the steering leaves that socket out.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from support.client import Address, connect
from support.sandbox import refusing
from support.service import Service, until
from support.workers import Greeter, Workers, bound, serve_table, shake

from aiofastsocket import ListenTable
from aiofastsocket.choices import LOOPS
from aiofastsocket.loop import serving

SO_ATTACH_REUSEPORT_CBPF = 51
SAID = "another socket listens there too"
STRANGER = """
import asyncio, sys

async def handle(reader, writer):
    writer.write(b"0")
    writer.close()

async def main():
    await asyncio.start_server(
        handle,
        sys.argv[1], int(sys.argv[2]), reuse_port=True,
    )
    print("listens", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def serve_and_log(table: ListenTable, loop: str) -> None:
    logging.getLogger().handlers[:] = [logging.StreamHandler(os.fdopen(2, "w", closefd=False))]
    serve_table(table, loop, Greeter)


@contextmanager
def stranger(address: Address) -> Iterator[None]:
    """Run a server on plain asyncio that answers 0."""
    command = [sys.executable, "-c", STRANGER, address[0], str(address[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)  # takes 10 s
def test_a_stranger_at_the_services_address(serve: Callable[..., Service]) -> None:
    service = serve("targets:Who", "--workers", "2")
    with stranger(service.address):
        service.wait_log(SAID)
        assert set(shake(service.address, 50)) <= set(service.workers())
        first = service.workers()[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: len(set(service.workers()) - {first}) == 2, "a new worker")
        assert set(shake(service.address, 50)) <= set(service.workers())
    assert service.log().count(SAID) == 1
    assert set(shake(service.address, 50)) <= set(service.workers())


@pytest.mark.long
@pytest.mark.parametrize("loop", ["uvloop"], indirect=True)
def test_a_stranger_where_nothing_steers(serve: Callable[..., Service]) -> None:
    """Without steering the other socket gets its share, and the log says so."""
    no_program = refusing(f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}")
    service = serve("targets:Who", "--workers", "2", wrapper=no_program)
    with stranger(service.address):
        service.wait_log(SAID)
        with ExitStack() as stack:  # it sends first; at least one of 100 is its own
            clients = [stack.enter_context(connect(service.address)) for _ in range(100)]
            until(lambda: select.select(clients, [], [], 0)[0], "the other server has some")
    assert "it takes its share of the new connections" in service.log()
    assert "steered past it" not in service.log()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stranger_at_the_loops_address(
    loop: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.05)
    with bound() as sock, ListenTable(sock, slots=3) as table:
        address = sock.getsockname()
        with Workers(table, partial(serve_and_log, table, loop), 2) as workers:
            time.sleep(0.2)
            assert SAID not in capfd.readouterr().err
            with stranger(address):
                assert set(shake(address, 50, request=b"")) <= set(workers.pids)
                workers.kill_each_once()
                assert set(shake(address, 50, request=b"")) <= set(workers.pids)
                time.sleep(0.2)
        assert capfd.readouterr().err.count(SAID) == 1
