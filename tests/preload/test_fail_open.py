"""If the kernel or a sandbox refuses something, the program runs on as plain, with one log line."""

import os
import shutil
from pathlib import Path

import pytest
from support.sandbox import refusing
from support.service import let_everybody_in

from aiofastsocket.preload import preload_path

from .conftest import run

SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF = 15, 51


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("fsocket[")]


@pytest.mark.parametrize(
    "refused",
    [
        f"setsockopt:{SO_REUSEPORT}",
        f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}",
        "memfd_create",
    ],
)
def test_sandbox(refused: str, programs: Path) -> None:
    for program in ("epoll_modes level", "fork_workers"):
        name, *arguments = program.split()
        command = [str(programs / name), *arguments]
        plain = run(command, preload="")
        ours = run([*refusing(refused), *command])
        assert (ours.stdout, ours.returncode) == (plain.stdout, 0)
        assert len(lines(ours.stderr)) == 1
        assert "no local listeners: " in ours.stderr
        assert "Operation not permitted" in ours.stderr


@pytest.mark.parametrize("refused", [f"setsockopt:{SO_ATTACH_REUSEPORT_CBPF}", "memfd_create"])
def test_sandbox_and_a_program_that_shares_its_port_itself(refused: str, programs: Path) -> None:
    """The program may not want slots; the log says anyway that they are refused."""
    command = [str(programs / "own_shards")]
    plain = run(command, preload="")
    ours = run([*refusing(refused), *command])
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0)
    told = [line for line in lines(ours.stderr) if "no local listeners: " in line]
    assert told
    assert all("is refused: Operation not permitted" in line for line in told)


@pytest.mark.parametrize("refused", ["pidfd_open", "io_uring_setup"])
def test_sandbox_refuses_a_convenience(refused: str, programs: Path) -> None:
    """A refused convenience is not logged; a worker's death is noticed anyway."""
    command = [str(programs / "fork_workers")]
    plain = run(command, preload="")
    ours = run([*refusing(refused), *command])
    assert (ours.stdout, ours.returncode, ours.stderr) == (plain.stdout, 0, "")


def test_sandbox_refuses_the_slots_of_another_process(programs: Path) -> None:
    """A process without access to the slots would get no connections: then no process uses them."""
    command = [str(programs / "listen_in_children")]
    plain = run(command, preload="")
    ours = run([*refusing("pidfd_getfd"), *command])
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0)
    (line,) = ours.stderr.splitlines()
    assert "not available from the process it came from" in line
    assert "no local listeners any more" in line


def test_no_descriptors_left(programs: Path) -> None:
    command = [str(programs / "epoll_modes"), "level"]
    plain = run(command, preload="")
    few = ["prlimit", "--nofile=20:20", *command]
    ours = run(few)
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0)
    assert len(lines(ours.stderr)) == 1
    assert "no local listeners: Too many open files" in ours.stderr


def test_leaves_most_descriptors_to_the_program(programs: Path, tmp_path: Path) -> None:
    """The library opens at most a quarter of the limit, with fewer slots if necessary."""
    log = tmp_path / "log"
    env = {"FSOCKET_LOG": f"info:{log}", "FSOCKET_SLOTS": "500"}
    assert run([str(programs / "low_limit"), "hard"], env=env).returncode == 0
    assert " 12 slots, steering" in log.read_text()  # 64 / 4, without page, bell and two more


def test_log_that_cannot_be_written(programs: Path) -> None:
    command = [str(programs / "epoll_modes"), "level"]
    plain = run(command, preload="")
    ours = run(command, env={"FSOCKET_LOG": "info:/nonexistent/log"})
    assert ours.stdout == plain.stdout
    (line,) = ours.stderr.splitlines()
    assert "FSOCKET_LOG: /nonexistent/log cannot be opened: No such file" in line


def test_forbidden_device(programs: Path) -> None:
    """If the user may not open the device, `auto` does without it, and `device` logs it."""
    if os.path.exists("/dev/fastsocket"):
        pytest.skip("/dev/fastsocket is there")
    command = [str(programs / "epoll_modes"), "level"]
    # The mount namespace is the program's own, with another /dev.
    inside = (
        "mount -t tmpfs none /dev && touch /dev/fastsocket && chmod 600 /dev/fastsocket"
        ' && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    )
    assert os.geteuid() == 0, "needs root"
    let_everybody_in(programs)
    plain = run(command, preload="")
    namespace = ["unshare", "--mount", "sh", "-c", inside, "sh", "env"]
    from aiofastsocket.preload import preload_path

    library = shutil.copy(preload_path(), programs / "readable.so")
    for backend in ("auto", "device"):
        settings = [f"LD_PRELOAD={library}", f"FSOCKET_BACKEND={backend}"]
        ours = run([*namespace, *settings, *command], preload="")
        assert ours.stdout == plain.stdout, ours.stderr
        said = lines(ours.stderr)
        if backend == "auto":
            assert said == []
        else:
            assert len(said) == 1
            assert "/dev/fastsocket may not be opened by uid 65534" in said[0]


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("BACKEND", "kernel", "auto, device, reuseport or off"),
        ("STEER", "random", "auto, cpu or spread"),
        ("PIN", "yes", "auto, on or off"),
        ("SLOTS", "0", "a number from 1 to 512"),
        ("SLOTS", "8x", "a number from 1 to 512"),
        ("DEFER_ACCEPT", "on", "0 or 1"),
        ("PORTS", "80,", "ports and ranges, for example 80,443,8000-8100"),
        ("PORTS", "90-80", "ports and ranges, for example 80,443,8000-8100"),
        ("LOG", "verbose", "off, error, info or debug"),
        ("LOG", "info:here", "the full path of a file"),
    ],
)
def test_wrong_setting(name: str, value: str, right: str, programs: Path) -> None:
    command = [str(programs / "epoll_modes"), "level"]
    plain = run(command, preload="")
    ours = run(command, env={f"FSOCKET_{name}": value})
    assert (ours.stdout, ours.returncode) == (plain.stdout, 0)
    (line,) = ours.stderr.splitlines()
    assert f"FSOCKET_{name}={value} is invalid: it must be " in line
    assert right in line


def test_ports(programs: Path, tmp_path: Path) -> None:
    """A listener whose port is not in the list is left alone."""
    command = [str(programs / "epoll_modes"), "level"]
    log = tmp_path / "log"
    for ports, tables in (("1-1023,65535", 0), ("1-65535", 1)):
        log.unlink(missing_ok=True)
        done = run(command, env={"FSOCKET_PORTS": ports, "FSOCKET_LOG": f"info:{log}"})
        assert done.returncode == 0
        assert log.read_text().count("slots, steering") == tables


def test_slots_and_steering(programs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    env = {"FSOCKET_SLOTS": "3", "FSOCKET_STEER": "cpu", "FSOCKET_LOG": f"info:{log}"}
    plain = run([str(programs / "fork_workers")], preload="")
    done = run([str(programs / "fork_workers")], env=env)
    assert done.stdout == plain.stdout
    assert "3 slots, steering cpu: requested" in log.read_text()


def test_a_process_that_has_gained_privileges(programs: Path, tmp_path: Path) -> None:
    """/etc/ld.so.preload loads the library into set-user-ID programs, too. There it ignores an
    ordinary user's environment, logs nothing and does nothing. The test uses a mount namespace."""
    assert os.geteuid() == 0, "needs root"
    program = Path(shutil.copy(programs / "epoll_calls", tmp_path / "program"))
    library = Path(shutil.copy(preload_path(), tmp_path / "libfsocket.so"))
    library.chmod(0o755)
    secret = tmp_path / "secret"
    secret.mkdir(0o700)
    let_everybody_in(tmp_path)
    namespace = """
        mkdir "$1/etc" && cp -a /etc/. "$1/etc" && mount --bind "$1/etc" /etc &&
        echo "$1/libfsocket.so" >/etc/ld.so.preload && shift && exec setpriv --reuid 65534 -- "$@"
    """
    variables = [
        f"FSOCKET_LOG=debug:{secret}/log",
        "FSOCKET_TABLES=5:0:6:7:8;",
        "FSOCKET_STEER=nonsense",
    ]
    said = []
    for mode in (0o755, 0o4755):
        program.chmod(mode)
        inside = ["unshare", "--mount", "sh", "-c", namespace, "sh", str(tmp_path)]
        done = run([*inside, "env", *variables, str(program)], preload="")
        assert done.returncode == 0, done.stderr
        assert done.stdout == run([str(program)], preload="").stdout
        assert not list(secret.iterdir())
        said.append(lines(done.stderr))
        shutil.rmtree(tmp_path / "etc")
    assert any("secret/log cannot be opened" in line for line in said[0])
    assert said[1] == []
