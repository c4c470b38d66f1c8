"""ListenTable from Python; its effects in the kernel are tested in C (native/tests)."""

import errno
import os
import signal
import socket
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from aiofastsocket import ListenTable, UsageError, tables_of
from aiofastsocket._native import lib, text
from aiofastsocket.table.view import GLOBAL, TableView


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_claim_accept_release(sock: socket.socket) -> None:
    with ListenTable(sock, slots=2, steer="spread") as table:
        slot = table.claim()
        table.activate(slot)
        with socket.create_connection(sock.getsockname()):
            assert table.queued(slot) == 1
            os.close(table.accept(slot, slot))
        with pytest.raises(BlockingIOError):
            table.accept(slot, slot)
        state = table.slot(slot)
        assert (state.pid, state.own, state.accepted, state.arrived) == (os.getpid(), 1, 1, 1)
        assert table.half_open() == 0
        table.release(slot)
        with pytest.raises(PermissionError, match=f"release slot {table.address}"):
            table.release(slot)
        with pytest.raises(OSError, match="read slot 2") as caught:
            table.slot(2)
        assert caught.value.errno == errno.EINVAL


def test_first_slot_is_the_socket_itself(sock: socket.socket) -> None:
    with ListenTable(sock, slots=2, first_is_slot=True) as table:
        assert table.fileno(0) == table.fileno(GLOBAL) == sock.fileno()
        assert table.fileno(1) != sock.fileno()


def test_a_child_inherits_claims_and_is_taken_over(sock: socket.socket) -> None:
    with ListenTable(sock, slots=1, steer="spread") as table:
        ready_in, ready_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                table.claim(0)
                table.activate(0)
                os.write(ready_out, b"!")
                signal.pause()
            finally:
                os._exit(1)
        assert os.read(ready_in, 1) == b"!"
        with pytest.raises(OSError, match="claim slot") as caught:
            table.claim(0)
        assert caught.value.errno == errno.EBUSY
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert table.reap() == 1
        assert not table.slot(0).live
        assert table.claim(0) == 0
        os.close(ready_in)
        os.close(ready_out)


def test_onlookers_read_and_only_read(sock: socket.socket) -> None:
    with ListenTable(sock, slots=3) as table:
        table.claim(1)
        views = list(tables_of(os.getpid()))
        assert [view.slot(1).pid for view in views] == [os.getpid()]
        assert views[0].info() == table.info()
        for view in views:
            view.close()
    assert not list(tables_of(os.getpid()))
    with pytest.raises(OSError, match="attach"):
        TableView(sock.fileno())


def test_shared_table_tells_claims_apart(sock: socket.socket) -> None:
    with ListenTable(sock, slots=0, records=2) as table:
        assert table.info().shared
        assert table.claim(1) == 1
        with socket.create_connection(sock.getsockname()):
            os.close(table.accept(1, GLOBAL))
        assert table.slot(1).global_ == 1


def test_steering_is_switched_live_and_says_why(sock: socket.socket) -> None:
    with ListenTable(sock, slots=2) as table:
        assert (table.info().wanted, table.info().steer) == ("auto", "spread")
        assert "loopback" in table.info().why
        table.steer("cpu")
        assert (table.info().steer, table.info().why) == ("cpu", "requested")
        assert not table.review()


def test_users_mistakes(sock: socket.socket) -> None:
    with pytest.raises(UsageError, match="use auto, cpu, spread"):
        ListenTable(sock, slots=1, steer="left")
    with pytest.raises(UsageError, match="use 0 to 512"):
        ListenTable(sock, slots=1000)
    table = ListenTable(sock, slots=1)
    table.close()
    table.close()
    with pytest.raises(ValueError, match="the listen table is closed"):
        table.info()


def test_two_releases_share_no_page() -> None:
    """Each release has its own page layout: the name in the page is the package's version."""
    assert text(lib.FS_RELEASE) == version("aiofastsocket")
