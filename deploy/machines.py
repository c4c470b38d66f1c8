"""Chroots of Debian packages: machines without a compiler, or with a newer Python.

mmdebstrap makes them without running the packages' scripts (ten seconds). They are kept as tarballs
under build/machines. A chroot runs in its own namespaces, with only a loopback network. The wheels
and their dependencies are in a folder inside it.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from headers import mirror
from pip._vendor import certifi
from release import RELEASE

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build" / "machines", ROOT / "dist"
HOOK = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
BASE = "bash,dash,coreutils,findutils,grep,sed,mawk,util-linux,iproute2,procps,curl,nginx-light"
ORDINARY = 1000


@dataclass(frozen=True)
class Machine:
    """A Debian release, the Pythons that it has, and other packages to install."""

    suite: str
    pythons: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    architecture: str = "amd64"

    @property
    def packages(self) -> str:
        """Names of the packages. Without package scripts, venv needs only python3-venv's wheels."""
        pythons = [f"python{p},python{p}-venv" for p in self.pythons]
        return ",".join([BASE, *pythons, *self.more])


NEWER = ("3.14", "3.15")
TOOLS = ("gcc", "libc6-dev", "make", "openssl", "gosu", "git")

MACHINES = {
    "debian-11": Machine("bullseye"),  # its Python is too old: it tests only libfsocket.so
    "debian-12": Machine("bookworm", ("3.11",)),
    "debian-13": Machine("trixie", ("3.13",)),
    "debian-sid": Machine("sid", NEWER),
    "debian-13-arm64": Machine("trixie", ("3.13",), ("linux-image-arm64",), "arm64"),
    "debian-source": Machine("trixie", ("3.13",), ("gcc", "libc6-dev", "libpython3.13-dev")),
    "debian-kernel": Machine(
        "sid", (), ("gcc", "libc6-dev", "make", "linux-headers-amd64", "linux-image-amd64")
    ),
    "tests": Machine("sid", NEWER, (*TOOLS, *(f"libpython{p}-testsuite" for p in NEWER))),
}


def made(name: str) -> Path:
    """Unpack a new copy of the machine. Returns its root folder."""
    machine, tarball, root = MACHINES[name], BUILD / f"{name}.tar", BUILD / name
    if not tarball.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        half = tarball.with_suffix(".half.tar")
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={machine.packages}"]
        command += [f"--architectures={machine.architecture}"]
        # A mirror may be an old snapshot; its signature is still checked.
        command += ['--aptopt=Acquire::Check-Valid-Until "false"', f"--hook-dir={HOOK}"]
        subprocess.run([*command, machine.suite, half, mirror()], check=True)
        half.rename(tarball)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", tarball], check=True)
    _as_scripts_would(root)
    return root


def _as_scripts_would(root: Path) -> None:
    """Do the work of the scripts of base-passwd, netbase, ca-certificates, gcc and mawk."""
    etc = root / "etc"
    users = {"root": 0, "nobody": 65534, "new": ORDINARY}
    lines = (f"{name}:x:{number}:{number}::/tmp:/bin/sh\n" for name, number in users.items())
    (etc / "passwd").write_text("".join(lines))
    groups = {"root": 0, "nogroup": 65534, "new": ORDINARY}
    (etc / "group").write_text("".join(f"{name}:x:{n}:\n" for name, n in groups.items()))
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    certificates = etc / "ssl" / "certs" / "ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(certifi.where(), certificates)
    programs = root / "usr" / "bin"
    (programs / "awk").symlink_to("mawk")
    if (programs / "gcc").is_symlink():
        (programs / "cc").symlink_to("gcc")


def lend_wheels(root: Path, python: str, *more: str, machine: str = "x86_64") -> None:
    """Copy wheels into /wheels of the root: ours for that Python and machine, those of its
    dependencies, and those of the packages in `more`."""
    folder = root / "wheels"
    folder.mkdir(exist_ok=True)
    wheels = list(
        DIST.glob(f"aiofastsocket-{RELEASE}-cp{python.replace('.', '')}-*manylinux*_{machine}.whl")
    )
    if not wheels:
        sys.exit(
            f"{root.name}: dist/ has no wheel for CPython {python}, {machine}: run make wheels"
        )
    shutil.copy(wheels[0], folder)
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder)]
    command += ["--python-version", python, "--only-binary=:all:", "--find-links", str(folder)]
    for glibc in ("2_17", "2_28", "2_31"):
        command += ["--platform", f"manylinux_{glibc}_{machine}"]
    subprocess.run([*command, f"aiofastsocket @ file://{wheels[0]}", *more], check=True)


def run_in(root: Path, *command: str, seconds: int = 300) -> None:
    """Run a command as root of the machine. Raises CalledProcessError or TimeoutExpired."""
    # The root must be a mount, as `/` is on a machine. Otherwise no process inside may make mount
    # namespaces.
    script = 'mount --bind "$0" "$0" && cd "$0" && mount --bind /dev dev && mount --bind /dev/pts '
    script += 'dev/pts && mount -t proc proc proc && exec chroot . "$@"'
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", script]
    subprocess.run([*inside, root, *command], check=True, timeout=seconds)
