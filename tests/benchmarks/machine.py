"""Describes the machine that the numbers were measured on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARIES = ("polars", "pyarrow", "numpy", "msgspec", "isal", "orjson", "duckdb", "chdb", "pyspark")


def describe() -> dict[str, Any]:
    """Return what distinguishes this machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu_model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],  # before the first run: what else was using the cores
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
    }


def cpu_model() -> str:
    """Return the processor's name as Linux gives it, without its trimmings."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return re.sub(r"\((R|TM)\)| CPU| @.*", "", next(found, platform.machine()))


def library_version(name: str) -> str:
    """Return the version of an installed library."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def hardware(description: Mapping[str, Any]) -> str:
    """Return the machine without its software."""
    return f"{description['cores']} cores of {description['cpu']}, {description['memory_bytes'] / 2**30:.0f} GiB"


def software(description: Mapping[str, Any], names: tuple[str, ...] = LIBRARIES) -> str:
    """Return the versions of Python and of the libraries that are installed."""
    libraries = description["libraries"]
    there = [f"{name} {libraries[name]}" for name in names if libraries[name] != "not installed"]
    return ", ".join([f"Python {description['python']}", *there])


def machine_line(description: Mapping[str, Any]) -> str:
    """Return all of it in one line."""
    return f"{hardware(description)}, Linux {description['kernel']}, {software(description)}"
