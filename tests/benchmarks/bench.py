"""Compares whole processes: ours beside other ways to the same lines, and ours in memory and start-up.

    python -m tests.benchmarks.bench [--bytes 512MB] [--runs 3] [--memory-bytes 4GB] [--only PART]… [--json PATH]

The data are made with `sample_data/generate.py`, on a RAM disk where it has room, and removed at the end.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.console import Console

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # run as a file
    sys.path.insert(0, str(ROOT))

from sample_data.generate import parse_size  # noqa: E402 - the path is set above
from tests.benchmarks import report  # noqa: E402
from tests.benchmarks.data import SAMPLE, NoRoomError, lines_in, long_line_in, output_in, scratch  # noqa: E402
from tests.benchmarks.measure import UnexpectedExitError, Usage, measure, median_usage  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

    Command = Callable[[Path, Path], list[str]]
    Row = dict[str, Any]

OURS = "transform"
RIVALS = ("per_line_json", "per_line_orjson", "polars_scan", "duckdb_copy")
PARTS = ("time", "memory", "startup")

EXPRESSION = ("-e", "stars * review_count AS review_score")
REJECT_ALL = ("--schema", "name=Float64", "-e", "name * 2 AS x")  # every line's name is a string

CHECKED_BYTES = 2_000_000
SMALL_BYTES = 500_000_000
LONG_LINE_BYTES = 200_000_000
STARTUP_RUNS = 5
MEMORY_BOUND_BYTES = 230 * 2**20
ROOM_FACTOR = 3  # the input, and an output with its rejects, which escape every quote and so are the larger

progress = Console(stderr=True)


class DisagreementError(Exception):
    """A rival's output holds other values than ours."""


class Scenario(NamedTuple):
    """What is done with an input while its memory is measured."""

    name: str
    arguments: Sequence[str] = EXPRESSION
    expected_exit: int = 0
    piped: bool = False
    long_line_bytes: int = 0  # a line that may take a few times its own size, so no bound holds for it


PLAIN = Scenario("plain")
REJECTED = Scenario("every line rejected", REJECT_ALL, expected_exit=1)
PIPED = Scenario("from a pipe", piped=True)
LONG_LINE = Scenario(f"one line of {LONG_LINE_BYTES // 10**6} MB", long_line_bytes=LONG_LINE_BYTES)


def ours(*arguments: str | Path) -> list[str]:
    """Return a command of ours: the installed one, or else the package beside us."""
    installed = Path(sys.executable).with_name("transform")
    start = [str(installed)] if installed.exists() else [sys.executable, "-m", "transform"]
    return [*start, *map(str, arguments)]


def our_run(source: Path | str, target: Path, arguments: Sequence[str] = EXPRESSION) -> list[str]:
    """Return our command for one input."""
    return ours("run", source, target, *arguments, "--quiet")


def rival_run(name: str, source: Path, target: Path) -> list[str]:
    """Return a rival's command for one input."""
    return [sys.executable, str(Path(__file__).with_name("rivals") / f"{name}.py"), str(source), str(target)]


def check_agreement(commands: Mapping[str, Command], folder: Path) -> None:
    """Fail unless all ways make the same values, so that nobody is compared while computing something else."""
    with lines_in(folder, CHECKED_BYTES) as source:
        expected = parsed_output(commands[OURS], source)
        for name, command in commands.items():
            for number, (wanted, found) in enumerate(zip_longest(expected, parsed_output(command, source)), start=1):
                if wanted != found:
                    raise DisagreementError(f"line {number}: {OURS} makes {wanted}, {name} makes {found}")


def parsed_output(command: Command, source: Path) -> list[Any]:
    """Return the lines that a way makes of a small file."""
    with output_in(source.parent) as target:
        measure(command(source, target))
        return [json.loads(line) for line in target.read_bytes().splitlines()]


def time_part(rivals: Sequence[str], size: int, runs: int, folder: Path) -> list[Row]:
    """Measure the ways in turns, so that whatever slows the machine for a while slows all of them."""
    commands: dict[str, Command] = {OURS: our_run, **{name: partial(rival_run, name) for name in rivals}}
    progress.print("checking that all ways make the same values")
    check_agreement(commands, folder)
    usages: dict[str, list[Usage]] = {name: [] for name in commands}
    with lines_in(folder, size) as source:
        for run in range(1, runs + 1):
            for name, command in commands.items():
                progress.print(f"time: run {run} of {runs}, {name}")
                with output_in(folder) as target:
                    usages[name].append(measure(command(source, target)))
    base = median_usage(usages[OURS])
    return [time_row(name, size, own, base) for name, own in usages.items()]


def time_row(name: str, size: int, usages: Sequence[Usage], base: Usage) -> Row:
    """Return one way's medians, and how many times ours they are."""
    middle = median_usage(usages)
    ratios = {"cpu_ratio": middle.cpu_s / base.cpu_s, "wall_ratio": middle.wall_s / base.wall_s}
    return {"way": name, "bytes": size, **asdict(middle), **ratios, "runs": [asdict(usage) for usage in usages]}


def memory_part(large_bytes: int, folder: Path) -> list[Row]:
    """Measure the peaks: they should depend neither on the size, nor on the rejects, nor on the kind of input."""
    rows = []
    for size in (SMALL_BYTES, large_bytes):
        with lines_in(folder, size) as source:
            rows += [memory_row(scenario, source) for scenario in (PLAIN, REJECTED, PIPED)]
    with long_line_in(folder, LONG_LINE_BYTES) as source:
        rows.append(memory_row(LONG_LINE, source))
    return rows


def memory_row(scenario: Scenario, source: Path) -> Row:
    """Measure one scenario."""
    size = source.stat().st_size
    progress.print(f"memory: {scenario.name}, {size / 1e6:,.0f} MB")
    with output_in(source.parent) as target:
        if scenario.piped:
            usage = measure_piped(our_run("-", target, scenario.arguments), source)
        else:
            command = our_run(source, target, scenario.arguments)
            usage = measure(command, expected_exit=scenario.expected_exit)
        left_bytes = sum(file.stat().st_size for file in target.parent.iterdir())
    if left_bytes < size:  # output or rejects; else it failed before it had read all, and its peak says nothing
        raise UnexpectedExitError(f"{scenario.name}: only {left_bytes:,} bytes came of an input of {size:,}")
    row: Row = {"scenario": scenario.name, "input_bytes": size, **asdict(usage)}
    if scenario.long_line_bytes:
        return {**row, "line_ratio": usage.peak_rss_bytes / scenario.long_line_bytes}
    return {**row, "bound_bytes": MEMORY_BOUND_BYTES, "within_bound": usage.peak_rss_bytes <= MEMORY_BOUND_BYTES}


def measure_piped(command: list[str], source: Path) -> Usage:
    """Measure a command that reads `cat source |`, without the cat."""
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
        return measure(command, stdin=cat.stdout)


def startup_part(folder: Path) -> list[Row]:
    """Measure what a person waits for where there is next to nothing to do."""
    rows = []
    with output_in(folder) as target:
        commands = {f"transform run, {SAMPLE.name}": our_run(SAMPLE, target), "transform --help": ours("--help")}
        for name, command in commands.items():
            progress.print(f"start-up: {name}")
            usages = [measure(command) for _ in range(STARTUP_RUNS)]
            rows.append({"command": name, **asdict(median_usage(usages)), "runs": [asdict(usage) for usage in usages]})
    return rows


def run_parts(parts: Sequence[str], rivals: Sequence[str], sizes: tuple[int, int], runs: int) -> Row:
    """Run the chosen parts, show their tables as they come, and return all results."""
    size, large_bytes = sizes
    tables = Console()
    results: Row = {"machine": report.machine()}
    tables.print(report.machine_line(results["machine"]), highlight=False)
    need_bytes = ROOM_FACTOR * max(size if "time" in parts else 0, large_bytes if "memory" in parts else 0, SMALL_BYTES)
    with scratch(need_bytes) as folder:
        results["data_on"] = str(folder.parent)
        if "time" in parts:
            results["time"] = time_part(rivals, size, runs, folder)
            tables.print(report.time_table(results["time"], size=size, runs=runs))
        if "memory" in parts:
            results["memory"] = memory_part(large_bytes, folder)
            tables.print(report.memory_table(results["memory"]))
        if "startup" in parts:
            results["startup"] = startup_part(folder)
            tables.print(report.startup_table(results["startup"], runs=STARTUP_RUNS))
    return results


def to_bytes(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """Return the number of bytes that an option such as 512MB or 4GiB means."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def stop(number: int, _frame: FrameType | None) -> None:
    """Leave by way of the `finally` clauses: the data are large, and on a RAM disk they are memory."""
    sys.exit(128 + number)


@click.command(epilog="MB is 1,000,000 bytes, MiB is 1,048,576.")
@click.option(
    "--bytes",
    "size",
    metavar="SIZE",
    callback=to_bytes,
    default="512MB",
    show_default=True,
    help="Input of the comparison.",
)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each way compared.")
@click.option(
    "--memory-bytes",
    metavar="SIZE",
    callback=to_bytes,
    default="4GB",
    show_default=True,
    help="Larger input of the memory part.",
)
@click.option("--only", multiple=True, type=click.Choice([*PARTS, *RIVALS]), help="A part, or a rival. Repeatable.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all results here.")
def main(size: int, runs: int, memory_bytes: int, only: tuple[str, ...], json_path: Path | None) -> None:
    """Measure our time beside that of others, our memory and our start-up; whole processes, on data made for it."""
    signal.signal(signal.SIGTERM, stop)
    if json_path and not json_path.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no folder {json_path.resolve().parent}", param_hint="--json")
    rivals = [name for name in RIVALS if name in only]
    parts = [part for part in PARTS if part in only] or (["time"] if rivals else list(PARTS))
    try:
        results = run_parts(parts, rivals or RIVALS, (size, memory_bytes), runs)
    except (NoRoomError, UnexpectedExitError, DisagreementError) as error:
        raise click.ClickException(str(error)) from None
    if json_path:
        json_path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
