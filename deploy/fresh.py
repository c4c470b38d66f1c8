"""`make test-fresh`: install the wheels on machines without a compiler, as a new user does.

fresh.sh has the steps on these machines. The sdist is installed on a machine with a compiler.
libfsocket.so alone is tested under an older glibc and under musl.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import ziglang
from machines import BUILD, DIST, MACHINES, ORDINARY, ROOT, lend_wheels, made, run_in
from release import RELEASE

PROGRAMS = ROOT / "tests" / "preload" / "programs"
# Programs that use a call that musl lacks, and files that are not a program by themselves.
NOT_MUSL = {"close_shapes", "early", "early_library", "epoll_calls", "spawn"}

INSTALLERS = ("uv", "pipx")

BUILD_TOOLS = ("scikit-build-core", "cython", "cmake", "ninja")

FRESH = ("debian-11", "debian-12", "debian-13", "debian-sid", "debian-source", "musl")


def library(platform: str, folder: Path) -> Path:
    """Extract libfsocket.so of a wheel for the platform into the folder. Returns its path."""
    for wheel in sorted(DIST.glob(f"aiofastsocket-{RELEASE}-*-{platform}.whl")):
        with zipfile.ZipFile(wheel) as content:
            extracted = Path(content.extract("aiofastsocket/_native/libfsocket.so", folder))
        return extracted.replace(folder / "libfsocket.so")
    sys.exit(f"test-fresh: dist/ has no wheel for {platform}: run make wheels")


def library_alone(name: str) -> None:
    root = made(name)
    library("manylinux_2_28_x86_64", root)
    shutil.copy(Path(__file__).with_name("fresh-library.sh"), root / "fresh.sh")
    run_in(root, "sh", "/fresh.sh")
    shutil.rmtree(root)


def under_musl() -> None:
    """Run the call-site programs of the tests, linked to musl. The library must not change their
    output. Programs that fork or have threads get slots."""
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
            sys.exit(f"test-fresh: {source.stem}, musl: {said[0]} plain, {said[1]} preloaded")
    log = (folder / "log").read_text()
    slots = log.count(" has slot ")
    if not slots:
        sys.exit("test-fresh: no program got a slot under musl")
    print(f"fresh: the same output with the library, {slots} slots taken")


def from_source(name: str) -> None:
    """Install the sdist on a machine with a compiler."""
    root = made(name)
    lend_wheels(root, "3.13", *BUILD_TOOLS)
    sdist = DIST / f"aiofastsocket-{RELEASE}.tar.gz"
    if not sdist.exists():
        sys.exit("test-fresh: dist/ has no sdist: run make wheels")
    (root / "sdist").mkdir()
    shutil.copy(sdist, root / "sdist")
    shutil.copy(Path(__file__).with_name("fresh-source.sh"), root / "fresh.sh")
    run_in(root, "sh", "/fresh.sh", "python3.13", str(ORDINARY))
    shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "machines", nargs="*", metavar="machine", help=f"machines to test, of {', '.join(FRESH)}"
    )
    for name in parser.parse_args().machines or FRESH:
        if name == "musl":
            print("== musl: call-site programs with libfsocket.so", flush=True)
            under_musl()
            continue
        if name == "debian-source":
            print(f"== {name}: the sdist", flush=True)
            from_source(name)
            continue
        if not MACHINES[name].pythons:
            print(f"== {name}: its nginx with libfsocket.so", flush=True)
            library_alone(name)
        for python in MACHINES[name].pythons:
            print(f"== {name}, CPython {python}", flush=True)
            root = made(name)
            lend_wheels(root, python, *INSTALLERS)
            shutil.copy(Path(__file__).with_suffix(".sh"), root / "fresh.sh")
            run_in(root, "sh", "/fresh.sh", f"python{python}", str(ORDINARY))
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
