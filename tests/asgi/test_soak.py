"""300,000 requests of mixed kinds, some aborted: memory and descriptors stay flat."""

import gc
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.by_hand import Client, get
from support.service import Service, memory, until

from aiofastsocket.proc import children

pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]

Serve = Callable[..., Service]

REQUESTS = 300_000
HANDSHAKE = get(
    *("/echo", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
FRAME = bytes([0x81, 0x83, 0, 0, 0, 0]) + b"abc"
CHUNKS = get("/echo", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n"
BODY = get("/echo", "Content-Length: 3", method="POST") + b"abc"


def many(client: Client, request: bytes, count: int) -> int:
    """Send `count` pipelined requests, which are all answered."""
    client.send(request * count)
    for _ in range(count):
        assert client.answer().status in (200, 500)
    return count


def websocket(client: Client) -> int:
    client.send(HANDSHAKE)
    assert client.answer().status == 101
    client.send(FRAME * 50)
    assert client.exactly(50 * 5) == b"\x81\x03abc" * 50
    return 51


def aborted(client: Client, chance: random.Random) -> int:
    """Leave at a random point of a request, by a FIN or a reset."""
    request = chance.choice([BODY, CHUNKS, HANDSHAKE + FRAME, get("/megabytes?1"), get("/slow")])
    client.send(request[: chance.randrange(1, len(request) + 1)])
    if chance.random() < 0.5:
        client.reset()
    return 1


def some(service: Service, chance: random.Random) -> int:
    with Client(service.address) as client:
        match chance.randrange(10):
            case 0:
                return websocket(client)
            case 1 | 2 | 3:
                return aborted(client, chance)
            case 4:
                return many(client, chance.choice([BODY, CHUNKS]), 50)
            case 5:
                return many(client, get("/parts"), 5)
            case 6:
                return many(client, get("/raises"), 1)
            case _:
                return many(client, get("/hello"), 400)


@pytest.mark.parametrize("loop", ["uvloop"])
@pytest.mark.parametrize("collector", ["on", "off"])
def test_nothing_grows(serve: Serve, tmp_path: Path, collector: str) -> None:
    """Nothing grows without the garbage collector, either: finished requests free their objects."""
    (tmp_path / "soaked.py").write_text(
        "import gc, sys, logging\n"
        "from web import app\n"
        f"if {collector == 'off'}: gc.disable()\n"
        "logging.getLogger('aiofastsocket').setLevel('CRITICAL')\n"
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[1] / "support" / "app")}
    more = ("--workers", "1", "--no-access-log", "--app-dir", str(tmp_path))
    service = serve("soaked:app", *more, env=env)
    (worker,) = children(service.pid)
    chance = random.Random(1)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{worker}/fd"))

    def until_idle() -> None:
        until(lambda: descriptors() <= idle, "no connection is left")

    idle, done = descriptors(), 0
    while done < REQUESTS // 5:
        done += some(service, chance)
    until_idle()
    before = memory(service)
    while done < REQUESTS:
        done += some(service, chance)
    until_idle()
    # If each request left a tenth of its objects, that would be more.
    assert memory(service) - before < 4 * 1024, (before, memory(service))
    gc.collect()
    assert service.stop() == 0
