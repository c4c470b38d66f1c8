"""Some kernels and sandboxes refuse calls of the set-up; a service and the loops go on without.

gVisor, old container runtimes and systemd's SystemCallFilter do this. The log says so once.
Such a kernel is not available here: seccomp(2) stands in for it, and refuses each call with every
error that those are known to give.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from support.client import Load, ask
from support.sandbox import refusing
from support.service import Service, session_members, until

Serve = Callable[..., Service]

ERRORS = [errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ENOPROTOOPT]

SO_REUSEADDR, SO_REUSEPORT, SO_ATTACH_FILTER, SO_DETACH_FILTER = 2, 15, 26, 27
SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN = 30, 38, 39
SO_ATTACH_REUSEPORT_CBPF, SO_COOKIE, SO_BINDTOIFINDEX = 51, 57, 62
TCP_NODELAY, TCP_DEFER_ACCEPT, TCP_INFO = 1, 9, 11
NETLINK_SOCK_DIAG = 4
SEALS = 7  # F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL

SHARED = "steering shared at 127.0.0.1:{port} ({what} is refused: {error})"
HASH = "steering hash (SO_ATTACH_REUSEPORT_CBPF is refused: {error})"
SPREAD = "steering spread ("
WITHOUT = "{what} is refused: {error}; continuing without it"

# Name of the refused call ({what}), rules that refuse it, and log lines, each logged once.
SETUP: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    ("memfd_create", ("memfd_create",), (SHARED,)),
    ("ftruncate", ("ftruncate",), (SHARED,)),
    ("F_ADD_SEALS", (f"fcntl:{SEALS}",), (SHARED,)),
    ("timerfd_create", ("timerfd_create",), (SHARED,)),
    ("timerfd_settime", ("timerfd_settime",), (SHARED,)),
    ("SO_REUSEPORT", (f"setsockopt:{SO_REUSEPORT}",), (SHARED,)),
    ("a program", (f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}",), (HASH,)),
    ("TCP_DEFER_ACCEPT", (f"setsockopt:{TCP_DEFER_ACCEPT}",), (SPREAD, WITHOUT)),
    ("TCP_NODELAY", (f"setsockopt:{TCP_NODELAY}",), (SPREAD, WITHOUT)),
    ("SO_REUSEADDR", (f"setsockopt:{SO_REUSEADDR}",), (SPREAD, WITHOUT)),
    ("a filter", (f"setsockopt:{SO_ATTACH_FILTER}",), (SPREAD,)),
    ("no filter", (f"setsockopt:{SO_DETACH_FILTER}",), (SPREAD,)),
    (
        "both ways to stop",
        (f"setsockopt:{SO_ATTACH_FILTER}", f"setsockopt:{SO_BINDTOIFINDEX}"),
        (SPREAD, "cannot stop new connections at 127.0.0.1:{port}: {error}"),
    ),
    ("SO_ACCEPTCONN", (f"getsockopt:{SO_ACCEPTCONN}",), (SHARED,)),
    ("SO_DOMAIN", (f"getsockopt:{SO_DOMAIN}",), (SHARED,)),
    ("SO_PROTOCOL", (f"getsockopt:{SO_PROTOCOL}",), (SHARED,)),
    ("SO_REUSEPORT", (f"getsockopt:{SO_REUSEPORT}",), (SHARED,)),
    ("cookies", (f"getsockopt:{SO_COOKIE}",), (SPREAD,)),
    ("queue lengths", (f"getsockopt:{TCP_INFO}",), (SPREAD,)),
    ("options to copy", tuple(f"getsockopt:{n}" for n in (5, 7, 8, 9, 13, 24, 25, 36)), (SPREAD,)),
    ("sock_diag", (f"socket:{NETLINK_SOCK_DIAG}",), (SPREAD,)),
    ("pidfd_open", ("pidfd_open",), (SPREAD,)),
    ("prctl", ("prctl",), (SPREAD,)),
    ("affinity", ("sched_getaffinity", "sched_setaffinity"), (SPREAD,)),
]


def has_two_workers(service: Service) -> bool:
    return len(service.workers()) == 2


# The supervisor does not depend on the loop.
ON_ONE_LOOP = pytest.mark.parametrize("loop", ["uvloop"], indirect=True)


@ON_ONE_LOOP
@pytest.mark.parametrize(("what", "calls", "lines"), SETUP, ids=["+".join(c[1]) for c in SETUP])
def test_serve_goes_on_with_what_is_left(
    what: str, calls: tuple[str, ...], lines: tuple[str, ...], serve: Serve
) -> None:
    services = {
        error: serve(
            "targets:Who", "--workers", "2", wrapper=refusing(*calls, error=error), wait=False
        )
        for error in ERRORS
    }
    for error, service in services.items():
        service.wait_log("serving ")
        assert all(ask(service.address) for _ in range(20))
        service.send(signal.SIGHUP)
        service.wait_log("reloaded: 2 new workers serve")
        until(partial(has_two_workers, service), "the old workers are gone")
        assert all(ask(service.address) for _ in range(20))
        os.kill(service.workers()[0], signal.SIGKILL)
        assert all(ask(service.address) for _ in range(20))
        service.wait_log("killed by SIGKILL: replaced")
        port = service.address[1]
        assert service.stop() == 0
        log = service.log()
        assert "Traceback" not in log
        for line in lines:
            text = line.format(what=what, port=port, error=os.strerror(error))
            assert log.count(text) == 1, (text, log)
        assert log.count(" is refused: ") == sum("refused" in line for line in lines), log


@pytest.mark.parametrize("steer", ["auto", "cpu"])
def test_the_kernels_own_hash_still_gives_each_worker_its_own(serve: Serve, steer: str) -> None:
    """There is no steering program. Siblings take the connections of a worker that died."""
    no_program = refusing(f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}")
    service = serve("targets:Who", "--workers", "3", "--steer", steer, wrapper=no_program)
    assert service.info().steer == "hash"
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(service.address))
        until(lambda: sum(s.arrived for s in service.slots()) == 60, "all were accepted")
    # By chance, one of three workers gets none of 60 once in 10^10.
    assert all(s.arrived for s in service.slots()[:3])
    with Load(service.address) as load:
        for _ in range(3):
            load.more(100)
            service.kill_an_owner()
        load.more(300)
    assert load.outcomes.keys() <= {"answered", "reset"}, load.outcomes
    assert load.outcomes["answered"] >= 600 - 3 * 6  # lost with the killed workers
    assert service.stop() == 0


def test_a_given_listener_stays_open_where_so_acceptconn_is_refused(serve: Serve) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        fd = sock.fileno()
        service = serve(
            *("targets:Who", "--workers", "1", "--bind", f"fd://{fd}"),
            pass_fds=(fd,),
            wrapper=refusing(f"getsockopt:{SO_ACCEPTCONN}"),
        )
        assert ask(sock.getsockname())
        assert service.log().count("SO_ACCEPTCONN is refused: ") == 1
        assert service.stop() == 0
        assert sock.getsockopt(socket.SOL_SOCKET, SO_ACCEPTCONN) == 1
        socket.create_connection(sock.getsockname()).close()


def test_deferred_accept_that_was_set_by_others_stays(serve: Serve) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 60)
        wanted = sock.getsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT)
        fd = sock.fileno()
        where = ("--bind", f"fd://{fd}", "--defer-accept")
        service = serve("targets:Who", "--workers", "1", *where, pass_fds=(fd,))
        assert ask(sock.getsockname())
        assert sock.getsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT) == wanted
        assert service.stop() == 0


def test_a_loop_that_cannot_be_made(serve: Serve, loop: str) -> None:
    """libuv needs eventfd(2), asyncio does not."""
    service = serve("targets:Who", "--workers", "1", wrapper=refusing("eventfd2"), wait=False)
    if loop == "asyncio":
        service.wait_log("serving ")
        assert ask(service.address)
    else:
        service.wait_log("giving up")
        assert service.process.wait(60) == 1
        said = "the event loop cannot be created: Operation not permitted; try --loop asyncio"
        assert f"--loop uvloop: {said}" in service.log()


def test_a_supervisors_death_where_prctl_is_refused(serve: Serve) -> None:
    service = serve("targets:Who", "--workers", "2", wrapper=refusing("prctl"))
    os.kill(service.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: not session_members(service.pid), "the workers ended")


IN_A_LOOP = """
import asyncio, os, signal, socket, sys
import aiofastsocket
from support.workers import bound, fork, serve_table

def get():
    with socket.create_connection(table.sock.getsockname(), timeout=10) as client:
        client.sendall(b"who\\n")
        return int(client.recv(100))

async def make_servers():
    loop = asyncio.get_running_loop()
    for _ in range(2):  # each refusal is logged once
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()

loop = sys.argv[1]
aiofastsocket.run(make_servers(), loop=loop)
with bound() as sock, aiofastsocket.ListenTable(sock, all_served=True) as table:
    children = [fork(lambda: serve_table(table, loop)) for _ in range(2)]
    while len({get() for _ in range(20)} & set(children)) < (1 if table.info().shared else 2):
        pass
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
    alone = {get() for _ in range(20)} == {children[1]}
    os.kill(children[1], signal.SIGTERM)
    print(alone, os.waitpid(children[1], 0)[1])
"""

TOLD = ": no local listeners: {what} is refused: {error}"
BY_HASH = (
    ": no steering, the kernel's own hash chooses a local listener: {what} is refused: {error}"
)
IN_LOOPS = [
    ("memfd_create", "memfd_create", TOLD),
    ("timerfd_settime", "timerfd_settime", TOLD),
    ("SO_REUSEPORT", f"setsockopt:{SO_REUSEPORT}", TOLD),
    ("SO_ATTACH_REUSEPORT_CBPF", f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}", BY_HASH),
    ("TCP_NODELAY", f"setsockopt:{TCP_NODELAY}", WITHOUT),
    ("SO_REUSEADDR", f"setsockopt:{SO_REUSEADDR}", WITHOUT),
    ("queue lengths", f"getsockopt:{TCP_INFO}", ""),
]


@pytest.mark.parametrize(("what", "call", "line"), IN_LOOPS, ids=[row[1] for row in IN_LOOPS])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOPROTOOPT], ids=["EPERM", "ENOPROTOOPT"])
def test_a_loop_goes_on_with_what_is_left(
    what: str, call: str, line: str, error: int, loop: str
) -> None:
    command = [*refusing(call, error=error), sys.executable, "-c", IN_A_LOOP, loop]
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        command,
        cwd="/",  # the source tree is not imported
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": tests},
    )
    assert (done.returncode, done.stdout) == (0, "True 0\n"), done.stderr
    told = [text for text in done.stderr.splitlines() if "refused" in text]
    assert len(told) == (1 if line else 0)
    assert all(line.format(what=what, error=os.strerror(error)) in text for text in told)
