"""Compares whole processes: ours beside other ways to the same lines; ours in memory, in start-up, and as a worker.

    python -m tests.benchmarks.bench [--bytes 2GB] [--runs 3] [--memory-bytes 8GB] [--only WHAT]… [--publish]
    python -m tests.benchmarks.bench --scaling [--runs 3]

Rivals that are not installed are left out: chDB and Spark are too large to come with the development tools.
The data are made with `sample_data/generate.py`, on a RAM disk where it has room, and removed at the end.
"""

from __future__ import annotations

import compileall
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # run as a file
    sys.path.insert(0, str(ROOT))

from sample_data.generate import parse_size  # noqa: E402 - the path is set above
from tests.benchmarks import chart, estimate, machine, report, scaling, startup  # noqa: E402
from tests.benchmarks.data import NoRoomError  # noqa: E402
from tests.benchmarks.measure import UnexpectedExitError  # noqa: E402
from tests.benchmarks.memory import memory_rows  # noqa: E402
from tests.benchmarks.operations import MAIN, OPERATIONS, Operation  # noqa: E402
from tests.benchmarks.queue import queue_rows  # noqa: E402
from tests.benchmarks.timing import DisagreementError, time_operation  # noqa: E402
from tests.benchmarks.ways import RIVALS, not_installed  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import FrameType

    Row = dict[str, Any]

PARTS = ("time", "memory", "startup", "queue")
BUILD = ROOT / "build"
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Choice:
    """What is to be measured."""

    operations: tuple[Operation, ...]
    memory: bool
    startup: bool
    queue: bool
    scaling: bool
    size: int
    memory_size: int
    runs: int

    def expected_s(self) -> float:
        """Return about how long it takes."""
        timing = estimate.timing_s(self.operations, self.size, self.runs)
        memory = estimate.memory_s(self.memory_size) if self.memory else 0
        queue = estimate.queue_s(self.size, self.runs) if self.queue else 0
        shares = estimate.scaling_s(self.runs) if self.scaling else 0
        return timing + memory + queue + shares + (estimate.STARTUP_S if self.startup else 0)


def chosen_operations(only: Collection[str]) -> tuple[Operation, ...]:
    """Return the operations that are asked for, with the rivals that are asked for and installed."""
    operations = list(OPERATIONS)
    if only and "time" not in only:
        operations = [operation for operation in OPERATIONS if operation.name in only]
        if not operations and any(name in only for name in RIVALS):
            operations = [MAIN]
    missing = not_installed() if operations else []
    for name in missing:
        report.progress.print(f"without {name}: {RIVALS[name].library} is not installed", style="yellow")
    rivals = [name for name in RIVALS if name in only] or RIVALS
    there = [name for name in rivals if name not in missing]
    return tuple(operation.only(there) for operation in operations)


def run_parts(choice: Choice, results: Row) -> None:
    """Run what is chosen, show the tables as they come, and add the results to those there are."""
    tables = report.tables()
    results["machine"] = machine.describe()
    tables.print(machine.machine_line(results["machine"]), highlight=False)
    report.progress.print(f"about {choice.expected_s() / 60:.0f} min on two quiet cores")
    for operation in choice.operations:
        timed = time_operation(operation, int(choice.size * operation.share), choice.runs)
        results.setdefault("time", {})[operation.name] = timed
        tables.print(report.time_table(timed, runs=choice.runs), *report.verdicts(timed), sep="\n", highlight=False)
    if choice.memory:
        results["memory"] = []
        for row in memory_rows(choice.memory_size):
            results["memory"].append(row)
        tables.print(report.memory_table(results["memory"]))
    if choice.startup:
        results["startup"] = startup.startup_rows()
        tables.print(report.startup_table(results["startup"], runs=startup.RUNS))
    if choice.queue:
        results["queue"] = []  # which has what was measured, whatever ends it
        for row in queue_rows(choice.size, choice.runs):
            results["queue"].append(row)
        tables.print(report.queue_table(results["queue"]))
    if choice.scaling:
        results["scaling"] = scaling.scaling_rows(choice.runs)
        tables.print(report.scaling_table(results["scaling"]))


def write_json(results: Row, path: Path) -> None:
    """Write all results."""
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_svg(results: Row, path: Path, runs: int) -> None:
    """Draw the main operation, if it was measured."""
    if MAIN.name in results.get("time", {}):
        path.write_text(chart.draw(results["time"][MAIN.name], results["machine"], runs=runs), encoding="utf-8")


def to_bytes(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """Return the number of bytes that an option such as 512MB or 4GiB means."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def to_writable(_context: click.Context, _option: click.Parameter, path: Path) -> Path:
    """Return a path whose folder is there: better to hear that it is not now than after the last run."""
    if path.parent == BUILD:
        BUILD.mkdir(exist_ok=True)
    if not path.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.resolve().parent}")
    return path


def stop(number: int, _frame: FrameType | None) -> None:
    """Leave by way of the `finally` clauses: the data are large, and on a RAM disk they are memory."""
    sys.exit(128 + number)


SIZE: dict[str, Any] = {"metavar": "SIZE", "callback": to_bytes, "show_default": True}
FILE: dict[str, Any] = {"type": click.Path(path_type=Path, dir_okay=False), "callback": to_writable}
CHOICES = click.Choice([*PARTS, *(operation.name for operation in OPERATIONS), *RIVALS])


@click.command(epilog="MB is 1,000,000 bytes, MiB is 1,048,576.")
@click.option("--bytes", "size", default="2GB", help="Input of the comparisons.", **SIZE)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each way compared.")
@click.option("--memory-bytes", "memory_size", default="8GB", help="Largest input of the memory part.", **SIZE)
@click.option("--only", multiple=True, type=CHOICES, help="A part, an operation, or a rival. Repeatable.")
@click.option("--scaling", "shares", is_flag=True, help="Only reckon the speed-up on up to 16 cores.")
@click.option("--json", "json_path", default=BUILD / "bench.json", help="All results.  [build/bench.json]", **FILE)
@click.option("--svg", "svg_path", default=BUILD / "bench.svg", help="The chart.  [build/bench.svg]", **FILE)
@click.option("--publish", is_flag=True, help="Write docs/benchmark.json and docs/benchmark.svg, too.")
def main(
    only: tuple[str, ...], json_path: Path, svg_path: Path, *, shares: bool, publish: bool, **numbers: int
) -> None:
    """Measure our time beside that of others, our memory and our start-up; whole processes, on data made for it."""
    signal.signal(signal.SIGTERM, stop)
    if publish and (only or shares):
        raise click.UsageError("--publish takes a whole benchmark, without --only or --scaling")
    memory, starting, queue = (not shares and (not only or part in only) for part in PARTS[1:])
    operations = () if shares else chosen_operations(only)
    choice = Choice(operations, memory, starting, queue, shares, **numbers)
    results: Row = {}
    for package in ("transform", "runner"):
        compileall.compile_dir(ROOT / package, quiet=1)  # as the libraries beside it were when they were installed
    try:
        run_parts(choice, results)
    except (NoRoomError, UnexpectedExitError, DisagreementError) as error:
        raise click.ClickException(str(error)) from None
    finally:  # what was measured before something went wrong is worth keeping
        write_json(results, json_path)
        write_svg(results, svg_path, choice.runs)
    if publish:
        DOCS.mkdir(exist_ok=True)
        write_json(results, DOCS / "benchmark.json")
        write_svg(results, DOCS / "benchmark.svg", choice.runs)


if __name__ == "__main__":
    main()
