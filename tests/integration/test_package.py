"""The package as users get it: sdist, its wheel, and the command in an empty directory."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = ROOT / "native" / "include" / "fastsocket" / "version.h"


def release() -> str:
    found = re.search(r'FS_RELEASE "(.+)"', VERSION.read_text())
    assert found
    return found[1]


def test_the_release_stands_in_one_place() -> None:
    written = [
        path
        for folder in ("aiofastsocket", "native", "deploy", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".c", ".h", ".conf", ".txt", ".sh", ".cmake", ".pyx", ".pxi"}
        and re.search(rf"\b{re.escape(release())}\b", path.read_text())
    ]
    assert written == [VERSION]
    assert release() not in (ROOT / "pyproject.toml").read_text()


@pytest.mark.timeout(400)
@pytest.mark.long  # a C compiler runs for minutes
def test_sdist_builds_a_wheel_that_works_elsewhere(tmp_path: Path) -> None:
    dist, place, empty = tmp_path / "dist", tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    build: list[str | Path] = [sys.executable, "-m", "build", "--outdir", dist, ROOT]
    built = subprocess.run(build, cwd=empty, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "native/CMakeLists.txt", "aiofastsocket/py.typed"} <= names

    venv.create(place, with_pip=True)
    subprocess.run([place / "bin/pip", "install", "-q", wheel], check=True, cwd=empty)
    command = place / "bin/aiofastsocket"
    version = subprocess.run([command, "--version"], cwd=empty, capture_output=True, text=True)
    assert version.stdout == f"aiofastsocket {release()}\n"
    assert sdist.name == f"aiofastsocket-{release()}.tar.gz"
    with subprocess.Popen(
        [command, "serve", "--port", "0", "--workers", "1"],
        cwd=empty,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stderr is not None
        line = service.stderr.readline()
        assert "serving the built-in demo on 127.0.0.1:" in line
        service.terminate()
        assert service.wait(30) == 0
    typed = place.glob("lib/python*/site-packages/aiofastsocket/py.typed")
    assert len(list(typed)) == 1


def test_a_kernel_that_changed_a_name_is_told(tmp_path: Path) -> None:
    """After the compiler's error comes a sentence that can be understood without it."""
    (tmp_path / "Makefile").write_text("modules:\n\t@echo 'wait.c: implicit declaration'; exit 2\n")
    words = ["KERNEL=9.9", f"HEADERS={tmp_path}", f"OUT={tmp_path / 'out'}"]
    command = ["make", "-s", "-C", str(ROOT / "native" / "module"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fastsocket: ")]
    assert "does not build for kernel 9.9: it is known to build for 6.1 to 7.2" in line
    assert line.endswith("still works, with its reuseport backend")


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ("compiler", "no C program can be compiled: "),
        ("libc", "no C program can be compiled: "),
        ("Python", "Python.h is missing: "),
    ],
)
def test_what_a_build_lacks_is_named(tmp_path: Path, lacks: str, says: str) -> None:
    """One line names the missing part and the packages that contain it."""
    tools, compiler = tmp_path / "tools", tmp_path / "compiler"
    tools.mkdir()
    for name in ("cmake", "ninja", "python3"):
        (tools / name).symlink_to(Path(sys.executable).parent / name)
    compiler.write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} -nostdinc "$@"\n')
    compiler.chmod(0o755)
    environment = {"PATH": str(tools)}
    if lacks != "compiler":
        environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    if lacks == "libc":
        environment["CC"] = str(compiler)
    python = ("-DPython_INCLUDE_DIR=/nowhere",) if lacks == "Python" else ()
    command = [tools / "cmake", "-G", "Ninja", *python, "-S", ROOT / "native", "-B", tmp_path / "b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "Debian" in line]
    assert line.strip().startswith(says)
    assert "apt install gcc libc6-dev python3-dev" in line
    assert "dnf install gcc glibc-devel python3-devel" in line
