"""Small programs of one idea each print the same plain and preloaded."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from .conftest import PROGRAMS, SHIM, run

# Name and arguments, the number of tables that it makes, and whether it claims a slot. Without
# these checks, a library that does nothing would pass.
CALL_SITES = [
    ("accept_blocking", 1, False),
    ("poll_select", 1, False),
    ("epoll_modes level", 1, True),
    ("epoll_modes edge", 1, True),
    ("epoll_modes oneshot", 1, False),
    ("epoll_modes exclusive", 1, True),
    ("epoll_modes rdhup", 1, True),
    ("epoll_calls", 1, True),
    ("dup_listener", 1, True),
    ("scm_rights", 1, True),
    ("fork_workers", 1, True),
    ("fork_shapes", 2, True),
    ("spawn", 1, True),
    ("exec_self", 1, True),
    ("hidden_numbers", 1, True),
    ("close_shapes", 4, True),
    ("many_listeners", 30, True),
    ("families", 2, True),
    ("early", 2, True),
    ("high_fd", 1, True),
    ("low_limit", 1, True),
    ("low_limit hard", 1, True),
    ("shutdown", 1, True),
    ("options", 1, True),
    ("second_server", 3, False),
    ("signals", 1, False),
    ("threads", 1, True),
    ("threads_accepting", 1, False),
    ("thread_roles", 1, True),
    ("mixed", 1, True),
    ("signals_epoll", 301, True),
    ("late_claims", 5, True),
    ("dup_number", 1, True),
    ("edges", 13, True),
    ("taken_out", 1, True),
    ("own_shards", 1, None),  # the first worker may have a slot until the second comes
    ("listen_in_children", 1, True),
    ("time_limit", 1, True),
    ("many_numbers", 1, True),
]


def test_every_program_is_run() -> None:
    helpers = {"early_library"}
    assert {p.stem for p in PROGRAMS.glob("*.c")} - helpers == {
        name.split()[0] for name, _, _ in CALL_SITES
    }


@pytest.mark.parametrize("library", ["shim", "sanitized"])
@pytest.mark.parametrize(("call", "tables", "claims"), CALL_SITES, ids=[c[0] for c in CALL_SITES])
def test_prints_the_same(
    call: str,
    tables: int,
    claims: bool | None,
    library: str,
    programs: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if call == "high_fd" and limit < 70100:
        pytest.skip(f"the hard limit of descriptors is {limit} here")
    name, *arguments = call.split()
    command = [str(programs / name), *arguments]
    log = tmp_path / "log"
    preload = request.getfixturevalue("sanitized") if library == "sanitized" else None
    # Leaks of the programs themselves are not tested.
    env = {"FSOCKET_LOG": f"debug:{log}", "ASAN_OPTIONS": "detect_leaks=0"}
    plain = run(command, preload="")
    ours = run(command, preload=preload, env=env)
    assert (ours.stdout, ours.returncode) == (plain.stdout, plain.returncode), ours.stderr
    assert plain.returncode == 0
    assert ours.stderr == plain.stderr
    said = log.read_text()
    assert said.count("slots, steering") == tables
    assert claims is None or ("has slot" in said) == claims


def test_other_programs_pages_are_passed_over(programs: Path, tmp_path: Path) -> None:
    """A process that searches all processes for its listener's table meets pages of every kind."""
    command = [str(programs / "scm_rights")]
    foreign = os.memfd_create("fastsocket-table")  # not even a page
    log = tmp_path / "log"
    try:
        ours = run(command, env={"FSOCKET_LOG": f"info:{log}"})
    finally:
        os.close(foreign)
    assert ours.stdout == run(command, preload="").stdout
    assert "shares its slots with" in log.read_text()


@pytest.mark.parametrize("backend", ["off", "device"])
def test_switched_off(backend: str, programs: Path, tmp_path: Path) -> None:
    """Programs print the same without tables. `off` is silent; a missing device is logged once."""
    if backend == "device" and os.path.exists("/dev/fastsocket"):
        pytest.skip("/dev/fastsocket is there")
    for call, _, _ in CALL_SITES:
        if call in ("high_fd", "threads", "mixed", "late_claims", "signals_epoll"):
            continue
        name, *arguments = call.split()
        command = [str(programs / name), *arguments]
        plain = run(command, preload="")
        ours = run(command, env={"FSOCKET_BACKEND": backend})
        assert ours.stdout == plain.stdout
        said = ours.stderr.splitlines()
        if backend == "off":
            assert said == []
        else:
            assert said
            assert all("does not exist: the kernel module is not loaded" in line for line in said)
            listening = {"fork_shapes": 2, "own_shards": 4, "listen_in_children": 2}
            assert len(said) == listening.get(call, 1)


def test_builds_alone(tmp_path: Path) -> None:
    """`make -C native/shim` needs no Python; the library exports only libc's names and ours."""
    out = tmp_path / "libfsocket.so"
    subprocess.run(["make", "-s", "-C", SHIM, f"OUT={out}", "CFLAGS=-O2 -Werror"], check=True)
    text = subprocess.run(
        ["nm", "-D", "--defined-only", out], capture_output=True, text=True, check=True
    ).stdout
    exported = {line.split()[-1] for line in text.splitlines()}
    wanted = {"listen", "accept4", "epoll_wait", "execve", "syscall", "close_range", "recvmsg"}
    assert wanted <= exported
    assert not [name for name in exported if name.startswith(("fs_", "real_", "shim_", "__wrap"))]
