"""Our loop on uvloop's.

uvloop.Loop is written in C, so our additions are put on top. Servers are asyncio's own, and so is
sendfile on our transports; TLS on them is ours. EPOLLEXCLUSIVE is set without libuv's knowledge.

This leans on facts about libuv (src/unix/linux.c). libuv registers a descriptor at its next poll,
not at once. An epoll_ctl that fails in an unexpected way aborts the process. ADD of a descriptor
that is registered already is such a way only with io_uring. So a descriptor that is not registered
yet is left alone and tried again later.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any

import uvloop

from .._native import lib
from .._native.libuv import PulseHandles, uv_loop_fork
from ..errors import SetupError
from ..table.pulse import Pulse
from .listening import Listening

logger = logging.getLogger("aiofastsocket")

# Turns of the loop after which libuv has surely registered a descriptor. It takes one or two.
TRIES = 16


_ASYNCIO: Any = asyncio.SelectorEventLoop


class UvloopLoop(Listening, uvloop.Loop):  # type: ignore[misc]
    """uvloop.Loop with local listeners. Arguments: see new_event_loop."""

    # asyncio.BaseEventLoop.create_server calls these.
    _ensure_resolved = _ASYNCIO._ensure_resolved
    _create_server_getaddrinfo = _ASYNCIO._create_server_getaddrinfo
    # These are asyncio's sendfile, which uvloop does not have.
    sock_sendfile = _ASYNCIO.sock_sendfile
    _check_sendfile_params = _ASYNCIO._check_sendfile_params
    _sendfile_fallback = _ASYNCIO._sendfile_fallback
    _sock_sendfile_fallback = _ASYNCIO._sock_sendfile_fallback
    _sock_sendfile_native = _ASYNCIO._sock_sendfile_native
    _sock_sendfile_native_impl = _ASYNCIO._sock_sendfile_native_impl
    _sock_sendfile_update_filepos = _ASYNCIO._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = _ASYNCIO._sock_add_cancellation_callback
    _told_shared = False

    def __init__(self, **options: Any) -> None:
        self._pulse = Pulse()
        self._pulse_handles: PulseHandles | None = None
        super().__init__(**options)
        self._pending: dict[int, tuple[int, bool]] = {}  # descriptor -> tries, edge
        self._when_listening: list[Callable[[], object]] = []
        self._lost = False  # True in a forked child in which libuv cannot continue

    @property
    def _debug(self) -> bool:
        return bool(self.get_debug())

    # -- listeners --

    @property
    def pulse(self) -> Pulse:  # type: ignore[override]
        """See ListenLoop."""
        if self._pulse_handles is None:
            self._pulse_handles = PulseHandles(self, self._pulse.address)
        return self._pulse

    def _tells_pulse(self) -> bool:
        """See Listening: False if uvloop does not export libuv's names."""
        return self._pulse_handles is not None and self._pulse_handles.started

    def close(self) -> None:
        """Like Listening.close."""
        if self._pulse_handles is not None and not self.is_running() and not self.is_closed():
            self._pulse_handles.close()
        super().close()

    def add_listener(
        self, fd: int, callback: Callable[..., object], *args: Any, edge: bool = False
    ) -> None:
        """See ListenLoop."""
        self.add_reader(fd, callback, *args)
        if not self._pending:
            self.call_soon(self._make_exclusive)
        self._pending[fd] = 0, edge

    def remove_reader(self, fd: Any) -> bool:  # type: ignore[override]
        """Like loop.remove_reader."""
        self._pending.pop(fd, None)
        return not self._lost and bool(super().remove_reader(fd))

    def when_listening(self, callback: Callable[[], object]) -> None:
        """See ListenLoop."""
        if self._pending:
            self._when_listening.append(callback)
        else:
            callback()

    @property
    def epoll(self) -> int:
        """See ListenLoop: libuv's epoll set; -1 if uvloop does not expose it."""
        return int(getattr(self, "_get_backend_id", lambda: -1)())

    def _make_exclusive(self) -> None:
        for fd, (tries, edge) in list(self._pending.items()):
            rc = lib.fs_poll_exclusive(self.epoll, fd, edge)
            if rc == -errno.ENOENT and tries < TRIES:
                self._pending[fd] = tries + 1, edge
                continue
            del self._pending[fd]
            if rc == -errno.ENOENT and edge:
                continue  # a sibling's slot that does not wake us at present: see fs_poll_arm
            if rc < 0 and not UvloopLoop._told_shared:
                UvloopLoop._told_shared = True
                logger.warning(
                    "each connection wakes all idle workers, not one: uvloop's epoll set cannot be "
                    "used (%s)",
                    errno.errorcode.get(-rc, rc),
                )
        if self._pending:
            self.call_soon(self._make_exclusive)
            return
        callbacks, self._when_listening = self._when_listening, []
        for callback in callbacks:
            callback()

    # -- forks --

    def renew(self) -> None:
        """See table.part.Poller."""
        if self.is_closed():
            return
        other_thread = self.is_running() and not self.runs_here()
        super().renew()
        # libuv may have been working in the other thread: its state here may be inconsistent.
        self._lost = other_thread or not uv_loop_fork(self)

    def resume_after_fork(self) -> None:
        """See Forkable."""
        if self._lost:
            raise SetupError(
                "this uvloop cannot continue in a forked child: make a new loop there "
                "(aiofastsocket.run), or use the asyncio loop"
            )
