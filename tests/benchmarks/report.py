"""Shows the results: tables for people, and the machine that they were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIBRARIES = ("polars", "pyarrow", "numpy", "msgspec", "isal", "orjson", "duckdb")
MIB = 2**20


def cpu_model() -> str:
    """Return the processor's name as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def library_version(name: str) -> str:
    """Return the version of an installed library."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, Any]:
    """Describe what the numbers were measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu_model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],  # before the first run: what else was using the cores
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
    }


def machine_line(description: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    libraries = ", ".join(f"{name} {number}" for name, number in description["libraries"].items())
    return (
        f"{description['cores']} cores of {description['cpu']}, {description['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {description['kernel']}, Python {description['python']}, {libraries}"
    )


def table(title: str, left: str, columns: Sequence[str]) -> Table:
    """Return an empty table: one column of names, the rest numbers."""
    caption = "CPU with child processes; peak of the largest single process"
    result = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    result.add_column(left)
    for column in columns:
        result.add_column(column, justify="right")
    return result


def time_table(rows: Sequence[Mapping[str, Any]], *, size: int, runs: int) -> Table:
    """Show the ways beside each other."""
    title = f"Whole processes on {size / 1e6:,.0f} MB, medians of {runs} interleaved runs"
    result = table(title, "way", ["CPU s", "x ours", "wall s", "x ours", "peak MiB"])
    for row in rows:
        result.add_row(
            row["way"],
            f"{row['cpu_s']:.2f}",
            f"{row['cpu_ratio']:.2f}",
            f"{row['wall_s']:.2f}",
            f"{row['wall_ratio']:.2f}",
            f"{row['peak_rss_bytes'] / MIB:.0f}",
        )
    return result


def memory_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Show the peaks beside what they are held to."""
    columns = ["input MB", "peak MiB", "bound MiB", "", "wall s", "CPU s"]
    result = table("Memory of ours", "input", columns)
    for row in rows:
        result.add_row(
            row["scenario"],
            f"{row['input_bytes'] / 1e6:,.0f}",
            f"{row['peak_rss_bytes'] / MIB:.0f}",
            *held_to(row),
            f"{row['wall_s']:.2f}",
            f"{row['cpu_s']:.2f}",
        )
    return result


def held_to(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the bound and whether the peak is within it; for a long line, how many times the line it is."""
    if "line_ratio" in row:
        return "", f"{row['line_ratio']:.1f} x line"
    return f"{row['bound_bytes'] / MIB:.0f}", "within" if row["within_bound"] else "[bold red]over"


def startup_table(rows: Sequence[Mapping[str, Any]], *, runs: int) -> Table:
    """Show what there is to wait for where there is next to nothing to do."""
    result = table(f"Start-up of ours, medians of {runs} runs", "command", ["wall s", "CPU s", "peak MiB"])
    for row in rows:
        peak = f"{row['peak_rss_bytes'] / MIB:.0f}"
        result.add_row(row["command"], f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", peak)
    return result
