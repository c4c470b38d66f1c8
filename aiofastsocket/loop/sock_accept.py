"""loop.sock_accept for a socket that has no listen table.

A task that is told of a connection accepts it itself, in its own turn. If the task is cancelled
before, it has taken no connection. asyncio and uvloop accept first and then tell the task: if it is
cancelled in between, the connection is lost.
"""

import asyncio
import socket
import ssl
from collections import deque
from typing import Any

Waiting = dict[int, deque["asyncio.Future[None]"]]  # by the listener's descriptor


async def sock_accept(
    loop: asyncio.AbstractEventLoop, waiting: Waiting, sock: socket.socket
) -> tuple[socket.socket, Any]:
    """Like loop.sock_accept. waiting: the tasks that wait, first come, first served.

    Raises TypeError for an SSLSocket, ValueError for a blocking socket in debug mode.
    """
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    fd, told = sock.fileno(), False
    while True:
        if told or fd not in waiting:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                pass
            else:
                connection.setblocking(False)
                return connection, address
        waiter = loop.create_future()
        if fd not in waiting:
            loop.add_reader(fd, _tell, loop, waiting, fd)
            waiting[fd] = deque()
        queue = waiting[fd]
        if told:
            queue.appendleft(waiter)  # it was woken for nothing: a sibling was faster
        else:
            queue.append(waiter)
        try:
            await waiter
            told = True
        finally:
            if waiter in queue:
                queue.remove(waiter)
                _leave(loop, waiting, fd)


def _tell(loop: asyncio.AbstractEventLoop, waiting: Waiting, fd: int) -> None:
    """Wake a task. The reader is level-triggered, so the connection waits until it is accepted."""
    while waiting[fd]:
        waiter = waiting[fd].popleft()
        if not waiter.done():  # otherwise its task was cancelled and has not run since
            waiter.set_result(None)
            break
    _leave(loop, waiting, fd)


def _leave(loop: asyncio.AbstractEventLoop, waiting: Waiting, fd: int) -> None:
    if not waiting[fd]:
        del waiting[fd]
        loop.remove_reader(fd)
