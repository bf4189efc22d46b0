"""How many cores there are for us."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use, by its affinity and by its container's quota (cgroup v2 or v1).

    Args:
        cgroup: Where the kernel tells of control groups.

    Example:
        >>> available_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            quota_us, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota_us = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        return float(quota_us) / float(period) if quota_us not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
