"""Worker processes that serve one table, and counts about them."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import aiofastsocket
from aiofastsocket import ListenTable, SlotInfo

from .client import connect, receive_all
from .service import until

SLOW_SECONDS = 0.1


class Who(asyncio.Protocol):
    """Sends its process id at once and closes; "slow" keeps its process busy before the close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"%d\n" % os.getpid())
        if data == b"slow\n":
            # Not here: written data may go out only when this method returns.
            asyncio.get_running_loop().call_soon(self._keep_busy)
        else:
            self.transport.close()

    def _keep_busy(self) -> None:
        time.sleep(SLOW_SECONDS)
        self.transport.write(b"%d\n" % os.getpid())
        self.transport.close()


class Greeter(asyncio.Protocol):
    """Sends first: a whole connection is one wake-up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        transport.write(b"%d\n" % os.getpid())
        transport.close()


def serve_table(table: ListenTable, loop: str, protocol: Callable[[], Any] = Who) -> None:
    """Serve until TERM, in a process of its own."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        stop = asyncio.Event()
        running.add_signal_handler(signal.SIGTERM, stop.set)
        server = await running.create_server(protocol, sock=table.sock)
        await stop.wait()
        server.close()
        await server.wait_closed()

    aiofastsocket.run(main(), loop=loop)


def bound(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    return sock


def fork(main: Callable[[], object]) -> int:
    """Fork a child that runs `main` and no code of ours after it; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        main()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


class Workers:
    """`count` forked processes that run `main` and claim slots of `table`."""

    def __init__(self, table: ListenTable, main: Callable[[], object], count: int) -> None:
        self.table = table
        self._main = main
        self.pids = [fork(main) for _ in range(count)]

    def __enter__(self) -> "Workers":
        try:
            self.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        assert codes == [0] * len(codes)

    def ready(self) -> None:
        until(lambda: len(self.slots()) == len(self.pids), "every worker serves", 20)

    def slots(self) -> list[SlotInfo]:
        """The slots that these workers serve."""
        return [s for s in self.table.slots() if s.live and s.alive and s.pid in self.pids]

    def slot_of(self, pid: int) -> SlotInfo:
        return next(s for s in self.table.slots() if s.pid == pid)

    def kill_each_once(self) -> None:
        """Kill and replace the workers, one after the other."""
        for i, pid in enumerate(self.pids):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.pids[i] = fork(self._main)
            self.ready()


def shake(address: Any, connections: int, gap: float = 0.0, request: bytes = b"who\n") -> list[int]:
    """Connect one after the other; the process ids that answered."""
    answers = []
    for _ in range(connections):
        with connect(address) as sock:
            if request:
                sock.sendall(request)
            answers.append(int(receive_all(sock)))
        if gap:
            time.sleep(gap)
    return answers


def helped(
    slot_of: Callable[[int], SlotInfo], address: Any, wanted: int = 40, most: int = 100
) -> tuple[int, int]:
    """The number of connections that arrived at a slot while its owner was in a slow handler, at
    least `wanted` if any do; and the number of them that a sibling served."""
    arrived = by_sibling = 0
    for _ in range(wanted):
        with connect(address) as slow:
            slow.sendall(b"slow\n")
            busy = int(slow.recv(100).split()[0])
            slow.setblocking(False)
            for _ in range(most):
                before = slot_of(busy)
                with connect(address) as sock:
                    sock.sendall(b"who\n")
                    with suppress(BlockingIOError):
                        slow.recv(100)
                        break  # the handler is over
                    served_by = int(receive_all(sock))
                if slot_of(busy).arrived > before.arrived:
                    arrived += 1
                    by_sibling += served_by != busy
            slow.setblocking(True)
            receive_all(slow)
        if arrived >= wanted:
            break
    return arrived, by_sibling


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: proc(5), SigCgt."""
    with open(f"/proc/{pid}/status") as file:
        (mask,) = (int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def blocked(pids: list[int]) -> int:
    """The times that these processes went to sleep: proc(5), voluntary_ctxt_switches."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("voluntary"))
    return total
