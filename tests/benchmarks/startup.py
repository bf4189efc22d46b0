"""Measures what a person waits for where there is next to nothing to do."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from tests.benchmarks.data import SAMPLE, output_in, scratch
from tests.benchmarks.measure import measure, median_usage
from tests.benchmarks.report import progress
from tests.benchmarks.ways import APPEND, our_run, ours

RUNS = 5
IMPORTS = "import polars, pyarrow", "from transform import Calculation"
"""The second may take a tenth more than the first, which it cannot do without for long."""


def startup_rows() -> list[dict[str, Any]]:
    """Return the medians of each command."""
    rows = []
    with scratch(10 * SAMPLE.stat().st_size) as folder, output_in(folder) as target:
        commands = {
            f"transform run, {SAMPLE.name}": our_run(SAMPLE, target, *APPEND),
            "transform --help": ours("--help"),
            **{code: [sys.executable, "-c", code] for code in IMPORTS},
        }
        # In turns, as they are compared and the machine may be busier for a while.
        progress.print(f"start-up: {', '.join(commands)}")
        rounds = [{name: measure(command) for name, command in commands.items()} for _ in range(RUNS)]
        for name in commands:
            usages = [measured[name] for measured in rounds]
            rows.append({"command": name, **asdict(median_usage(usages)), "runs": [asdict(usage) for usage in usages]})
    return rows
