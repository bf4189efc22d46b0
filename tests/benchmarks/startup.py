"""Measures what a person waits for where there is next to nothing to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tests.benchmarks.data import SAMPLE, output_in, scratch
from tests.benchmarks.measure import measure, median_usage
from tests.benchmarks.report import progress
from tests.benchmarks.ways import APPEND, our_run, ours

RUNS = 5


def startup_rows() -> list[dict[str, Any]]:
    """Return the medians of each command."""
    rows = []
    with scratch(10 * SAMPLE.stat().st_size) as folder, output_in(folder) as target:
        commands = {
            f"transform run, {SAMPLE.name}": our_run(SAMPLE, target, *APPEND),
            "transform --help": ours("--help"),
        }
        for name, command in commands.items():
            progress.print(f"start-up: {name}")
            usages = [measure(command) for _ in range(RUNS)]
            rows.append({"command": name, **asdict(median_usage(usages)), "runs": [asdict(usage) for usage in usages]})
    return rows
