"""Shows the results: tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Row = Mapping[str, Any]

MIB = 2**20

MIN_WIDTH = 100  # where the output is no terminal, rich would squeeze the tables into 80 columns

progress = Console(stderr=True)


def tables() -> Console:
    """Return where the tables go."""
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    return console


def table(title: str, left: str, columns: Sequence[str], caption: str) -> Table:
    """Return an empty table: one column of names, the rest numbers."""
    result = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    result.add_column(left, no_wrap=True)
    for column in columns:
        result.add_column(column, justify="right")
    return result


def time_table(timed: Row, *, runs: int) -> Table:
    """Show the ways of an operation beside each other."""
    title = f"{timed['title']}: {timed['bytes'] / 1e6:,.0f} MB, medians of {runs} interleaved runs"
    columns = ["CPU s", "x first", "wall s", "x first", "MB/s", "peak MiB"]
    result = table(title, "way", columns, "CPU with child processes; peak of the largest single process")
    for row in timed["ways"]:
        result.add_row(
            row["way"],
            f"{row['cpu_s']:.2f}",
            f"{row['cpu_ratio']:.2f}",
            f"{row['wall_s']:.2f}",
            f"{row['wall_ratio']:.2f}",
            f"{row['mb_per_s']:.0f}",
            f"{row['peak_rss_bytes'] / MIB:.0f}",
        )
    return result


def verdicts(timed: Row) -> Iterator[str]:
    """Show what an operation is held to, a line for each target."""
    for found in timed["targets"]:
        yield f"{verdict(within=found['within'])}  {found['target']}: {found['ratio']:.2f}, {found['bound']}"


def verdict(*, within: bool) -> str:
    """Return the word for it."""
    return "within" if within else "[bold red]over[/]  "


def memory_table(rows: Sequence[Row]) -> Table:
    """Show the peaks beside what they are held to."""
    caption = "one worker: peak RSS as the kernel keeps it; more: PSS summed over all processes, sampled"
    columns = ["workers", "input MB", "peak MiB", "bound MiB", "", "wall s", "CPU s"]
    result = table("Memory of ours", "input", columns, caption)
    for row in rows:
        result.add_row(
            row["scenario"],
            str(row["workers"]),
            f"{row['input_bytes'] / 1e6:,.0f}",
            f"{row['peak_bytes'] / MIB:.0f}",
            *held_to(row),
            f"{row['wall_s']:.2f}",
            f"{row['cpu_s']:.2f}",
        )
    return result


def held_to(row: Row) -> tuple[str, str]:
    """Return the bound and whether the peak is within it; for a long line, how many times the line it is."""
    if "line_ratio" in row:
        return "", f"{row['line_ratio']:.1f} x line"
    return f"{row['bound_bytes'] / MIB:.0f}", verdict(within=row["within"])


def startup_table(rows: Sequence[Row], *, runs: int) -> Table:
    """Show what there is to wait for where there is next to nothing to do."""
    title = f"Start-up of ours, medians of {runs} runs"
    result = table(title, "command", ["wall s", "CPU s", "peak MiB"], "CPU with child processes")
    for row in rows:
        peak = f"{row['peak_rss_bytes'] / MIB:.0f}"
        result.add_row(row["command"], f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}", peak)
    return result


def scaling_table(rows: Sequence[Row]) -> Table:
    """Show what no two threads can do at once, and the speed-ups that follow."""
    caption = (
        "in all, under the lock, of that in the main thread, writing: CPU time of 4 MiB in ms. Reckoned: the speed-up, "
        "and that into one local file, which one thread writes at a time; see tests/benchmarks/scaling.py. Measured "
        "into one file: it takes cores that nobody else uses."
    )
    columns = ["all", "lock", "main", "write", "at most", "reckoned", "linear", "", "one file", "measured"]
    result = table("Threads of ours: the share of the interpreter lock, and the speed-up", "cores", columns, caption)
    for row in rows:
        result.add_row(
            str(row["cores"]),
            *(f"{1000 * row[part]:.2f}" for part in ("total_s", "lock_s", "main_lock_s", "writing_s")),
            f"{row['bound']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['speedup'] / row['cores']:.0%}",
            verdict(within=row["within"]) if "within" in row else "",
            f"{row['one_file']:.2f}",
            f"{row['measured']:.2f}" if "measured" in row else "",
        )
    return result


def queue_table(rows: Sequence[Row]) -> Table:
    """Show what the worker takes, beside what it is held to."""
    caption = "CPU with child processes, of the client alone; the server runs on the same cores"
    result = table(
        "The worker, from bucket to bucket", "what", ["CPU s", "wall s", "CPU s/GB", "MB/s", "found"], caption
    )
    for row in rows:
        told = f"{row['jobs_per_s']:.0f} jobs/s" if "jobs_per_s" in row else ""
        if "held" in row:
            told = f"{row['found']:.1f} {row['held']}, at most {row['bound']:.1f}: {verdict(within=row['within'])}"
        each = row.get("requests_per_job", {})
        told = told or "\n".join(f"{count:.3g} {name}" for name, count in each.items())
        rates = (f"{row['cpu_s_per_gb']:.2f}", f"{row['mb_per_s']:.0f}") if "mb_per_s" in row else ("", "")
        result.add_row(row["what"], f"{row['cpu_s']:.2f}", f"{row['wall_s']:.2f}", *rates, told)
    return result
