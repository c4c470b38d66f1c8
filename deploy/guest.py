"""Run an emulated machine: show its output, and limit its time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"


def watch(name: str, command: list[str], minutes: int) -> set[str]:
    """Run an emulator in the project's root, and print the guest's lines. Returns these lines. The
    emulator is killed after `minutes`."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    ends = threading.Timer(minutes * 60, process.kill)
    ends.start()
    assert process.stdout is not None
    said = set()
    for line in process.stdout:
        said.add(line.strip())
        print(f"[{name}] {line.rstrip()}", flush=True)
    process.wait()
    ends.cancel()
    return said
