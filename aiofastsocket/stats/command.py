"""`aiofastsocket stats`: show the listen tables of running programs, as text or as JSON.

It reads the pages that these programs share, without disturbing them: programs with the preload
library, `serve`, and programs on our loops. Counters of listeners on the device come from the
kernel module.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .. import proc
from ..errors import SetupError, UsageError
from ..kernel import DeviceCore, Queue, device_cores, listen_queues
from ..table.histogram import Histogram
from ..table.view import SlotInfo, TableInfo, TableView, pages_of


@dataclass(frozen=True)
class Table:
    """One table at one moment, and the first of the processes that hold it."""

    pid: int
    info: TableInfo
    slots: list[SlotInfo]
    queue: int | None
    """Connections waiting at the global listener; None if that is not available."""
    queues: list[int | None]
    """Connections waiting at each slot; None if that is not available."""
    waits: list[Histogram]
    """For each slot, how long the connections that its owners accepted had waited."""


@dataclass(frozen=True)
class Broken:
    """A page that cannot be read, and the first of the processes that hold it."""

    pid: int
    page: int


def _length(queues: dict[int, Queue], cookie: int) -> int | None:
    return queues[cookie].length if cookie in queues else None


def _look(path: str, pid: int, queues: dict[int, Queue]) -> Table:
    with TableView.at(path) as view:
        info, slots = view.info(), view.slots()
        waits = [view.waits(s.slot) for s in slots]
    each = [_length(queues, s.cookie) for s in slots]
    is_slot = any(s.cookie == info.cookie for s in slots)  # `serve`: slot 0, which has its queue
    return Table(pid, info, slots, 0 if is_slot else _length(queues, info.cookie), each, waits)


def collect(pids: Iterable[int], broken: list[Broken] | None = None) -> list[Table]:
    """The tables that these processes hold, each once. Processes that we may not inspect are
    skipped. broken: a list that gets the invalid pages."""
    queues: dict[int, Queue] = {}
    with suppress(OSError):
        queues = listen_queues()
    found: dict[int, Table | Broken] = {}  # by the inode of the page
    for pid in pids:
        with suppress(OSError):  # ended, or we may not inspect it
            for path in pages_of(pid):
                with suppress(FileNotFoundError):  # closed meanwhile
                    page = os.stat(path).st_ino
                    if page in found:
                        continue
                    try:
                        found[page] = _look(path, pid, queues)
                    except OSError as error:
                        if error.errno != errno.EINVAL:
                            raise
                        found[page] = Broken(pid, page)
    if broken is not None:
        broken += [one for one in found.values() if isinstance(one, Broken)]
    tables = [one for one in found.values() if isinstance(one, Table)]
    return sorted(tables, key=lambda table: (table.pid, table.info.address))


@dataclass(frozen=True)
class Found:
    """The result of a query: tables, and listeners on the device by their sockets' inodes."""

    tables: list[Table]
    devices: dict[int, list[DeviceCore]]
    broken: list[Broken] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tables or self.devices or self.broken)


def _device_listeners() -> dict[int, list[DeviceCore]]:
    found: dict[int, list[DeviceCore]] = {}
    with suppress(FileNotFoundError):  # the module is not loaded
        for core in device_cores():
            found.setdefault(core.inode, []).append(core)
    return found


def _sockets(pids: Iterable[int]) -> set[int]:
    """Inodes of the sockets that these processes hold."""
    found: set[int] = set()
    for pid in pids:
        with suppress(OSError):  # ended, or we may not inspect it
            found |= proc.sockets(pid)
    return found


def select(which: str | None) -> Found:
    """The listeners of an address, a port or a process id; None: all that we may inspect.

    Raises UsageError for an invalid argument, SetupError if there are no such listeners.
    """
    if which is None:
        broken: list[Broken] = []
        found = Found(collect(proc.all_pids(), broken), _device_listeners(), broken)
        if not found:
            raise SetupError(
                "no listen table found, or no permission to inspect the processes that have one"
            )
        return found
    devices = _device_listeners()
    if ":" in which or (which.isdecimal() and int(which) > 0):
        end = which if ":" in which else f":{which}"
        found = Found(
            [t for t in collect(proc.all_pids()) if _named(t.info.address, end)],
            {inode: cores for inode, cores in devices.items() if _named(cores[0].address, end)},
        )
    else:
        raise UsageError(f"{which!r} is neither a port, a process id nor host:port")
    if not found and which.isdecimal():
        pids = proc.family(int(which))
        held = _sockets(pids) if devices else set()
        broken = []
        tables = collect(pids, broken)
        found = Found(tables, {i: cores for i, cores in devices.items() if i in held}, broken)
    if not found:
        raise SetupError(f"no listen table found for {which}, or no permission to inspect it")
    return found


def _named(address: str, end: str) -> bool:
    """Whether `end` is the address itself, or the `:port` at its end."""
    return address.endswith(end) if end.startswith(":") else address == end


def _rounded(seconds: float | None) -> float | None:
    """The seconds, rounded to a microsecond."""
    return None if seconds is None else round(seconds, 6)


BROKEN = "its listen table is invalid, or belongs to another release"


def as_json(found: Found) -> str:
    """A list of objects: one for each table, and one for each listener on the device."""

    def slot(table: Table, s: SlotInfo) -> dict[str, Any]:
        return {
            "slot": s.slot,
            "pid": s.pid or None,
            "thread": s.tid if s.pid else None,
            "program": proc.program_name(s.pid) if s.pid else None,
            "core": s.cpu,
            "live": s.live,
            "own": s.own,
            "stolen": s.stolen,
            "orphan": s.orphan,
            "global": s.global_,
            "queue": table.queues[s.slot],
            "open": s.open,
            "busy": None if s.busy is None else round(s.busy, 4),
            "late": s.late,
            "queue_time": {
                "count": table.waits[s.slot].count,
                "p50": _rounded(table.waits[s.slot].quantile(0.5)),
                "p99": _rounded(table.waits[s.slot].quantile(0.99)),
            },
        }

    return json.dumps(
        [
            {
                "address": t.info.address,
                "pid": t.pid,
                "program": proc.program_name(t.pid),
                "shared": t.info.shared,
                "steer": t.info.steer,
                "steering": t.info.steer,  # the old name of `steer`, until 0.1
                "why": t.info.why,
                "queue": t.queue,
                "without_slot": t.info.others,
                "slots": [slot(t, s) for s in t.slots],
            }
            for t in found.tables
        ]
        + [
            {
                "address": cores[0].address,
                "backend": "device",
                "inode": inode,
                "queue": sum(c.queue for c in cores if c.core is None),
                "cores": [
                    {
                        "core": c.core,
                        "live": c.live,
                        "pids": c.owners,
                        "own": c.own,
                        "global": c.global_,
                        "adopted": c.adopted,
                        "queue": c.queue,
                    }
                    for c in cores
                ],
            }
            for inode, cores in found.devices.items()
        ]
        + [
            {"pid": b.pid, "program": proc.program_name(b.pid), "error": BROKEN}
            for b in found.broken
        ]
    )


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.2f}s" if seconds >= 1 else f"{seconds * 1000:.1f}ms"


def _aligned(rows: list[tuple[str, ...]], left: int) -> Iterable[str]:
    """The lines of a table, with the column `left` aligned left; no lines if it has only a head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows if len(rows) > 1 else ():
        cells = (
            cell.ljust(width) if i == left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells).rstrip()


def _device_text(cores: list[DeviceCore]) -> Iterable[str]:
    """A paragraph for a listener on the device."""
    yield f"{cores[0].address}  on the device"
    rows: list[tuple[str, ...]] = [("core", "owner", "own", "global", "adopted", "queue")]
    for c in cores:
        if c.core is not None:
            owner = ", ".join(f"{proc.program_name(pid)} {pid}" for pid in c.owners) or "none"
            rows.append((str(c.core), owner, *map(str, (c.own, c.global_, c.adopted, c.queue))))
    yield from _aligned(rows, left=1)
    for c in cores:
        if c.core is None:
            yield (
                f"  {c.global_ + c.adopted} accepted without a local listener;"
                f" {c.queue} waiting at the program's own socket"
            )


def as_text(found: Found) -> str:
    """A paragraph for each table, and for each listener on the device."""
    lines: list[str] = []
    for t in found.tables:
        kind = "shared" if t.info.shared else f"{len(t.slots)} slots, steering {t.info.steer}"
        lines.append(f"{t.info.address}  {proc.program_name(t.pid)} (process {t.pid})")
        lines.append(f"  {kind}: {t.info.why}")
        rows: list[tuple[str, ...]] = [
            (
                *("slot", "core", "owner", "own", "stolen", "orphan", "global", "queue"),
                *("open", "busy", "late", "wait p50", "wait p99"),
            )
        ]
        for s in t.slots:
            if not s.used and not s.accepted:
                continue
            thread = "" if s.tid == s.pid else f"/{s.tid}"
            owner = f"{proc.program_name(s.pid)} {s.pid}{thread}" if s.alive else "none"
            core = str(s.cpu) if s.cpu >= 0 else "-"
            counts = (s.own, s.stolen, s.orphan, s.global_)
            busy = "?" if s.busy is None else f"{s.busy:.0%}"
            shown = (_number(t.queues[s.slot]), _number(s.open), busy, str(s.late))
            waits = [_time(t.waits[s.slot].quantile(q)) for q in (0.5, 0.99)]
            rows.append((str(s.slot), core, owner, *map(str, counts), *shown, *waits))
        lines += _aligned(rows, left=2)
        unused = sum(not s.used for s in t.slots)
        rest = f"{unused} slots not used yet; " if unused and not t.info.shared else ""
        lines.append(
            f"  {rest}{t.info.others} accepted without a slot;"
            f" {_number(t.queue)} waiting at the program's own socket"
        )
    for cores in found.devices.values():
        lines += _device_text(cores)
    for b in found.broken:
        lines.append(f"{proc.program_name(b.pid)} (process {b.pid}): {BROKEN}")
    return "\n".join(lines)


def show(which: str | None, *, as_machine: bool, watch: bool) -> int:
    """Print the listeners once, or every second until interrupted. Returns the exit code."""
    clear = (
        "\x1b[H\x1b[2J" if sys.stdout is not None and sys.stdout.isatty() and not as_machine else ""
    )
    try:
        while True:
            found = select(which)
            body = as_json(found) if as_machine else as_text(found)
            print((clear if watch else "") + body, flush=True)
            if not watch:
                return 0
            time.sleep(1)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # `| head` has ended: keep Python from flushing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
