"""The facts of a report about its machine: processor, kernel, versions. It names no host."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from peers import BUILD, ROOT, SEARCH_PATH
from scenarios import ENVIRONMENTS, OURS

_PROGRAMS = {
    "cc": ("cc", "--version"),
    "wrk": ("wrk", "-v"),
    "nginx": ("nginx", "-v"),
    "haproxy": ("haproxy", "-v"),
    "lighttpd": ("lighttpd", "-v"),
}
_PACKAGES = """
import importlib.metadata as m
for d in m.distributions():
    print(d.metadata["Name"].lower(), d.version)
"""


def describe() -> dict[str, str]:
    """Processor, cores, memory, kernel, Python."""
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor[1] if processor else platform.machine(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }


def _output(command: tuple[str, ...]) -> str:
    """The output of a program, on both streams; empty if it is not installed."""
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        return ""
    return subprocess.run(
        [program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def _commit() -> str:
    """The commit of the sources, and whether they differ from it."""
    git = ("git", "-C", str(ROOT))
    changed = _output((*git, "status", "--porcelain", "aiofastsocket", "native", "pyproject.toml"))
    commit = _output((*git, "rev-parse", "--short", "HEAD")).strip()
    return f"{commit}, with changes" if changed else commit


def versions() -> dict[str, str]:
    """Versions of the installed programs, and of the packages in the environments."""
    found = {name: _output(command).partition("\n")[0] for name, command in _PROGRAMS.items()}
    for name, packages in ENVIRONMENTS.items():
        python = BUILD / "envs" / name / "bin" / "python"
        if name == "report" or not python.exists():
            continue
        listed = _output((str(python), "-c", _PACKAGES))
        installed = dict(line.split() for line in listed.splitlines())
        told = [f"{p} {installed[p]}" for p in sorted({*packages, "uvloop"}) if p in installed]
        if told:
            found[f"environment {name}"] = ", ".join(told)
    found[OURS] = _commit()
    return {name: version for name, version in found.items() if version}
