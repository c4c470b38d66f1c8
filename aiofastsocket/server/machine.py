"""The number of workers that suits this machine."""

import math
import os
from pathlib import Path


def allowed_cores() -> list[int]:
    """The cores that this process may run on, sched_getaffinity(2)."""
    return sorted(os.sched_getaffinity(0))


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup"), membership: str | None = None) -> float | None:
    """CPUs that the control group grants (cpu.max of cgroup v2, its parents' too); None: no limit.

    membership: the text of /proc/self/cgroup.
    """
    if membership is None:
        try:
            membership = Path("/proc/self/cgroup").read_text()
        except OSError:
            return None
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    limits = []
    here = root / path.lstrip("/")
    for folder in [here, *here.parents]:
        if not folder.is_relative_to(root):
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):  # the root group has no such file
            continue
        if quota != "max":
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def worker_count() -> int:
    """The number of workers for `--workers auto`: the cores in the affinity mask, but no more than
    the control group grants."""
    cores = len(allowed_cores())
    granted = cgroup_cpus()
    return cores if granted is None else max(1, min(cores, math.ceil(granted)))
