"""The C programs: every operation and error, processes, and leftovers of thousands of rounds."""

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import PROGRAMS, load, loaded, unload

pytestmark = pytest.mark.kernel

# Emulated, with KASAN and lockdep, everything takes some twenty times as long: fewer rounds do.
DEBUG = os.uname().release.endswith("-fsdebug")
SHARE = 20 if DEBUG else 1
SLOW = {"SLOW": str(SHARE)}


def run(program: str, **settings: object) -> str:
    done = subprocess.run(
        [PROGRAMS / program],
        env=os.environ | {name: str(value) for name, value in settings.items()} | SLOW,
        capture_output=True,
        text=True,
        timeout=500,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_operations_and_errors() -> None:
    assert "FAILED" not in run("abi")


@pytest.mark.parametrize("program", ["listeners", "processes", "hostile"])
def test_listeners_processes_and_hostile_users(program: str) -> None:
    assert "FAILED" not in run(program)


@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_two_processes(seed: int) -> None:
    print(run("stress", SEED=seed, ROUNDS=1000 // SHARE))


def slabs() -> dict[str, int]:
    """The number of objects in use, for each cache that a listener allocates from: slabinfo(5)."""
    names = ("TCP", "TCPv6", "sock_inode_cache", "pid", "filp", "tcp_bind_bucket", "kmalloc-1k")
    found = {}
    for line in Path("/proc/slabinfo").read_text().splitlines():
        name, *numbers = line.split()
        if name in names:
            found[name] = int(numbers[0])
    return found


@pytest.mark.skipif(DEBUG, reason="what is freed waits in KASAN's quarantine, and counts")
def test_ten_thousand_rounds_leave_nothing() -> None:
    run("rounds", ROUNDS=200 // SHARE)
    before = slabs()
    run("rounds", ROUNDS=10000 // SHARE)
    after = slabs()
    print(before, after)
    grown = {
        name: (before[name], after[name]) for name in before if after[name] > before[name] + 500
    }
    assert not grown


@pytest.mark.parametrize("seed", [1, 2])
def test_random_ioctls(seed: int) -> None:
    run("fuzz", SEED=seed, SECONDS=20)


def test_loaded_and_unloaded_ten_times() -> None:
    for _ in range(10):
        assert unload()
        assert not Path("/dev/fastsocket").exists()
        assert not Path("/proc/net/fastsocket").exists()
        load()
        assert loaded()
        run("rounds", ROUNDS=5)


def test_the_device_is_as_the_rule_says() -> None:
    mode = os.stat("/dev/fastsocket").st_mode
    assert mode & 0o777 == 0o666
    os.chown("/dev/fastsocket", 0, 33)
    os.chmod("/dev/fastsocket", 0o660)
    refused = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", "/dev/fastsocket"],
        capture_output=True,
        text=True,
    )
    assert "Permission denied" in refused.stderr
