"""The call-site programs, compiled; the library plain and with sanitizers."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from aiofastsocket.preload import preload_path

PROGRAMS = Path(__file__).parent / "programs"
SHIM = Path(__file__).parents[2] / "native" / "shim"


def cc(*arguments: object) -> None:
    """Run the compiler; a warning fails the test."""
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")
    subprocess.run(["gcc", *flags, *map(str, arguments)], check=True)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled programs."""
    folder = tmp_path_factory.mktemp("programs")
    cc("-shared", "-fPIC", "-o", folder / "libearly.so", PROGRAMS / "early_library.c")
    linked = {"early": ("-L", folder, "-learly", f"-Wl,-rpath,{folder}")}
    for source in PROGRAMS.glob("*.c"):
        if source.stem != "early_library":
            cc("-o", folder / source.stem, source, *linked.get(source.stem, ()))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> str:
    """LD_PRELOAD for the library with AddressSanitizer and UndefinedBehaviorSanitizer."""
    out = tmp_path_factory.mktemp("sanitized") / "libfsocket.so"
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    make = ["make", "-s", "-C", str(SHIM), f"OUT={out}", f"CFLAGS=-O1 -g -Werror {flags}"]
    subprocess.run([*make, f"LDFLAGS={flags}"], check=True)
    runtime = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return ":".join([*runtime, str(out)])


def run(
    command: list[str], *, preload: str | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end with the library, or with another LD_PRELOAD: "" is none."""
    library = preload_path() if preload is None else preload
    base = {k: v for k, v in os.environ.items() if not k.startswith(("FSOCKET_", "LD_PRELOAD"))}
    base |= {"LD_PRELOAD": library} if library else {}
    return subprocess.run(
        command, env=base | dict(env or {}), capture_output=True, text=True, timeout=60
    )
