"""Channel: backends by argument and environment, errors, and a round on each backend."""

import errno
import os
import socket

import pytest

from aiofastsocket import Channel, SetupError, UsageError


@pytest.mark.parametrize("backend", ["reuseport", "off"])
def test_listen_spawn_accept_and_close_on_each_backend(backend: str) -> None:
    with Channel(backend, slots=2) as channel:
        assert channel.backend == backend
        with channel.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            channel.listen(sock, 16)
            channel.spawn_listen(sock)
            channel.spawn_all_listen()
            with (
                socket.create_connection(sock.getsockname()) as client,
                channel.accept(sock) as connection,
            ):
                assert connection.getpeername() == client.getsockname()
                assert not os.get_inheritable(connection.fileno())
            channel.shutdown_listen(sock)
            channel.close_listen(sock)
            assert sock.fileno() == -1


def test_non_blocking_accept_says_so() -> None:
    with Channel("reuseport") as channel, channel.socket() as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        channel.listen(sock)
        with pytest.raises(BlockingIOError):
            channel.accept(sock)


def test_auto_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIOFASTSOCKET_BACKEND", raising=False)
    with Channel(device="/dev/null") as channel:
        assert channel.backend == "reuseport"
        assert channel.why == "/dev/null is not the fastsocket device"
        assert "reuseport" in repr(channel)


def test_environment_chooses_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOFASTSOCKET_BACKEND", "off")
    with Channel() as channel:
        assert channel.backend == "off"
    with Channel("reuseport") as channel:
        assert channel.backend == "reuseport"
    monkeypatch.setenv("AIOFASTSOCKET_BACKEND", "magic")
    with pytest.raises(UsageError, match="use auto, device, reuseport, off"):
        Channel()


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("/dev/no-such-device", "does not exist: the kernel module is not loaded"),
        ("/dev/null", "is not the fastsocket device"),
        (__file__, "is not the fastsocket device"),
    ],
)
def test_device_says_exactly_what_is_wrong(device: str, text: str) -> None:
    with pytest.raises(SetupError, match=text):
        Channel("device", device=device)


def test_errors_name_call_and_address() -> None:
    with Channel("reuseport") as channel, channel.socket() as sock, channel.socket() as rival:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=f"accept 127.0.0.1:{port}") as caught:
            channel.accept(sock)
        assert caught.value.errno == errno.EINVAL
        channel.listen(sock)
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            rival.bind(("127.0.0.1", port))


def test_closed_channel_and_wrong_arguments() -> None:
    channel = Channel("off")
    channel.close()
    channel.close()
    with pytest.raises(ValueError, match="the channel is closed"):
        channel.socket()
    with pytest.raises(UsageError, match="use 1 to 512"):
        Channel(slots=513)
    with pytest.raises(UsageError, match="use auto, cpu, spread"):
        Channel(steer="left")
