"""FastsocketSelector by itself. CPython's own tests cover the behaviour of all selectors."""

import gc
import os
import select
import selectors
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from support.service import until
from support.workers import bound, fork, shake

from aiofastsocket import FastsocketSelector, ListenTable, LocalListener


@pytest.fixture
def table() -> Iterator[ListenTable]:
    with bound() as sock, ListenTable(sock, slots=4, steer="spread") as table:
        yield table


def serve(table: ListenTable) -> None:
    """Serve as the documentation's example does, until TERM."""
    with FastsocketSelector() as selector:
        selector.register(LocalListener(table), selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                listener: LocalListener = key.fileobj  # type: ignore[assignment]
                try:
                    connection, _address = listener.accept()
                except BlockingIOError:
                    continue
                with connection:
                    connection.setblocking(True)
                    connection.recv(100)
                    connection.sendall(b"%d\n" % os.getpid())


def test_forked_processes_each_claim_a_slot(table: ListenTable) -> None:
    pids = [fork(partial(serve, table)) for _ in range(3)]
    try:
        until(lambda: sum(slot.live for slot in table.slots()) == 3, "three processes serve")
        answers = shake(table.sock.getsockname(), 600)
        assert set(answers) == set(pids)
        for slot in table.slots():
            assert slot.global_ == 0
            assert (slot.own > 50) == bool(slot.pid)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_claimed_at_the_first_select_and_given_up(table: ListenTable) -> None:
    selector = FastsocketSelector()
    local = LocalListener(table)
    key = selector.register(local, selectors.EVENT_READ, "data")
    assert key.data == "data"
    assert selector.get_key(local) == key
    assert not any(slot.pid for slot in table.slots())
    assert selector.select(0) == []
    assert [slot.live for slot in table.slots()] == [True, False, False, False]
    with socket.create_connection(table.sock.getsockname()) as client:
        assert selector.select(10) == [(key, selectors.EVENT_READ)]
        connection, address = local.accept()
        assert address == client.getsockname()
        connection.close()
        with pytest.raises(BlockingIOError):
            local.accept()
    assert selector.modify(local, selectors.EVENT_READ, "other").data == "other"
    selector.unregister(local)
    assert not any(slot.pid for slot in table.slots())
    selector.register(local, selectors.EVENT_READ)
    selector.select(0)
    assert table.slot(0).pid == os.getpid()
    selector.close()
    assert not any(slot.pid for slot in table.slots())


def test_with_other_descriptors(table: ListenTable) -> None:
    one, other = socket.socketpair()
    with one, other, FastsocketSelector() as selector:
        local = LocalListener(table)
        selector.register(local, selectors.EVENT_READ, "listener")
        selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE, "pair")
        assert [(key.data, mask) for key, mask in selector.select(1)] == [
            ("pair", selectors.EVENT_WRITE)
        ]
        other.send(b"x")
        with socket.create_connection(table.sock.getsockname()):
            until(
                lambda: (
                    {key.data: mask for key, mask in selector.select(1)}
                    == {"pair": 3, "listener": 1}
                ),
                "both descriptors are ready",
            )
            local.accept()[0].close()
        selector.modify(one, selectors.EVENT_READ, "pair")
        assert [(key.data, mask) for key, mask in selector.select(1)] == [("pair", 1)]


def test_a_claim_elsewhere_is_no_event(table: ListenTable) -> None:
    """select() goes on waiting for the remaining time."""
    with FastsocketSelector() as selector:
        selector.register(LocalListener(table), selectors.EVENT_READ)
        selector.select(0)
        pid = fork(partial(serve, table))
        assert selector.select(0.3) == []
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert selector.select(0.3) == []
        until(lambda: selector.select(0) == [] and not table.slot(1).pid, "the death was noticed")


def test_wrong_events(table: ListenTable) -> None:
    with FastsocketSelector() as selector:
        with pytest.raises(ValueError, match="EVENT_READ only"):
            selector.register(LocalListener(table), selectors.EVENT_WRITE)
        with pytest.raises(KeyError):
            selector.unregister(LocalListener(table))


def test_a_listener_registered_for_one_waiter(table: ListenTable) -> None:
    """register_listener registers exclusively, and the registration can still be changed."""
    with socket.create_server(("127.0.0.1", 0)) as sock, FastsocketSelector() as selector:
        selector.register_listener(sock.fileno(), "one")
        with open(f"/proc/self/fdinfo/{selector.fileno()}") as info:
            exclusive = 1 << 28  # EPOLLEXCLUSIVE, linux/eventpoll.h
            events = next(line.split()[3] for line in info if line.startswith("tfd"))
        assert int(events, 16) & exclusive
        assert int(events, 16) & select.EPOLLIN
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        assert selector.modify(sock.fileno(), both, "two").events == both
        with socket.create_connection(sock.getsockname()):
            assert [(key.data, mask) for key, mask in selector.select(5)] == [("two", 1)]


def test_a_forked_child_has_an_epoll_set_of_its_own() -> None:
    one, other = socket.socketpair()
    with one, other, FastsocketSelector() as selector:
        selector.register(one, selectors.EVENT_READ)

        def child() -> None:
            selector.unregister(one)
            selector.close()

        assert os.waitpid(fork(child), 0)[1] == 0
        other.send(b"x")
        assert [key.fileobj for key, _ in selector.select(5)] == [one]
        # The inherited selector works in the child, too.
        assert os.waitpid(fork(lambda: selector.select(5)[0]), 0)[1] == 0


def test_a_daemon_that_closed_what_it_inherited() -> None:
    """The daemon's own file, which now has the set's number, is left alone when it forks again."""
    with FastsocketSelector() as selector:

        def daemon() -> None:
            log = os.open("/dev/null", os.O_WRONLY)
            os.dup2(log, selector.fileno())
            before = os.fstat(log).st_ino
            assert os.waitpid(fork(lambda: check(before)), 0)[1] == 0

        number = selector.fileno()

        def check(before: int) -> None:
            assert os.fstat(number).st_ino == before
            assert selector.fileno() != number
            selector.select(0)

        assert os.waitpid(fork(daemon), 0)[1] == 0


def test_a_claim_and_a_connection_in_one_batch(table: ListenTable) -> None:
    """The slot with a waiting connection is claimed, and this selector no longer watches it."""
    pid = fork(partial(serve, table))
    until(lambda: table.slot(0).live, "the first process serves")
    with FastsocketSelector() as selector:
        selector.register(LocalListener(table), selectors.EVENT_READ)
        selector.select(0)
        table.steer("spread")
        os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(table.sock.getsockname()) for _ in range(20)]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        table.reap()
        table.claim(0)  # this process is a successor that is not live yet
        assert len(selector.select(5)) <= 1
        for client in clients:
            client.close()
        table.release(0)


def test_dropped_or_closed_elsewhere_it_gives_the_slot_up(table: ListenTable) -> None:
    selector: FastsocketSelector | None = FastsocketSelector()
    assert selector is not None
    selector.register(LocalListener(table), selectors.EVENT_READ)
    selector.select(0)
    assert table.slot(0).live
    selector = None
    gc.collect()
    assert not any(slot.live for slot in table.slots())

    selector = FastsocketSelector()
    selector.register(LocalListener(table), selectors.EVENT_READ)
    selector.select(0)
    assert any(slot.live for slot in table.slots())
    thread = threading.Thread(target=selector.close)
    thread.start()
    thread.join()
    assert not any(slot.live for slot in table.slots())


def test_a_first_select_that_fails_keeps_nothing(
    table: ListenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FastsocketSelector() as selector:
        selector.register(LocalListener(table), selectors.EVENT_READ)
        with monkeypatch.context() as patch:
            patch.setattr(LocalListener, "watch", fails)
            for _ in range(3):
                with pytest.raises(OSError, match="none left"):
                    selector.select(0)
                assert not any(slot.pid for slot in table.slots())
        selector.select(0)
        assert sum(slot.live for slot in table.slots()) == 1


def fails(*_: object) -> None:
    raise OSError(24, "none left")
