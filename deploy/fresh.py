"""`make test-fresh`: the wheels on machines that have no compiler, as a new user meets them.

A machine is a chroot of Debian's packages, made by mmdebstrap without running their scripts, and
kept as a tarball under build/machines. It runs in namespaces of its own, with no network but
loopback; the wheels, and those of the dependencies, lie in a folder that it sees. fresh.sh is what
is done there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import ziglang
from headers import MIRROR
from pip._vendor import certifi

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build" / "machines", ROOT / "dist"
HOOK = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
BASE = "bash,dash,coreutils,findutils,grep,sed,mawk,util-linux,iproute2,procps,curl,nginx-light"
ORDINARY = 1000


@dataclass(frozen=True)
class Machine:
    """A Debian, and the Pythons that it brings."""

    suite: str
    pythons: tuple[str, ...]

    @property
    def packages(self) -> str:
        """Without scripts python3-venv's own wheels are all that venv needs."""
        return ",".join([BASE, *(f"python{p},python{p}-venv" for p in self.pythons)])


PROGRAMS = ROOT / "tests" / "preload" / "programs"
# Those that musl has no call for, or that are no program by themselves.
NOT_MUSL = {"close_shapes", "early", "early_library", "epoll_calls", "spawn"}

MACHINES = {
    "debian-11": Machine("bullseye", ()),  # its Python is too old: libfsocket.so alone
    "debian-12": Machine("bookworm", ("3.11",)),
    "debian-13": Machine("trixie", ("3.13",)),
    "debian-sid": Machine("sid", ("3.14", "3.15")),
}


def made(name: str) -> Path:
    """The machine, unpacked anew."""
    machine, tarball, root = MACHINES[name], BUILD / f"{name}.tar", BUILD / name
    if not tarball.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        half = tarball.with_suffix(".half.tar")
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={machine.packages}"]
        # A mirror may be a snapshot; its signature is checked all the same.
        command += ['--aptopt=Acquire::Check-Valid-Until "false"', f"--hook-dir={HOOK}"]
        subprocess.run([*command, machine.suite, half, MIRROR], check=True)
        half.rename(tarball)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", tarball], check=True)
    # What the scripts of base-passwd and ca-certificates would write.
    (root / "etc" / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nnew:x:1000:1000::/tmp:/bin/sh\n"
    )
    (root / "etc" / "group").write_text("root:x:0:\nnew:x:1000:\n")
    certificates = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(certifi.where(), certificates)
    return root


def lend_wheels(root: Path, python: str) -> None:
    """Ours and those of the dependencies, for that Python, into the machine's /wheels."""
    folder = root / "wheels"
    folder.mkdir(exist_ok=True)
    for wheel in DIST.glob(f"*-cp{python.replace('.', '')}-*manylinux*_x86_64.whl"):
        shutil.copy(wheel, folder)
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", folder]
        command += ["--python-version", python, "--only-binary=:all:", "--find-links", DIST]
        subprocess.run([*command, f"aiofastsocket[wsgi] @ file://{wheel}"], check=True)
        return
    sys.exit(f"test-fresh: dist/ has no wheel for CPython {python}: make wheels")


def run_in(root: Path, *command: str) -> None:
    """As root of the machine, in namespaces of its own: processes, mounts, network."""
    script = 'mount --bind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", script]
    subprocess.run([*inside, root, *command], check=True, timeout=300)


def library(platform: str, folder: Path) -> Path:
    """libfsocket.so of a wheel for that platform, put into the folder."""
    for wheel in sorted(DIST.glob(f"*-{platform}.whl")):
        with zipfile.ZipFile(wheel) as content:
            made = Path(content.extract("aiofastsocket/_native/libfsocket.so", folder))
        return made.replace(folder / "libfsocket.so")
    sys.exit(f"test-fresh: dist/ has no wheel for {platform}: make wheels")


def library_alone(name: str) -> None:
    root = made(name)
    library("manylinux_2_28_x86_64", root)
    shutil.copy(Path(__file__).with_name("fresh-library.sh"), root / "fresh.sh")
    run_in(root, "sh", "/fresh.sh")
    shutil.rmtree(root)


def under_musl() -> None:
    """The call-site programs of the tests, linked to musl: each says with the library what it says
    without, and those that fork or have threads get slots."""
    folder = BUILD / "musl"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    preloaded = library("musllinux_1_2_x86_64", folder)
    compiler = [str(Path(ziglang.__file__).parent / "zig"), "cc", "-target", "x86_64-linux-musl"]
    compiler += ["-dynamic", "-D_GNU_SOURCE", "-O1", f"-I{PROGRAMS}"]
    for source in sorted(PROGRAMS.glob("*.c")):
        if source.stem in NOT_MUSL:
            continue
        program = folder / source.stem
        subprocess.run([*compiler, source, "-o", program], check=True)
        said = []
        for more in ({}, {"LD_PRELOAD": str(preloaded), "FSOCKET_LOG": f"info:{folder}/log"}):
            done = subprocess.run(
                [program], env=os.environ | more, capture_output=True, timeout=100
            )
            said.append((done.returncode, done.stdout))
        if said[0] != said[1]:
            sys.exit(f"test-fresh: {source.stem} under musl: {said[0]} without, {said[1]} with")
    log = (folder / "log").read_text()
    slots = log.count(" has slot ")
    if not slots:
        sys.exit("test-fresh: no program got a slot under musl")
    print(f"fresh: the same, {slots} slots taken")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "machines", nargs="*", metavar="machine", help=f"of {', '.join((*MACHINES, 'musl'))}"
    )
    for name in parser.parse_args().machines or (*MACHINES, "musl"):
        if name == "musl":
            print("== musl: libfsocket.so before the call-site programs", flush=True)
            under_musl()
            continue
        if not MACHINES[name].pythons:
            print(f"== {name}: libfsocket.so before its nginx", flush=True)
            library_alone(name)
        for python in MACHINES[name].pythons:
            print(f"== {name}, CPython {python}", flush=True)
            root = made(name)
            lend_wheels(root, python)
            shutil.copy(Path(__file__).with_suffix(".sh"), root / "fresh.sh")
            run_in(root, "sh", "/fresh.sh", f"python{python}", str(ORDINARY))
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
