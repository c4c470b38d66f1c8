"""Unpack Python.h of each CPython and machine that wheels are built for, under build/headers.

The headers are from Debian's libpython3.X-dev packages. An apt of our own verifies downloads as the
system's apt does. No Debian has 3.12: its headers are those of an installed interpreter. All
machines then share this machine's pyconfig.h. It differs only in macros that the interpreter itself
uses.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "headers"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid", "3.15": "sid"}
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}


def mirror() -> str:
    """The address of this machine's Debian mirror, which has all releases."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = [uri for uri in told if uri.rstrip("/").endswith("/debian")]
    return found[0] if found else sys.exit("apt has no source that ends in /debian")


def headers(version: str, machine: str) -> Path:
    """The folder of Python.h. Raises SystemExit, with advice, if no headers are available."""
    folder = BUILD / f"{version}-{machine}"
    if not (folder / "Python.h").exists():
        made = folder.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        if version in SUITES:
            _from_debian(version, machine, made)
        else:
            shutil.copytree(_installed(version), made)
        made.rename(folder)
    return folder


def _from_debian(version: str, machine: str, made: Path) -> None:
    deb = _downloaded(f"libpython{version}-dev", SUITES[version], DEBIAN[machine])
    unpacked = BUILD / f"{deb.stem}.unpacked"
    subprocess.run(["dpkg-deb", "-x", deb, unpacked], check=True)
    include = unpacked / "usr" / "include"
    shutil.copytree(include / f"python{version}", made)
    # The package's generic pyconfig.h only includes this one, by the machine's name.
    shutil.copy(include / f"{machine}-linux-gnu" / f"python{version}" / "pyconfig.h", made)
    shutil.rmtree(unpacked)


def _downloaded(package: str, suite: str, architecture: str) -> Path:
    apt = BUILD / f"apt-{suite}"
    options = [f"-oDir::State={apt / 'state'}", f"-oDir::Cache={apt / 'cache'}"]
    options += [f"-oDir::Etc::SourceList={apt / 'list'}", f"-oDir::Etc::SourceParts={apt / 'none'}"]
    options += [f"-oDir::State::status={apt / 'status'}", "-oAPT::Sandbox::User=root", "-qq"]
    options += ["-oAcquire::Check-Valid-Until=false"]  # a mirror may be a snapshot
    options += [f"-oAPT::Architectures::={name}" for name in DEBIAN.values()]
    if not (apt / "done").exists():
        for name in ("state/lists/partial", "cache/archives/partial", "none"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        (apt / "status").touch()
        (apt / "list").write_text(f"deb [signed-by={KEYS}] {mirror()} {suite} main\n")
        subprocess.run(["apt-get", *options, "update"], check=True)
        (apt / "done").touch()
    folder = apt / f"{package}-{architecture}"
    folder.mkdir(exist_ok=True)
    if not list(folder.glob("*.deb")):
        command = ["apt-get", *options, "download", f"{package}:{architecture}"]
        subprocess.run(command, check=True, cwd=folder)
    (deb,) = folder.glob("*.deb")
    return deb


def _installed(version: str) -> str:
    roots = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for python in (f"python{version}", *map(str, roots[::-1])):
        command = [python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"]
        try:
            found = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        if (Path(found) / "Python.h").exists():
            return found
    sys.exit(f"wheels: no Debian has CPython {version}: install it with its headers, in the PATH")
