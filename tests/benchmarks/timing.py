"""Times the operations: whole processes, the ways in turns, medians."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tests.benchmarks.data import copy_of, lines_in, output_in, scratch, touch_memory
from tests.benchmarks.measure import Usage, measure, median_usage
from tests.benchmarks.operations import COPY_NEED_FACTOR
from tests.benchmarks.report import progress
from tests.benchmarks.targets import judged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmarks.operations import Operation
    from tests.benchmarks.ways import Way

    Row = dict[str, Any]

CHECKED_BYTES = 2_000_000
TOUCHED_FACTOR = 2.3  # an output, and as much again for those that keep it all in memory
NEED_FACTOR = 1 + TOUCHED_FACTOR  # and an input


class DisagreementError(Exception):
    """A way's output holds other values than that of the first."""


def time_operation(operation: Operation, size: int, runs: int) -> Row:
    """Measure the ways in turns, so that whatever slows the machine for a while slows all of them."""
    need = size * (NEED_FACTOR + (COPY_NEED_FACTOR if operation.forms else 0))
    usages: dict[str, list[Usage]] = {way.name: [] for way in operation.ways}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(need))
        check_agreement(operation.ways, folder)
        source = stack.enter_context(lines_in(folder, size))
        sources = {"": source, **{form: stack.enter_context(copy_of(source, form)) for form in operation.forms}}
        sizes = {form: path.stat().st_size for form, path in sources.items()}
        for run in range(1, runs + 1):
            for way in operation.ways:
                progress.print(f"{operation.name}: run {run} of {runs}, {way.name}")
                usages[way.name].append(measure_way(way, sources[way.form]))
        place = str(folder.parent)
    base = median_usage(usages[operation.ways[0].name])
    rows = [time_row(way, sizes[way.form], usages[way.name], base) for way in operation.ways]
    about = {"operation": operation.name, "title": operation.title, "bytes": size, "data_on": place}
    return {**about, "ways": rows, "targets": judged(operation.targets, rows)}


def measure_way(way: Way, source: Path) -> Usage:
    """Run one way once."""
    touch_memory(source.parent, int(TOUCHED_FACTOR * source.stat().st_size))
    with output_in(source.parent) as target:
        return measure(way.command(source, target), expected_exit=way.expected_exit)


def check_agreement(ways: Sequence[Way], folder: Path) -> None:
    """Fail unless all ways make the same values, so that nobody is compared while computing something else."""
    first, *others = (way for way in ways if way.form != "damaged")
    if not others:
        return
    progress.print("checking that all ways make the same values")
    with lines_in(folder, CHECKED_BYTES) as source:
        expected = parsed_output(first, source)
        for way in others:
            with copy_of(source, way.form) if way.form else nullcontext(source) as read:
                made = parsed_output(way, read)
            for number, (wanted, found) in enumerate(zip_longest(expected, made), start=1):
                if wanted != found:
                    raise DisagreementError(f"line {number}: {first.name} makes {wanted}, {way.name} makes {found}")


def parsed_output(way: Way, source: Path) -> list[Any]:
    """Return the lines that a way makes of a small file."""
    with output_in(source.parent) as target:
        measure(way.command(source, target))
        files = sorted(target.glob("part-*")) if target.is_dir() else [target]
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def time_row(way: Way, size: int, usages: Sequence[Usage], base: Usage) -> Row:
    """Return one way's medians, and how many times those of the first they are."""
    middle = median_usage(usages)
    return {
        "way": way.name,
        "label": way.label,
        "ours": way.is_ours,
        **asdict(middle),
        "cpu_ratio": middle.cpu_s / base.cpu_s,
        "wall_ratio": middle.wall_s / base.wall_s,
        "mb_per_s": size / 1e6 / middle.wall_s,
        "cpu_s_per_gb": middle.cpu_s / (size / 1e9),
        "runs": [asdict(usage) for usage in usages],
    }
