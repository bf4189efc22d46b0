"""Measures our peaks: they should depend neither on the size, nor on the rejects, nor on the kind of input."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.benchmarks.data import lines_in, long_line_in, output_in, scratch
from tests.benchmarks.measure import UnexpectedExitError, Usage, measure
from tests.benchmarks.pss import FamilyPeak
from tests.benchmarks.report import progress
from tests.benchmarks.ways import APPEND, FAILED, REJECT_ALL, our_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Row = dict[str, Any]

LONG_LINE_BYTES = 200_000_000
BOUND_BYTES = {1: 160 * 2**20, 2: 160 * 2**20}  # by workers


class Scenario(NamedTuple):
    """What is done with an input while its memory is measured."""

    name: str
    arguments: tuple[str, ...] = APPEND
    expected_exit: int = 0
    piped: bool = False
    long_line_bytes: int = 0  # a line that may take a few times its own size, so no bound holds for it
    need_factor: float = 2.2  # the room that the input and what comes of it take
    s_per_gb: float = 4  # roughly, for the estimate; more than elsewhere, as it is looked at 20 times a second


PLAIN = Scenario("plain")
PIPED = Scenario("from a pipe", piped=True)
REJECTED = Scenario(
    "every line rejected", REJECT_ALL, FAILED, need_factor=2.7, s_per_gb=55
)  # rejects escape every quote
LONG_LINE = Scenario(f"one line of {LONG_LINE_BYTES // 10**6} MB", long_line_bytes=LONG_LINE_BYTES)

# The sizes, as parts of the largest, and what is measured at each. The largest, of 8 GB, is not rejected: its rejects
# would be 13 GB more on the RAM disk, and whether memory grows with them shows from the first size to the second.
PLAN = ((1 / 16, (PLAIN, REJECTED, PIPED)), (1 / 4, (PLAIN, REJECTED, PIPED)), (1, (PLAIN, PIPED)))


def memory_rows(largest: int) -> Iterator[Row]:
    """Yield the peaks, size by size, each with one worker and with two."""
    for part, scenarios in PLAN:
        size = int(largest * part)
        need = size * max(scenario.need_factor for scenario in scenarios)
        with scratch(need) as folder, lines_in(folder, size) as source:
            for scenario in scenarios:
                yield from (memory_row(scenario, source, workers) for workers in BOUND_BYTES)
    with scratch(3 * LONG_LINE_BYTES) as folder, long_line_in(folder, LONG_LINE_BYTES) as source:
        yield memory_row(LONG_LINE, source, workers=1)


def memory_row(scenario: Scenario, source: Path, workers: int) -> Row:
    """Measure one scenario: one process by the kernel's own peak, several by samples of their PSS."""
    size = source.stat().st_size
    progress.print(f"memory: {scenario.name}, {size / 1e6:,.0f} MB, workers: {workers}")
    family = FamilyPeak() if workers > 1 else None
    with output_in(source.parent) as target:
        usage = run_scenario(scenario, source, target, workers, family)
        left_bytes = sum(file.stat().st_size for file in target.parent.iterdir())
    if left_bytes < size:  # output or rejects; else it failed before it had read all, and its peak says nothing
        raise UnexpectedExitError(f"{scenario.name}: only {left_bytes:,} bytes came of an input of {size:,}")
    row: Row = {
        "scenario": scenario.name,
        "workers": workers,
        "input_bytes": size,
        "data_on": str(source.parent.parent),
    }
    row |= asdict(usage) | held_to(scenario, workers, usage, family)
    return row | (vars(family) if family else {})


def run_scenario(scenario: Scenario, source: Path, target: Path, workers: int, family: FamilyPeak | None) -> Usage:
    """Run ours on an input or on a pipe with it, and return what it used; the pipe's `cat` is not counted."""
    watch = family.sample if family else None
    arguments = (*scenario.arguments, "--workers", str(workers))
    if not scenario.piped:
        return measure(our_run(source, target, *arguments), expected_exit=scenario.expected_exit, watch=watch)
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
        return measure(our_run("-", target, *arguments), stdin=cat.stdout, watch=watch)


def held_to(scenario: Scenario, workers: int, usage: Usage, family: FamilyPeak | None) -> Row:
    """Return the peak that counts and its bound; for a long line, how many times the line it is."""
    peak = family.peak_bytes if family else usage.peak_rss_bytes
    row: Row = {"peak_of": "PSS of all processes, sampled" if family else "RSS", "peak_bytes": peak}
    if scenario.long_line_bytes:
        return {**row, "line_ratio": peak / scenario.long_line_bytes}
    return {**row, "bound_bytes": BOUND_BYTES[workers], "within": peak <= BOUND_BYTES[workers]}
