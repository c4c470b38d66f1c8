"""An emulated machine while it runs: what it says is shown, and its time is bounded."""

import os
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"


def watch(name: str, command: list[str], minutes: int) -> set[str]:
    """Run an emulator in the project's root, and show the guest's lines, which are returned. It is
    killed after so many minutes."""
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
