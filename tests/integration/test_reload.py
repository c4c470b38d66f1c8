"""HUP, TTIN, TTOU and TERM under load lose no connection."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balance import check_spread
from support.client import Load, ask, connect, receive_all
from support.service import ORDINARY, Service, until

Serve = Callable[..., Service]

SAY = """
import asyncio

class Say(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write({text!r})
        self.transport.close()
"""


@pytest.mark.parametrize("accept", ["--defer-accept", "--no-defer-accept"])
def test_reload_under_load_loses_nothing(serve: Serve, accept: str) -> None:
    service = serve("targets:Who", "--workers", "2", "--steer", "spread", accept)
    with Load(service.address) as load:
        for number in range(10):
            old = service.owners()
            load.more(50)
            service.send(signal.SIGHUP)
            service.wait_log("reloaded: 2 new workers serve", number + 1)
            until(lambda: service.settled(2), "the old workers ended")
            assert not set(old) & set(service.owners())
    assert load.outcomes.keys() == {"answered"}, load.outcomes
    total = load.outcomes.total()
    until(lambda: service.accepted() == total, "each is counted once")  # attempts count, too
    check_spread(service)


def test_reload_brings_the_new_code(serve: Serve, tmp_path: Path) -> None:
    app = tmp_path / "say.py"
    app.write_text(SAY.format(text=b"first"))
    service = serve("say:Say", "--workers", "2", "--app-dir", str(tmp_path))
    assert ask(service.address) == b"first"

    app.write_text("import nothing_of_that_name\n")
    old = service.owners()
    service.send(signal.SIGHUP)
    service.wait_log("reload failed: the old workers continue to serve")
    until(lambda: service.settled(2), "the failed workers ended")
    assert service.owners() == old
    assert ask(service.address) == b"first"
    assert service.log().count("Traceback") == 1

    app.write_text(SAY.format(text=b"second"))
    service.send(signal.SIGHUP)
    service.wait_log("reloaded")
    until(lambda: service.settled(2), "the old workers ended")
    assert ask(service.address) == b"second"


def test_preloaded_code_stays_and_says_so(serve: Serve, tmp_path: Path) -> None:
    app = tmp_path / "say.py"
    app.write_text(SAY.format(text=b"first"))
    service = serve("say:Say", "--workers", "1", "--app-dir", str(tmp_path), "--preload")
    app.write_text(SAY.format(text=b"second"))
    service.send(signal.SIGHUP)
    service.wait_log("the code is not reloaded (--preload)")
    service.wait_log("reloaded: 1 new worker serves")
    assert ask(service.address) == b"first"


@pytest.mark.parametrize("wrapper", [(), ORDINARY], ids=["root", "ordinary"])
@pytest.mark.parametrize("accept", ["--defer-accept", "--no-defer-accept"])
def test_term_under_load_answers_every_client(
    serve: Serve, accept: str, wrapper: tuple[str, ...]
) -> None:
    arguments = ("targets:Who", "--workers", "2", "--steer", "spread")
    service = serve(*arguments, accept, wrapper=wrapper)
    address = service.address
    with Load(address) as load:
        load.more(300)
        silent = [connect(address) for _ in range(5)]
        service.send(signal.SIGTERM)
        time.sleep(0.2)
        for client in silent:
            client.sendall(b"who\n")
        answers = [receive_all(client) for client in silent]
        assert service.process.wait(30) == 0
    for client in silent:
        client.close()
    assert all(answers)
    assert load.outcomes.keys() <= {"answered", "refused"}, load.outcomes
    assert load.outcomes["answered"] >= 300
    assert "WARNING" not in service.log()


def test_term_waits_for_answers_in_progress(serve: Serve) -> None:
    service = serve("targets:Later", "--workers", "2")
    clients = [connect(service.address) for _ in range(10)]
    for client in clients:
        client.sendall(b"who\n")
    until(lambda: service.accepted() == 10, "all are accepted")
    service.send(signal.SIGTERM)
    assert all(receive_all(client).strip().isdigit() for client in clients)
    for client in clients:
        client.close()
    assert service.process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_does_not_wait(serve: Serve, number: signal.Signals) -> None:
    service = serve("targets:Who", "--workers", "2", "--timeout-graceful-shutdown", "3600")
    with connect(service.address) as idle:
        until(lambda: service.accepted() == 1, "it is accepted")
        assert service.stop(number) == 0
        assert receive_all(idle) == b""


def test_a_second_signal_makes_haste(serve: Serve) -> None:
    options = ("--timeout-graceful-shutdown", "3600")
    service = serve("targets:Who", "--workers", "2", *options, wrapper=ORDINARY)
    with connect(service.address):
        until(lambda: service.accepted() == 1, "it is accepted")
        service.send(signal.SIGTERM)
        service.wait_log("stopping")
        assert service.stop(signal.SIGINT) == 0
    assert "WARNING" not in service.log()


def test_retired_slots_queue_is_drained(serve: Serve) -> None:
    """A slot that TTOU took out of service still gets the connections on their way to it."""
    service = serve("targets:Who", "--workers", "2", "--steer", "spread", "--defer-accept")
    silent = [connect(service.address) for _ in range(20)]  # half-open on either slot
    service.send(signal.SIGTTOU)
    until(lambda: service.settled(1), "one worker is left")
    for client in silent:
        client.sendall(b"who\n")
    answers = {receive_all(client) for client in silent}
    for client in silent:
        client.close()
    assert answers == {b"%d\n" % service.owners()[0]}
    assert service.slots()[0].orphan > 0


@pytest.mark.long
def test_a_thousand_events(serve: Serve) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    service = serve("targets:Who", "--workers", "4", "--slots", "16", "--steer", "spread")
    wanted = 4
    for _ in range(1000):
        kind = chance.choices(["TTIN", "TTOU", "KILL", "HUP"], [4, 4, 4, 1])[0]
        if kind == "KILL":
            # Any owner, ready or not. One that never became ready may count as a failed start.
            pids = service.owners()
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
        else:
            service.send(signal.Signals[f"SIG{kind}"])
        time.sleep(0.005)
    assert service.process.poll() is None, service.log()
    assert "worker failed" not in service.log()
    until(
        lambda: any(service.settled(wanted) for wanted in range(1, 17)),
        "claims, page and workers agree",
        60,
    )
    wanted = len(service.workers())
    before = service.slots()
    for _ in range(400):
        assert ask(service.address).strip().isdigit()
    after = service.slots()
    arrived = [b.arrived - a.arrived for a, b in zip(before, after, strict=True)]
    # The steering follows the page: each live slot got connections, no other slot did.
    assert sum(arrived) == 400
    assert all(bool(count) == slot.live for count, slot in zip(arrived, after, strict=True))
    while wanted > 2:
        service.send(signal.SIGTTOU)
        wanted -= 1
        until(lambda: service.settled(wanted), "one fewer")  # noqa: B023
    while wanted < 2:
        service.send(signal.SIGTTIN)
        wanted += 1
    until(lambda: service.settled(2), "two workers")
    check_spread(service)


def test_a_crash_just_before_a_reload(serve: Serve) -> None:
    """The dead worker's successor and the new generation's worker become ready in any order."""
    service = serve("targets:Who", "--workers", "2", "--steer", "spread")
    for round_ in range(1, 13):
        os.kill(service.owners()[0], signal.SIGKILL)
        service.send(signal.SIGHUP)
        service.wait_log("reloaded", round_)
        until(lambda: service.settled(2), "the new workers are in charge", 10)
    assert ask(service.address)
