"""Addresses to serve: from text to a listening socket with its table."""

import errno
import hashlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..address import address_text, is_tcp
from ..channel import Channel
from ..errors import SetupError, UsageError
from ..sockopt import listens, look, wish
from ..table.open import open_table
from ..table.table import ListenTable

TURNS, TURN_SECONDS = 500, 0.01
_BACKLOG_ALONE = 128

FORMS = "use HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH or fd://NUMBER"


@dataclass(frozen=True)
class Bind:
    """One `--bind`: host and port, or a path, or a descriptor."""

    host: str = ""
    port: int = 0
    path: str | None = None
    fd: int | None = None
    origin: str = ""  # the variable that gave the address, if no option did

    @classmethod
    def parse(cls, text: str, what: str = "--bind") -> "Bind":
        """Parse an address. what: the option. Raises UsageError with the valid forms."""
        if text.startswith("unix:"):
            if not text[5:]:
                raise UsageError(f"{what} {text!r} has no path: {FORMS}")
            return cls(path=text[5:])
        if text.startswith("fd://"):
            if not text[5:].isdecimal():
                raise UsageError(f"{what} {text!r} has no number: {FORMS}")
            return cls(fd=int(text[5:]))
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise UsageError(f"{what} {text!r}: write IPv6 as [{host}]:{port}")
        if text.startswith(":"):
            host = "0.0.0.0"  # as in gunicorn
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"{what} {text!r} is not a valid address: {FORMS}, port 0 to 65535")
        return cls(host=host, port=int(port))


@dataclass
class Listener:
    """A served address. foreign: another process made the listener, and may use it after us."""

    sock: socket.socket
    table: ListenTable
    foreign: bool = False
    path: str | None = None
    redirects: bool = False  # it serves plain HTTP, to redirect clients to TLS

    @property
    def address(self) -> str:
        return self.table.address

    def defer_accept(self, on: bool) -> None:
        """Let connections wait in the kernel until their first bytes arrive: tcp(7).

        A socket that was already listening when we got it keeps its setting.
        """
        if not self.foreign and is_tcp(self.sock):
            now = look(self.sock, socket.IPPROTO_TCP, "TCP_DEFER_ACCEPT")
            if bool(now) != on and wish(self.sock, socket.IPPROTO_TCP, "TCP_DEFER_ACCEPT", on):
                self.table.copy_options()

    def unlink(self) -> None:
        """Remove our socket file, so that no new client finds us."""
        if self.path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            self.path = None

    def let_go(self) -> None:
        """In a fork that must not have the listener: close its descriptors there."""
        self.path = None
        self.close()

    def close(self) -> None:
        self.unlink()
        self.table.close()
        self.sock.close()


def _bind_error(error: OSError, where: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return SetupError(f"{where} is in use: another server listens there")
    if error.errno == errno.EACCES and not where.startswith("unix:"):
        return SetupError(f"{where} is refused: ports below 1024 need root or CAP_NET_BIND_SERVICE")
    return SetupError(f"{where} cannot be bound: {error.strerror}")


def _tcp_sockets(bind: Bind, channel: Channel, v4_any_ports: set[int]) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:  # a label that is empty or too long
        reason = getattr(error, "strerror", None) or "not a valid host name"
        raise UsageError(f"--bind {bind.host}:{bind.port}: {reason}") from None
    sockets: list[socket.socket] = []
    families = {family for family, *_ in found}
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            sock = channel.socket(family, kind, proto)
            sockets.append(sock)
            sock.setblocking(False)
            wish(sock, socket.SOL_SOCKET, "SO_REUSEADDR", 1)
            if family == socket.AF_INET6:
                # [::] takes IPv4 too (dual stack), unless IPv4 is bound separately.
                alone = len(families) == 1 and not (bind.port in v4_any_ports and bind.port)
                dual = bind.host == "::" and alone
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            sock.bind(address)
    except OSError as error:
        for sock in sockets:
            sock.close()
        v6 = ":" in bind.host
        where = f"[{bind.host}]:{bind.port}" if v6 else f"{bind.host}:{bind.port}"
        raise _bind_error(error, where) from None
    return sockets


def _unix_socket(path: str) -> socket.socket:
    """Bind a unix socket. A file that a dead server left is replaced; any other file is kept.

    All users with access to the folder may connect. A file that replaces another has its mode.
    """
    kind: int | None = None
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _bind_error(error, f"unix:{path}") from None
    if kind is not None:
        if not stat.S_ISSOCK(kind):
            raise SetupError(f"unix:{path} is in use: the file is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except BlockingIOError:  # its queue is full
                raise SetupError(f"unix:{path} is in use: another server listens there") from None
            except OSError as error:
                raise _bind_error(error, f"unix:{path}") from None
            else:
                raise SetupError(f"unix:{path} is in use: another server listens there")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    mask = os.umask(~(stat.S_IMODE(kind) if kind is not None else 0o666) & 0o777)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        if error.strerror is None:  # Python's own error: the path is too long
            raise UsageError(f"--bind unix:{path}: {error}") from None
        raise _bind_error(error, f"unix:{path}") from None
    finally:
        os.umask(mask)
    return sock


def _inherited_socket(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"fd://{fd} is not a socket: {reason}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise UsageError(f"fd://{fd} is not a stream socket")
    bound = sock.getsockname()
    if not bound or (sock.family in (socket.AF_INET, socket.AF_INET6) and bound[1] == 0):
        sock.detach()
        raise UsageError(f"fd://{fd} is not bound to an address")
    sock.setblocking(False)
    os.set_inheritable(fd, False)
    return sock


def _listen(
    sock: socket.socket,
    channel: Channel,
    *,
    slots: int,
    steer: str,
    backlog: int,
    may_defer: bool,
    path: str | None,
    given: bool,
) -> Listener:
    foreign = given and listens(sock)
    try:
        if is_tcp(sock) and not foreign:
            wish(sock, socket.IPPROTO_TCP, "TCP_NODELAY", 1)  # for its connections
            if may_defer and not look(sock, socket.IPPROTO_TCP, "TCP_DEFER_ACCEPT"):
                # Set to its present value: a refusal is logged once here, not by every worker.
                wish(sock, socket.IPPROTO_TCP, "TCP_DEFER_ACCEPT", 0)
        # A socket that already listens belongs to another process, and is served as it is.
        table = open_table(
            None if foreign else channel,
            sock,
            slots=slots,
            records=slots,
            backlog=backlog,
            steer=steer,
            first_is_slot=True,
            supervised=True,
        )
    except OSError as error:
        raise _bind_error(error, address_text(sock)) from None
    return Listener(sock, table, foreign, path)


def open_listeners(
    binds: tuple[Bind, ...],
    channel: Channel,
    *,
    slots: int,
    steer: str,
    backlog: int,
    may_defer: bool,
) -> list[Listener]:
    """Bind and listen on all addresses, or on none. may_defer: workers may want deferred accept.

    Raises SetupError (in use, refused) or UsageError (no such host or descriptor), one line each.
    """
    listeners: list[Listener] = []
    v4_any_ports = {b.port for b in binds if b.host == "0.0.0.0"}

    def listen(sock: socket.socket, path: str | None) -> None:
        listener = _listen(
            sock,
            channel,
            slots=slots,
            steer=steer,
            backlog=backlog,
            may_defer=may_defer,
            path=path,
            given=bind.fd is not None,
        )
        listeners.append(listener)

    try:
        for bind in binds:
            if bind.path is not None:
                with _turn_at(bind.path):
                    sock = _unix_socket(bind.path)
                    with _closed_if_it_fails([sock], bind.path):
                        listen(sock, bind.path)
                continue
            if bind.fd is not None:
                sockets = [_inherited_socket(bind.fd)]
            else:
                sockets = _tcp_sockets(bind, channel, v4_any_ports)
            with _closed_if_it_fails(sockets):
                for sock in sockets:
                    listen(sock, None)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


@contextmanager
def listening_alone(bind: Bind, channel: Channel) -> Iterator[socket.socket]:
    """A listening socket without a table. Raises the same errors as open_listeners."""
    if bind.path is not None:
        with _turn_at(bind.path):
            sock = _unix_socket(bind.path)
            with _closed_if_it_fails([sock], bind.path):
                sock.listen(_BACKLOG_ALONE)
    else:
        sock, *others = _tcp_sockets(bind, channel, set())
        for other in others:  # the name has several addresses
            other.close()
        with _closed_if_it_fails([sock]):
            try:
                sock.listen(_BACKLOG_ALONE)
            except OSError as error:
                raise _bind_error(error, address_text(sock)) from None
    try:
        yield sock
    finally:
        sock.close()
        if bind.path is not None:
            with suppress(FileNotFoundError):
                os.unlink(bind.path)


@contextmanager
def _closed_if_it_fails(sockets: list[socket.socket], path: str | None = None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for sock in sockets:
            sock.close()
        if path is not None:
            os.unlink(path)
        raise


@contextmanager
def _turn_at(path: str) -> Iterator[None]:
    """Let one process at a time check a socket's file and begin to listen. In between, another
    process would take the file for a dead server's, and remove it. The lock is an abstract name: it
    belongs to the process that has it bound, and ends with it, unix(7)."""
    folder, name = os.path.split(path)
    try:
        where = os.stat(folder or ".")
    except OSError as error:
        raise _bind_error(error, f"unix:{path}") from None
    text = f"{where.st_dev}:{where.st_ino}/{name}".encode(errors="surrogateescape")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as turn:
        for _ in range(TURNS):
            try:
                turn.bind(b"\0aiofastsocket-bind-" + hashlib.sha256(text).hexdigest().encode())
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    time.sleep(TURN_SECONDS)
                    continue
            break
        # Any process may keep the name forever: after all turns, go on without it.
        yield
