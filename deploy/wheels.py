"""`make wheels`: build a wheel for each CPython, machine and libc, and the sdist, into dist/.

`make free-threaded`: check that the C code also compiles for the free-threaded Pythons. No such
interpreter is available, so nothing is published or run.

One machine builds all wheels: zig is the compiler, and only the headers of the Pythons are needed.
The C code that cffi and cython write is the same for all wheels. The core and libfsocket.so are
compiled once for a machine and libc, and reused for its other Pythons from the same build folder.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from headers import headers

ROOT = Path(__file__).parents[1]
BUILD, DIST = ROOT / "build" / "wheels", ROOT / "dist"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
FREE_THREADED = ("3.14", "3.15")
# Platform tag -> zig's target, and the last part of an extension module's name.
TARGETS = {
    "manylinux_2_28_x86_64": ("x86_64-linux-gnu.2.28", "x86_64-linux-gnu"),
    "manylinux_2_28_aarch64": ("aarch64-linux-gnu.2.28", "aarch64-linux-gnu"),
    "musllinux_1_2_x86_64": ("x86_64-linux-musl", "x86_64-linux-musl"),
    "musllinux_1_2_aarch64": ("aarch64-linux-musl", "aarch64-linux-musl"),
}


def zig() -> str:
    """The path of PyPI's zig. Its two archive tools get wrapper programs, which cmake needs."""
    import ziglang

    program = Path(ziglang.__file__).parent / "zig"
    for tool in ("ar", "ranlib"):
        path = BUILD / f"zig-{tool}"
        path.write_text(f'#!/bin/sh\nexec "{program}" {tool} "$@"\n')
        path.chmod(0o755)
    return str(program)


def build(version: str, platform: str, compiler: str, flags: str = "") -> Path:
    """Build one wheel. Returns its path in BUILD."""
    target, suffix = TARGETS[platform]
    tag = f"cp{version.replace('.', '')}"
    made = BUILD / f"{tag}-{platform}"
    shutil.rmtree(made, ignore_errors=True)
    settings = {
        "build-dir": BUILD / platform,
        "cmake.build-type": "Release",
        "cmake.define.CMAKE_TOOLCHAIN_FILE": ROOT / "deploy" / "zig.cmake",
        "cmake.define.CMAKE_AR": BUILD / "zig-ar",
        "cmake.define.CMAKE_RANLIB": BUILD / "zig-ranlib",
        "cmake.define.Python_INCLUDE_DIR": headers(version, target.partition("-")[0]),
        "cmake.define.CMAKE_C_FLAGS": f"-s {flags}".strip(),
        "install.strip": "false",  # this machine's strip(1) knows only its own architecture
    }
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
    command += [word for key, value in settings.items() for word in ("-C", f"{key}={value}")]
    environment = {
        "FS_ZIG": compiler,
        "FS_TARGET": target,
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{tag[2:]}-{suffix}.so",
        "ZIG_GLOBAL_CACHE_DIR": str(BUILD / "zig-cache"),
    }
    subprocess.run([*command, "-w", made, ROOT], check=True, env=os.environ | environment, cwd=ROOT)
    (wheel,) = made.glob("*.whl")
    return wheel


def named(wheel: Path, version: str, platform: str) -> Path:
    """Move the wheel to DIST, under its correct name. Returns its path."""
    tag = f"cp{version.replace('.', '')}"
    command = [sys.executable, "-m", "wheel", "tags", "--remove", "--python-tag", tag]
    out = subprocess.run(
        [*command, "--abi-tag", tag, "--platform-tag", platform, wheel],
        check=True,
        capture_output=True,
        text=True,
    )
    name = out.stdout.split()[-1]
    return (wheel.parent / name).replace(DIST / name)


def free_threaded(compiler: str) -> None:
    for version in FREE_THREADED:
        wheel = build(version, "manylinux_2_28_x86_64", compiler, "-DPy_GIL_DISABLED=1")
        wheel.unlink()
        print(f"wheels: compiles for {version}t", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", default="", help="build only files whose names match this regular expression"
    )
    parser.add_argument(
        "--free-threaded", action="store_true", help="only compile for free-threaded Pythons"
    )
    given = parser.parse_args()
    only = given.only
    if not only and not given.free_threaded:
        shutil.rmtree(DIST, ignore_errors=True)
    for folder in (BUILD, DIST):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # cmake, ninja
    compiler = zig()
    if given.free_threaded:
        free_threaded(compiler)
        return
    for platform in TARGETS:
        for version in VERSIONS:
            if re.search(only, f"cp{version.replace('.', '')}-{platform}"):
                wheel = named(build(version, platform, compiler), version, platform)
                print(wheel.relative_to(ROOT), flush=True)
    if re.search(only, "sdist"):
        command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "-o", str(DIST)]
        subprocess.run([*command, str(ROOT)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
