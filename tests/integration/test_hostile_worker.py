"""No write of a worker into the page that all processes share can break the service."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from support.client import ask, connect, receive_all
from support.service import COMMAND, Service, stand_still, until

from aiofastsocket import tables_of

Serve = Callable[..., Service]


@pytest.fixture
def service(serve: Serve) -> Iterator[Service]:
    """A service whose workers run as the user nobody, if the tests run as root."""
    user = ("--user", "nobody") if os.geteuid() == 0 else ()
    arguments = ("--workers", "3", "--steer", "spread", "--preload", *user)
    service = serve("hostile:Hostile", *arguments)
    yield service
    assert service.process.poll() is None, service.log()
    assert service.stop() == 0


def looks_on(service: Service) -> None:
    """Run `stats` by root while a page is written: it may find nothing, but does not crash."""
    done = subprocess.run([COMMAND, "stats", str(service.pid)], capture_output=True, timeout=60)
    assert done.returncode in (0, 1), done
    assert b"Traceback" not in done.stderr, done


def check_healthy(service: Service, reloads: int) -> None:
    service.send(signal.SIGHUP)
    service.wait_log("new workers serve", reloads)
    until(lambda: service.settled(3), "three new workers serve")
    workers = {b"%d\n" % pid for pid in service.workers()}
    assert {ask(service.address) for _ in range(20)} <= workers
    assert service.accepted() >= 20


def test_the_page_cannot_be_cut_or_sealed(service: Service) -> None:
    for what in ("shrink", "grow", "seal"):
        assert ask(service.address, b"refused %s" % what.encode()) == b"Operation not permitted"
    check_healthy(service, 1)


@pytest.mark.programs  # it takes 10 s
def test_scribbling_for_ten_seconds(service: Service) -> None:
    scribbled(service, "random", 10, killed=True)


@pytest.mark.parametrize("what", ["random", "zeros", "held", "flags"])
def test_scribbling_all_over_the_page(service: Service, what: str) -> None:
    scribbled(service, what, 1, killed=True)


def test_scribbling_and_going_on(service: Service) -> None:
    scribbled(service, "random", 1, killed=False)


def scribbled(service: Service, what: str, seconds: int, killed: bool) -> None:
    """Let one worker write all over the page; the service is healthy after a reload."""
    end = time.monotonic() + seconds
    request = b"scribble %s %d" % (what.encode(), 60 if killed else seconds)
    attacker = int(ask(service.address, request))
    while time.monotonic() < end:
        with suppress(OSError), connect(service.address) as client:
            client.settimeout(0.5)
            client.sendall(b"who\n")
            receive_all(client)
        looks_on(service)
    if killed:
        os.kill(attacker, signal.SIGKILL)
        until(partial(is_gone, service, attacker), "the supervisor noticed")
    else:
        until(lambda: not maps(attacker), "the worker has stopped writing")
    check_healthy(service, 1)
    service.wait_log("restored")
    check_healthy(service, 2)


def maps(pid: int) -> bool:
    """Whether this process maps the page once more than the others."""
    return Path(f"/proc/{pid}/maps").read_text().count("fastsocket-table") > 1


@pytest.mark.parametrize("what", ["filter", "bell"])
def test_what_the_listeners_and_the_bell_allow(service: Service, what: str) -> None:
    """After this the kernel refuses root's steering programs, or a ring could wait for ever."""
    attacker = int(ask(service.address, what.encode()))
    for reload in (1, 2):
        os.kill(attacker, signal.SIGKILL)
        until(partial(is_gone, service, attacker), "the supervisor noticed")
        until(lambda: service.settled(3), "it was replaced")
        service.send(signal.SIGHUP)
        service.wait_log("new workers serve", reload)
        until(lambda: service.settled(3), "the old workers are gone")
        attacker = service.workers()[0]
    assert {len(ask(service.address)) > 0 for _ in range(20)} == {True}


def shared_memory(pid: int) -> list[tuple[int, int]]:
    """The ranges of all workers' pages that this process maps (offsets): proc(5), maps."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    found = []
    for line in lines:
        if "aiofastsocket-work" in line:
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            offset = int(line.split()[2], 16)
            found.append((offset, offset + end - begin))
    return found


def test_no_other_worker_can_write_a_workers_pulse(service: Service) -> None:
    """The supervisor reads each worker's state from memory that no other worker maps."""
    for killed in (False, True):
        if killed:
            victim = service.workers()[0]
            os.kill(victim, signal.SIGKILL)
            until(partial(is_gone, service, victim), "the supervisor noticed")
            until(lambda: service.settled(3), "it was replaced")
        ((_, end),) = shared_memory(service.pid)
        own = [shared_memory(pid) for pid in service.workers()]
        assert [len(pages) for pages in own] == [1, 1, 1]
        assert len({begin for ((begin, _),) in own}) == 3
        for ((first, last),) in own:
            assert 0 < first < last <= end
            assert last - first == resource.getpagesize()
        for pid in service.workers():  # nor does it have a descriptor to map more with
            links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
            assert not [link for link in links if "aiofastsocket-work" in link]


def test_dying_with_the_lock(service: Service) -> None:
    """`held` writes the worker's id into every word, and a killed worker cleans nothing up."""
    for reload in range(1, 4):
        attacker = int(ask(service.address, b"scribble held 60"))
        stand_still(attacker)
        os.kill(attacker, signal.SIGKILL)
        until(partial(is_gone, service, attacker), "the supervisor noticed")
        check_healthy(service, reload)


def is_gone(service: Service, worker: int) -> bool:
    return worker not in service.workers()


def test_a_file_with_that_name_that_is_not_a_page() -> None:
    """Observers read the files of other processes: any file may have the name of a page."""
    fd = os.memfd_create("fastsocket-table")
    try:
        os.ftruncate(fd, 1 << 16)  # not sealed: truncating it may kill a process that maps it
        with pytest.raises(OSError, match="attach"):
            list(tables_of(os.getpid()))
    finally:
        os.close(fd)
