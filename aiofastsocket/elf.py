"""Read the headers of an ELF file, elf(5): its machine, its linker and its libraries."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAGIC = b"\x7fELF"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


@dataclass(frozen=True)
class Elf:
    """A program or a library. machine: class (32 or 64 bits) and e_machine. linker: PT_INTERP; None
    if it is statically linked. needed: DT_NEEDED, the libraries that it is linked to."""

    machine: tuple[int, int]
    linker: str | None = None
    needed: tuple[str, ...] = ()
    go: bool = False

    @property
    def libc(self) -> str:
        """The libc of a program's linker, or the libc that a library needs: "musl" or "glibc"."""
        names = [Path(self.linker).name] if self.linker else self.needed
        # Names of musl by Alpine's gcc, and by zig. A library linked to glibc has libc.so.6.
        musl = any(n.startswith(("ld-musl", "libc.musl")) or n == "libc.so" for n in names)
        return "musl" if musl else "glibc"


def read(path: Path) -> Elf | None:
    """The data in the headers; None if it is not an ELF file. A 32-bit one has only its machine."""
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:4] != _MAGIC:
            return None
        machine = head[4], struct.unpack_from("=H", head, 18)[0]
        if head[4] != 2:
            return Elf(machine, linker="")
        parts = _segments(file, head)
        linker = next((_at(file, part) for part in parts if part.kind == _PT_INTERP), None)
        return Elf(
            machine,
            None if linker is None else os.fsdecode(linker.rstrip(b"\0")),
            _needed(file, parts),
            b".go.buildinfo\0" in _section_names(file, head),
        )


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int


def _segments(file: BinaryIO, head: bytes) -> list[_Segment]:
    """Program headers."""
    (offset,) = struct.unpack_from("=Q", head, 32)
    size, count = struct.unpack_from("=HH", head, 54)
    file.seek(offset)
    table = file.read(size * count)
    return [_Segment(*struct.unpack_from("=IIQQQQ", table, i * size)) for i in range(count)]


def _at(file: BinaryIO, part: _Segment) -> bytes:
    file.seek(part.offset)
    return file.read(part.size)


def _needed(file: BinaryIO, parts: list[_Segment]) -> tuple[str, ...]:
    """The names of needed libraries in the dynamic section."""
    dynamic = b"".join(_at(file, part) for part in parts if part.kind == _PT_DYNAMIC)
    tags = list(struct.iter_unpack("=QQ", dynamic[: len(dynamic) // 16 * 16]))
    strings = next((value for tag, value in tags if tag == _DT_STRTAB), 0)
    names = []
    for part in parts:
        if part.kind == _PT_LOAD and part.address <= strings < part.address + part.size:
            for tag, value in tags:
                if tag == _DT_NEEDED:
                    file.seek(part.offset + strings - part.address + value)
                    names.append(os.fsdecode(file.read(256).partition(b"\0")[0]))
    return tuple(names)


def _section_names(file: BinaryIO, head: bytes) -> bytes:
    (sections,) = struct.unpack_from("=Q", head, 40)
    size, count, names = struct.unpack_from("=HHH", head, 58)
    if names >= count:
        return b""
    file.seek(sections + names * size)
    header = file.read(64)
    if len(header) < 64:
        return b""
    start, length = struct.unpack_from("=QQ", header, 24)
    file.seek(start)
    return file.read(length)
