"""The module in the guest: it is loaded for each test, and the kernel logs no error."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.conftest import start  # noqa: F401  (a fixture)
from support.service import until

PROGRAMS = Path(__file__).parents[3] / "build" / "kernel" / "programs"

# Words of the kernel's error messages: lib/bug.c, mm/slub.c, mm/kfence, lib/refcount.c ...
SPLAT = re.compile(
    r"BUG|WARNING|Oops|refcount|general protection|KFENCE|KASAN|lockdep|Call Trace|INFO: task"
    r"|unregister_netdevice|scheduling while atomic|Freed object|Redzone|Poison"
)


def load(*parameters: str) -> None:
    subprocess.run(["insmod", os.environ["FASTSOCKET_MODULE"], *parameters], check=True)


def unload() -> bool:
    return subprocess.run(["rmmod", "fastsocket"], capture_output=True).returncode == 0


def loaded() -> bool:
    return Path("/sys/module/fastsocket").exists()


def kernel_log() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    """Load the module before a test; afterwards it is not in use, and the kernel's log is clean."""
    subprocess.run(["dmesg", "-C"], check=True)
    if not loaded():
        load()
    yield
    if loaded():
        until(unload, "no process holds a listener, and the module is unloaded")
    assert not [line for line in kernel_log().splitlines() if SPLAT.search(line)], kernel_log()
