"""nginx, HAProxy and lighttpd: plain, with libfsocket.so on the device and on the stock kernel, and
nginx with a library written from the header that was published in 2014.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from programs.conftest import Start
from programs.servers import haproxy, lighttpd, nginx
from support.client import HTTP, Load, OnCore, outcome
from support.programs import Program, ab
from support.service import until

from aiofastsocket.kernel import DeviceCore, device_cores
from aiofastsocket.proc import family

from .conftest import PROGRAMS

pytestmark = pytest.mark.kernel

REQUESTS = 500


def cores(program: Program) -> list[DeviceCore]:
    return [c for c in device_cores() if c.address.endswith(f":{program.port}")]


def accepted(program: Program) -> int:
    return sum(c.own + c.global_ + c.adopted for c in cores(program))


@pytest.fixture(params=["plain", "device", "reuseport"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begin(start: Start, make: Callable[..., Program], backend: str, **options: object) -> Program:
    settings = {} if backend == "plain" else {"FSOCKET_BACKEND": backend}
    program = start(make, backend != "plain", settings=settings, **options)
    if backend == "device":
        assert "backend device: /dev/fastsocket is present" in program.log.read_text()
    return program


def settings_of(make: Callable[..., Program]) -> Callable[..., Program]:
    """A function of `servers` with `settings`, which not all of them take."""

    def made(
        folder: Path, port: int, preloaded: bool, *, settings: dict[str, str], **options: object
    ) -> Program:
        saved = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            return make(folder, port, preloaded, **options)
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value

    return made


@pytest.mark.parametrize(
    ("make", "options"),
    [(nginx, {"workers": 2}), (haproxy, {"threads": 2}), (lighttpd, {"workers": 2})],
    ids=["nginx", "haproxy", "lighttpd"],
)
def test_servers_answer_on_the_device_as_without(
    start: Start, make: Callable[..., Program], options: dict[str, int], backend: str
) -> None:
    program = begin(start, settings_of(make), backend, **options)
    ab(program.port, REQUESTS, 8)
    if backend == "device":
        assert accepted(program) >= REQUESTS
        if make is not haproxy:  # its threads are one process, with one local listener
            until(lambda: sum(c.live for c in cores(program)) == 2, "each has a local listener")
            before = {c.core: c.own for c in cores(program)}
            for core in (0, 1):
                with OnCore(core):
                    assert {outcome(program.address, HTTP) for _ in range(50)} == {"answered"}
            after = {c.core: c.own for c in cores(program)}
            print("own:", before, after)
            assert after[0] - before[0] + after[1] - before[1] >= 80
    else:
        assert cores(program) == []
    program.stop(signal.SIGTERM)


def test_nginx_reload_and_kills(start: Start) -> None:
    program = begin(start, settings_of(nginx), "device", workers=2)
    with Load(program.address, threads=2, kind=HTTP) as load:
        for _ in range(2):
            load.more(30)
            os.kill(program.pid, signal.SIGHUP)
            load.more(30)
        assert set(load.outcomes) == {"answered"}, load.outcomes
        workers = set(family(program.pid)) - {program.pid}
        victim = max(workers)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in family(program.pid), "the worker has ended")
        load.more(30)
    # A killed worker takes the connections that it had accepted with it, and nothing else.
    assert set(load.outcomes) <= {"answered", "reset"}, load.outcomes
    assert load.outcomes["reset"] <= 2, load.outcomes
    program.stop(signal.SIGQUIT)


def test_the_way_of_2014(start: Start) -> None:
    def made(folder: Path, port: int, preloaded: bool) -> Program:
        os.environ["LD_PRELOAD"] = str(PROGRAMS / "preload2014.so")
        try:
            return nginx(folder, port, preloaded, workers=2)
        finally:
            del os.environ["LD_PRELOAD"]

    program = start(made, False)
    ab(program.port, REQUESTS, 8)
    until(lambda: accepted(program) >= REQUESTS, "all connections came through the device")
    until(lambda: sum(c.live for c in cores(program)) == 2, "each has a core's local listener")
    for core in (0, 1):
        before = {c.core: c.own for c in cores(program)}
        with OnCore(core):
            assert {outcome(program.address, HTTP) for _ in range(50)} == {"answered"}
        after = {c.core: c.own for c in cores(program)}
        assert after[core] - before[core] >= 45
    program.stop(signal.SIGQUIT)
