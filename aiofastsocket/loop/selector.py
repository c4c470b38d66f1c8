"""FastsocketSelector: an epoll(7) selector that also waits for LocalListeners of listen tables.

It can be used without asyncio: register a LocalListener, and accept from it when it is ready.
"""

import errno
import math
import select
import selectors
import time
from contextlib import suppress
from functools import partial
from typing import Any

from .._native import check, lib
from ..table.part import CLAIMS, LocalListener, pollers
from ..table.pulse import Pulse

_strangers: list[select.epoll] = []  # must never be closed


def _is_epoll(this: select.epoll, unregistered: select.epoll) -> bool:
    """Whether its descriptor is still an epoll set: epoll_ctl(2), ENOENT, not EINVAL or EBADF."""
    try:
        this.unregister(unregistered)
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


class FastsocketSelector(selectors.EpollSelector):
    """A selectors.EpollSelector that also takes LocalListeners, for EVENT_READ.

    The first select() in a process claims a slot for them, and connections may arrive there from
    then on. A forked child has its own epoll set, and claims its own slot.
    """

    _selector: select.epoll

    def __init__(self) -> None:
        super().__init__()
        self._exclusive: set[int] = set()
        self._sources: dict[int, tuple[LocalListener, int]] = {}  # descriptor -> listener, source
        self._registered: set[LocalListener] = set()
        self._begun: set[LocalListener] = set()
        self._empty = False  # True after a fork, until the next use
        self.pulse = Pulse()
        self._look = math.inf  # time.monotonic of the next look at siblings
        pollers.add(self)

    # -- listeners --

    def register_listener(
        self, fd: int, data: Any = None, *, edge: bool = False
    ) -> selectors.SelectorKey:
        """Register a listener for EVENT_READ, so that a connection wakes one waiting process.

        edge: wake once for each connection that arrives, not as long as one waits.
        """
        key = self.register(fd, selectors.EVENT_READ, data)
        check(lib.fs_poll_exclusive(self.fileno(), fd, edge), "epoll_ctl", f"fd {fd}")
        self._exclusive.add(fd)
        return key

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Like selectors.BaseSelector.register. LocalListeners accept only EVENT_READ."""
        if not isinstance(fileobj, LocalListener):
            return super().register(fileobj, events, data)
        if events != selectors.EVENT_READ:
            raise ValueError("a LocalListener can be registered for EVENT_READ only")
        key = selectors._BaseSelectorImpl.register(self, fileobj, events, data)
        self._registered.add(fileobj)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Like selectors.BaseSelector.unregister. A LocalListener gives up its slot."""
        if not isinstance(fileobj, LocalListener):
            key = super().unregister(fileobj)
            self._exclusive.discard(key.fd)
            return key
        key = selectors._BaseSelectorImpl.unregister(self, fileobj)
        self._registered.discard(fileobj)
        self._end(fileobj)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Like selectors.BaseSelector.modify."""
        self._refill()
        key = self.get_key(fileobj)
        ours = key.fd in self._exclusive or isinstance(fileobj, LocalListener)
        if ours and events != key.events:
            # EPOLL_CTL_MOD of an exclusive registration fails with EINVAL.
            self.unregister(fileobj)
            return self.register(fileobj, events, data)
        return super().modify(fileobj, events, data)

    def close(self) -> None:
        """Like selectors.BaseSelector.close. All slots are given up."""
        for local in list(self._begun):
            self._end(local)
        super().close()

    # -- waiting --

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Like selectors.BaseSelector.select. A LocalListener is reported once for all sources."""
        self._refill()
        if not self._registered:  # for an asyncio loop, which calls this in every turn
            if not self.pulse.told:
                return super().select(timeout)
            self.pulse.waits()
            try:
                return super().select(timeout)
            finally:
                self.pulse.runs()
        for local in self._registered - self._begun:
            self._begin(local)
        deadline = math.inf if timeout is None else time.monotonic() + max(timeout, 0)
        while True:
            until = min(deadline, self._look)
            ready = self._poll(None if until == math.inf else until - time.monotonic())
            if ready or time.monotonic() >= deadline:
                return ready

    def _poll(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: dict[int, tuple[selectors.SelectorKey, int]] = {}
        room = len(self.get_map()) + len(self._sources)
        self.pulse.waits()
        try:
            events = self._selector.poll(timeout if timeout is None else max(timeout, 0), room)
        except InterruptedError:
            return []
        finally:
            self.pulse.runs()
        for fd, event in events:
            if fd in self._sources:
                local, source = self._sources[fd]
                if source == CLAIMS:
                    if local.heed():
                        local.activate()
                    continue
                if not self._may_take(local, source):
                    continue
                key, mask = self.get_key(local), selectors.EVENT_READ
            elif (found := self.get_map().get(fd)) is None:
                continue  # no longer watched, since a claim changed in this batch
            else:
                key = found
                read = selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
                write = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
                mask = (read | write) & key.events
            if mask:
                ready[key.fd] = key, mask
        self._look_again(ready)
        return list(ready.values())

    def _may_take(self, local: LocalListener, source: int) -> bool:
        """Whether to accept a connection there. One left to a sibling is looked at later."""
        may = local.may_take(source, 1) > 0
        self._look_later(local)
        return may

    def _look_later(self, local: LocalListener) -> None:
        if (due := local.look_due()) >= 0:
            self._look = min(self._look, time.monotonic() + due / 1000)

    def _look_again(self, ready: dict[int, tuple[selectors.SelectorKey, int]]) -> None:
        if time.monotonic() < self._look:
            return
        self._look = math.inf
        for local in self._begun:
            if local.look():
                key = self.get_key(local)
                ready[key.fd] = key, selectors.EVENT_READ
            self._look_later(local)

    # -- claims --

    def _begin(self, local: LocalListener) -> None:
        self._begun.add(local)
        try:
            if local.watch(partial(self._add, local), self._remove, self.pulse, self.fileno()):
                local.activate()
        except BaseException:
            self._end(local)
            raise

    def _end(self, local: LocalListener) -> None:
        if local in self._begun:
            self._begun.discard(local)
            local.unwatch()

    def _add(self, local: LocalListener, fd: int, source: int, edge: bool) -> None:
        self._sources[fd] = local, source
        self._selector.register(fd, select.EPOLLIN)
        if source != CLAIMS:
            check(lib.fs_poll_exclusive(self.fileno(), fd, edge), "epoll_ctl", f"fd {fd}")

    def _remove(self, fd: int) -> None:
        if self._sources.pop(fd, None) is not None:
            with suppress(FileNotFoundError):  # a sibling's slot that does not wake us at present
                self._selector.unregister(fd)

    # -- forks --

    def renew(self) -> None:
        """In a forked child: make a new epoll set. It is filled at its first use."""
        if self._selector.closed:
            return
        fresh = select.epoll()
        if _is_epoll(self._selector, fresh):
            self._selector.close()  # this process's descriptor only
        else:  # a daemon closed all descriptors, and another file has the number now
            _strangers.append(self._selector)
        self._selector = fresh
        self._empty = True
        self._exclusive.clear()
        self._sources.clear()
        self._begun.clear()

    def _refill(self) -> None:
        if not self._empty:
            return
        self._empty = False
        for key in list(self.get_map().values()):
            if not isinstance(key.fileobj, LocalListener):
                flags = select.EPOLLIN if key.events & selectors.EVENT_READ else 0
                flags |= select.EPOLLOUT if key.events & selectors.EVENT_WRITE else 0
                with suppress(OSError):  # registered since, or closed without being unregistered
                    self._selector.register(key.fd, flags)
