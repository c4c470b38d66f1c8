"""The time that a connection's first request waited in the kernel.

The scope, the table, metrics and the log tell the same time. --shed-after limits it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.by_hand import Client, ask, get, scope_of
from support.client import connect, free_port, receive_all
from support.metrics import Steady, quantile, scrape
from support.service import COMMAND, Service, stand_still, until

from aiofastsocket import tables_of
from aiofastsocket.choices import LOOPS
from aiofastsocket.table.histogram import Histogram

Serve = Callable[..., Service]
STOPPED = 0.3  # seconds


def waits_of(pid: int) -> Histogram:
    """The waiting times of all slots of a process's tables."""
    found = Histogram()
    for view in tables_of(pid):
        with view:
            for slot in view.slots():
                found += view.waits(slot.slot)
    return found


def stop_for_a_while(load: Steady, pids: list[int]) -> None:
    """Stop these processes for a while in the middle of a steady load."""
    threads = load.send(60)
    for pid in pids:
        stand_still(pid)
    began = time.monotonic()
    while time.monotonic() - began < STOPPED:
        threads += load.send(1)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    for thread in threads + load.send(60):
        thread.join()


def near(told: float | None, measured: float) -> bool:
    """Whether both agree within 10 %, plus the delays of the client's threads on a busy machine."""
    return told is not None and abs(told - measured) <= 0.1 * measured + 0.03


def test_all_tell_the_same(serve: Serve) -> None:
    port = free_port()
    options = ["--workers", "2", "--queue-time", "--metrics", str(port), "--access-log-format"]
    service = serve("web:app", *options, "queued %(queue)s")
    workers = [slot.pid for slot in service.slots() if slot.pid]
    load = Steady(service.address)
    stop_for_a_while(load, workers)
    assert set(load.statuses) == {200}
    assert len(load.told) == len(load.took)
    client = quantile(load.took, 0.99)
    assert client > 0.8 * STOPPED
    assert near(quantile(load.told, 0.99), client)
    waits = waits_of(service.pid)
    assert waits.count == len(load.took)
    assert near(waits.quantile(0.99), client)
    assert near(scrape(port).quantile("queue_seconds", 0.99), client)
    logged = [float(line.split()[1]) for line in service.log().splitlines() if "queued" in line]
    assert sorted(logged) == pytest.approx(sorted(load.told), abs=1e-6)
    out = subprocess.run(
        [COMMAND, "stats", "--json", str(service.pid)], capture_output=True, text=True, check=True
    )
    slots = json.loads(out.stdout)[0]["slots"]
    assert near(max(slot["queue_time"]["p99"] or 0 for slot in slots), client)
    assert sum(slot["queue_time"]["count"] for slot in slots) == len(load.took)


def test_siblings_help_and_the_log_names_the_late_worker(serve: Serve) -> None:
    service = serve("web:app", "--workers", "2", "--queue-time", "--no-access-log")
    late = next(slot.pid for slot in service.slots() if slot.pid)
    load = Steady(service.address)
    stop_for_a_while(load, [late])
    assert set(load.statuses) == {200}
    assert quantile(load.told, 0.99) < 0.1
    service.wait_log(
        f"worker {late} (slot {service.slot_of(late).slot}) was late: other workers took"
    )
    assert service.slot_of(late).helped >= 1


def test_what_waited_too_long_is_not_served(serve: Serve) -> None:
    port = free_port()
    options = ["--workers", "1", "--shed-after", "0.1", "--metrics", str(port)]
    service = serve("web:app", *options)
    (worker,) = (slot.pid for slot in service.slots() if slot.pid)
    stand_still(worker)
    clients = [connect(service.address) for _ in range(3)]
    for client in clients:
        client.sendall(get("/hello"))
    time.sleep(0.2)
    os.kill(worker, signal.SIGCONT)
    for client in clients:
        answer = receive_all(client)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        client.close()
    with Client(service.address) as kept:  # the waits of its later requests are not known
        kept.send(get("/hello"))
        assert kept.answer().status == 200
        stand_still(worker)
        kept.send(get("/hello"))
        time.sleep(0.2)
        os.kill(worker, signal.SIGCONT)
        assert kept.answer().status == 200
    told = scrape(port)
    assert told['requests_refused_total{reason="queue_time"}'] == 3
    assert told['requests_total{code="5xx"}'] == 3
    assert told['requests_total{code="2xx"}'] == 2


def test_the_first_request_of_a_connection_is_told(serve: Serve) -> None:
    service = serve("web:app", "--queue-time")
    with Client(service.address) as client:
        for first in (True, False):
            client.send(get("/scope"))
            scope = json.loads(client.answer().body)
            assert ("aiofastsocket.queue_time" in scope["extensions"]) == first
    # The client is accepted before it sends anything, unlike with deferred accept.
    service = serve("web:app", "--queue-time", "--no-defer-accept")
    with Client(service.address) as client:
        until(lambda: sum(slot.open or 0 for slot in service.slots()) == 1, "it is accepted")
        client.send(get("/scope"))
        scope = json.loads(client.answer().body)
        assert 0 <= scope["extensions"]["aiofastsocket.queue_time"]["seconds"] < 10
    assert waits_of(service.pid).count == 1


def test_queue_time_is_not_told_unless_asked_for(serve: Serve) -> None:
    service = serve("web:app")
    scope = scope_of(service, get("/scope"))
    assert "aiofastsocket.queue_time" not in scope["extensions"]


def test_unix_sockets_have_no_such_time(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    service = serve("web:app", "--queue-time", "--shed-after", "0.1", "--bind", f"unix:{path}")
    with Client(path) as client:
        client.send(get("/scope"))
        scope = json.loads(client.answer().body)
    assert "aiofastsocket.queue_time" not in scope["extensions"]
    assert waits_of(service.pid).count == 0


def test_wsgi(serve: Serve) -> None:
    service = serve("old:app", "--interface", "wsgi", "--queue-time")
    environ: dict[str, Any] = json.loads(ask(service, get("/environ")).body)
    assert 0 <= float(environ["aiofastsocket.queue_time"]) < 10


PROGRAM = """
import asyncio, socket, sys, aiofastsocket

class Once(asyncio.{kind}):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data); self.transport.close()
    def get_buffer(self, hint): self.room = bytearray(100); return self.room
    def buffer_updated(self, count): self.data_received(bytes(self.room[:count]))

async def main():
    server = await asyncio.get_running_loop().create_server(Once, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

aiofastsocket.run(main(), loop=sys.argv[1])
"""


@pytest.mark.parametrize("kind", ["Protocol", "BufferedProtocol"])
@pytest.mark.parametrize("loop", LOOPS)
def test_programs_on_the_loops(loop: str, kind: str) -> None:
    command = [sys.executable, "-c", PROGRAM.format(kind=kind), loop]
    with subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        address = ("127.0.0.1", int(program.stdout.readline()))
        try:
            until(lambda: any(s.live for v in tables_of(program.pid) for s in v.slots()), "live")
            stand_still(program.pid)
            with connect(address) as client:
                client.sendall(b"x")
                time.sleep(STOPPED)
                os.kill(program.pid, signal.SIGCONT)
                assert receive_all(client) == b"x"
            with connect(address) as client:
                time.sleep(0.05)
                client.sendall(b"x")
                assert receive_all(client) == b"x"
            waits = waits_of(program.pid)
            assert waits.count == 2
            assert STOPPED * 0.9 < (waits.quantile(1) or 0) < 10
            assert (waits.quantile(0.5) or 0) < 0.1
        finally:
            os.kill(program.pid, signal.SIGCONT)
            program.kill()
