"""Reads a listen table: its state, and the state of each slot.

A process that has the table reads it. Any other process that may read the owner's /proc entry maps
the table's page read-only.

Source: native/include/fastsocket/fs.h.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._native import Handle, check, ffi, lib, text
from ..address import host_port, parse
from ..choices import IN_FORCE, STEERINGS
from ..proc import descriptors
from . import histogram
from .histogram import Histogram

GLOBAL: int = lib.FS_GLOBAL
"""In the place of a slot number: the global listener, or a process without a slot."""

PAGE_NAME = "/memfd:fastsocket-table"

_ADDRESS = ffi.offsetof("struct fs_table_info", "address")


@dataclass(frozen=True)
class TableInfo:
    """The state of a whole table at one moment."""

    address: str
    """The address, as host:port; "unix" for a unix socket."""
    slots: int
    """Number of slots."""
    shared: bool
    """Whether all processes accept from the global listener; `why` has the reason."""
    stopping: bool
    """Whether the table's full stop has begun, which keeps new handshakes away."""
    wanted: str
    """The requested steering, "auto", "cpu" or "spread"."""
    steer: str
    """The steering in force, "cpu", "spread", or "hash", the kernel's own."""
    generation: int
    """Number of changes of the steering program."""
    others: int
    """Connections accepted by processes without a slot."""
    restored: int
    """Times that the supervisor found an invalid page, and restored it."""
    cookie: int
    """SO_COOKIE of the global listener, socket(7)."""
    why: str
    """Why the table is steered, or shared, as it is; one line."""


@dataclass(frozen=True)
class SlotInfo:
    """The state of one slot at one moment. Counters are connections since the table was made."""

    slot: int
    """Number of the slot, from 0."""
    pid: int
    """Process id of its owner, or 0 if it has none."""
    tid: int
    """Thread id of its owner, or 0 if it has none."""
    cpu: int
    """The core of the slot, or -1."""
    live: bool
    """Whether new connections are steered to it."""
    alive: bool
    """Whether its owner runs."""
    used: bool
    """Whether it has, or had, an owner."""
    claims: int
    """Times that it was claimed."""
    epoch: int
    """A number that changes whenever its owner or `live` does."""
    own: int
    """Connections that its owners accepted from this slot."""
    stolen: int
    """Connections that its owners accepted from slots of living siblings."""
    orphan: int
    """Connections that its owners accepted from slots without an owner."""
    global_: int
    """Connections that its owners accepted from the global listener."""
    cookie: int
    """SO_COOKIE of its socket, socket(7)."""
    arrived: int
    """Connections that any process accepted from this slot."""
    helped: int
    """Connections that siblings accepted from this slot because its owner was late."""
    open: int | None
    """Connections that its owner holds now, or None if the owner does not count them."""
    busy: float | None
    """Share of its time, 0 to 1, that its owner worked, or None if that is unknown."""
    late: int
    """Connections that its owner accepted because a sibling was late."""

    @property
    def accepted(self) -> int:
        """All connections that this slot's owners accepted."""
        return self.own + self.stolen + self.orphan + self.global_


class Readable(Handle):
    """A table that can be read by its maker, by processes that inherited it, and by others."""

    _table: Any

    def _open(self) -> Any:
        if self._table is None:
            raise ValueError("the listen table is closed")
        return self._table

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._table is None

    def info(self) -> TableInfo:
        """The table's state now."""
        i = ffi.new("struct fs_table_info *")
        lib.fs_table_read(self._open(), i)
        name = parse(bytes(ffi.buffer(i))[_ADDRESS : _ADDRESS + i.address_len])
        return TableInfo(
            host_port(name) if isinstance(name, tuple) else "unix",
            i.slots,
            i.shared,
            i.stopping,
            STEERINGS[i.wanted],
            IN_FORCE[i.steer],
            i.generation,
            i.others,
            i.restored,
            i.cookie,
            text(i.why),
        )

    def slot(self, slot: int) -> SlotInfo:
        """One slot's state now. Raises OSError (EINVAL) if there is no such slot."""
        i = ffi.new("struct fs_slot_info *")
        check(lib.fs_table_read_slot(self._open(), slot, i), "read slot", slot)
        return SlotInfo(
            slot,
            i.pid,
            i.tid,
            i.cpu,
            i.live,
            i.alive,
            i.used,
            i.claims,
            i.epoch,
            i.own,
            i.stolen,
            i.orphan,
            getattr(i, "global"),
            i.cookie,
            i.arrived,
            i.helped,
            i.open if i.open >= 0 else None,
            i.worked / i.lived if i.lived else None,
            i.late,
        )

    def waits(self, slot: int) -> Histogram:
        """How long connections that this slot's owners accepted had waited in the kernel, from
        their first bytes on. A preloaded program measures one in 32, to a few milliseconds. Raises
        OSError (EINVAL) if there is no such slot."""
        raw = histogram.new()
        check(lib.fs_table_read_waits(self._open(), slot, raw), "read slot", slot)
        return Histogram.read(raw)

    def slots(self) -> list[SlotInfo]:
        """All slots' states now, by number."""
        return [self.slot(i) for i in range(self.info().slots)]

    def close(self) -> None:
        """Close the table in this process. May be called twice."""
        if self._table is not None:
            table, self._table = self._table, None
            lib.fs_table_free(table)


class TableView(Readable):
    """A read-only view of another process's table, by its page.

    Attributes:
        page: inode of the page; two views of one table have the same.
    """

    def __init__(self, page_fd: int) -> None:
        self._table = None
        out = ffi.new("struct fs_table **")
        check(lib.fs_table_attach(out, page_fd), "attach")
        self._table = out[0]
        self.page = os.fstat(page_fd).st_ino

    @classmethod
    def at(cls, path: str) -> "TableView":
        """The table whose page is at `path`, a path of /proc/pid/fd. Raises OSError: EINVAL if the
        page is invalid, or belongs to another release.

        The path may lead to another file by now, and to open that may have effects (a terminal, a
        fifo). So the file is checked before it is opened.
        """
        seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(seen).st_mode):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            # Another process may hold a lease on it, fcntl(2): do not wait for that.
            fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        finally:
            os.close(seen)
        try:
            return cls(fd)
        finally:
            os.close(fd)  # the mapping stays


def pages_of(pid: int) -> Iterator[str]:
    """Paths of the pages of tables that a process holds. Raises OSError as `tables_of` does."""
    return (path for path, meaning in descriptors(pid) if meaning.startswith(PAGE_NAME))


def tables_of(pid: int) -> Iterator[TableView]:
    """Views of the tables that process `pid` holds, in the order it made them.

    Raises OSError if the process has ended or may not be inspected (proc(5), /proc/pid/fd), or if a
    page is invalid.
    """
    for path in pages_of(pid):
        with suppress(FileNotFoundError):  # closed meanwhile
            yield TableView.at(path)
