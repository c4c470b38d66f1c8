"""Our loop on asyncio's: asyncio.SelectorEventLoop with FastsocketSelector."""

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any, cast

from ..table.pulse import Pulse
from .listening import Listening
from .selector import FastsocketSelector


class SelectorLoop(Listening, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """asyncio.SelectorEventLoop with local listeners. Arguments: see new_event_loop."""

    _selector: FastsocketSelector
    _csock: socket.socket
    _signal_handlers: dict[int, asyncio.Handle]

    def __init__(self, **options: Any) -> None:
        super().__init__(FastsocketSelector(), **options)

    @property
    def pulse(self) -> Pulse:  # type: ignore[override]
        """See ListenLoop."""
        return self._selector.pulse

    @property
    def epoll(self) -> int:
        """See ListenLoop."""
        return self._selector.fileno()

    def add_listener(
        self, fd: int, callback: Callable[..., object], *args: Any, edge: bool = False
    ) -> None:
        """See ListenLoop."""
        handle = asyncio.Handle(callback, args, self)
        self._selector.register_listener(fd, (handle, None), edge=edge)

    def when_listening(self, callback: Callable[[], object]) -> None:
        """See ListenLoop."""
        callback()

    def renew(self) -> None:
        """See table.part.Poller."""
        super().renew()
        if self.is_running():
            # Callbacks that are ready now belong to the parent.
            for handle in cast(Any, self)._ready:
                handle.cancel()

    def resume_after_fork(self) -> None:
        """See Forkable: wake-ups and signals of parent and child must not mix."""
        loop = cast(Any, self)
        loop._close_self_pipe()
        loop._make_self_pipe()
        if self._signal_handlers:
            signal.set_wakeup_fd(self._csock.fileno())
