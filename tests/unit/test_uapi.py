"""The ioctl ABI: numbers, sizes and offsets through cffi are those that a C program sees."""

import subprocess
from pathlib import Path

from aiofastsocket._native import ffi, lib

NATIVE = Path(__file__).parents[2] / "native"


def seen_by_c(tmp_path: Path) -> dict[str, int]:
    program = tmp_path / "uapi"
    subprocess.run(
        ["cc", "-I", NATIVE / "include", NATIVE / "tests" / "test_uapi.c", "-o", program],
        check=True,
    )
    out = subprocess.run([program], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in (line.split() for line in out.stdout.splitlines())}


def seen_by_cffi(name: str) -> int:
    struct = "struct fsocket_ioctl_arg"
    if name.startswith("FSOCKET"):
        return int(getattr(lib, name))
    if name == "sizeof":
        return ffi.sizeof(struct)
    return ffi.offsetof(struct, *name.split("."))


def test_cffi_and_c_agree(tmp_path: Path) -> None:
    expected = seen_by_c(tmp_path)
    assert len(expected) == 8 + 1 + 2 + 15
    assert {name: seen_by_cffi(name) for name in expected} == expected


def test_numbers_are_the_published_ones() -> None:
    names = "SOCKET LISTEN ACCEPT CLOSE EPOLL_CTL SPAWN_LISTEN SHUTDOWN_LISTEN SPAWN_ALL_LISTEN"
    for number, name in enumerate(names.split(), 1):
        assert getattr(lib, f"FSOCKET_IOC_{name}") == 0xF500 + number
    assert ffi.sizeof("struct fsocket_ioctl_arg") == 32
