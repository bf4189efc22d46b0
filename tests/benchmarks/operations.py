"""What is timed: the operations, the ways to do each, and what their times are held to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.targets import Speed, Target
from tests.benchmarks.ways import APPEND, FAILED, REJECT_ALL, RIVALS, Way, our_way, rival_way

if TYPE_CHECKING:
    from collections.abc import Container

OURS, OURS_ALONE = "transform", "transform --workers 1"
CLEAN, DAMAGED = "clean", "with bad lines"
ALONE = ("--workers", "1")
FUNCTION = Path(__file__).with_name("calculation.py")
INDENTED, RECORDS, LINES = "transform --format json", "transform --each", "lines"
COPY_NEED_FACTOR = 1.5  # beyond the input and the output: the copy, and the rejects


@dataclass(frozen=True)
class Operation:
    """One thing done to an input, by several ways; what the first of them takes is the measure of the others."""

    name: str
    title: str
    ways: tuple[Way, ...]
    targets: tuple[Target | Speed, ...]
    share: float = 1.0  # of the input that the options ask for

    @property
    def forms(self) -> list[str]:
        """The forms of the copies that its ways read."""
        return [way.form for way in self.ways if way.form]

    def only(self, rivals: Container[str]) -> Operation:
        """Return it with ours, and only these rivals."""
        return replace(self, ways=tuple(way for way in self.ways if way.is_ours or way.name in rivals))


def beside_polars(name: str, title: str, *arguments: str, targets: tuple[Target, ...] = ()) -> Operation:
    """Return an operation that polars does, too."""
    return Operation(name, title, (our_way(OURS, *arguments), rival_way("polars_scan", name)), targets)


def of_polars(bound: float) -> tuple[Target, ...]:
    """Return the targets of taking at most so many times what polars takes."""
    return tuple(Target(measure, OURS, "polars_scan", bound) for measure in ("cpu_s", "wall_s"))


MAIN = Operation(
    "append",
    "Append a column",
    (
        our_way(OURS, *APPEND),
        our_way(OURS_ALONE, *APPEND, *ALONE, s_per_gb=3.5, label="transform, one worker"),
        *(rival_way(name, *(["append"] if name == "polars_scan" else [])) for name in RIVALS),
    ),
    (
        *of_polars(0.40),
        Target("wall_s", "per_line_json", OURS, 12, at_least=True),
    ),
)
OPERATIONS = (
    MAIN,
    beside_polars("replace", "Replace a value", "-e", "stars * 2 AS stars", targets=of_polars(0.45)),
    beside_polars("filter", "Keep a tenth, append", *APPEND, "-w", "review_count >= 50", targets=of_polars(0.40)),
    beside_polars("drop", "Drop two members", "--drop", "address, postal_code", targets=of_polars(0.45)),
    beside_polars("select", "Select three members", "--select", "name, city, stars", targets=of_polars(0.45)),
    Operation(
        "rejected",
        "Reject every line",
        (our_way(OURS, *REJECT_ALL, s_per_gb=15, expected_exit=FAILED),),
        (Speed(OURS, 60),),
        share=0.25,  # what is rejected is written with its reason
    ),
    Operation(
        "function",
        "Run a Python function for each line",
        (
            our_way(OURS, "-c", FUNCTION, s_per_gb=7),
            our_way(OURS_ALONE, "-c", FUNCTION, *ALONE, s_per_gb=14, label="transform, one worker"),
            rival_way("per_line_json"),
        ),
        (Target("cpu_s", OURS_ALONE, "per_line_json", 1), Target("wall_s", OURS_ALONE, "per_line_json", 1)),
        share=0.25,  # a loop in Python takes its time
    ),
    Operation(
        "bad-lines",
        "One bad line in every 4 MiB, one worker",
        (
            our_way(CLEAN, *APPEND, *ALONE, s_per_gb=3.5),
            our_way(DAMAGED, *APPEND, *ALONE, s_per_gb=5, form="damaged"),
        ),
        (Target("cpu_s", DAMAGED, CLEAN, 1.5),),
    ),
    Operation(
        "json",
        "Append a column to indented JSON, one worker",
        (
            our_way(LINES, *APPEND, *ALONE, s_per_gb=3.5),
            our_way(INDENTED, *APPEND, *ALONE, "--format", "json", s_per_gb=4, form="indented"),
        ),
        (Speed(INDENTED, 300),),
        share=0.5,
    ),
    Operation(
        "each",
        "Append a column to the elements of arrays, one worker",
        (
            our_way(LINES, *APPEND, *ALONE, s_per_gb=3.5),
            our_way(RECORDS, *APPEND, *ALONE, "--each", "Records", s_per_gb=5, form="records"),
        ),
        (Target("cpu_s_per_gb", RECORDS, LINES, 1.5),),
        share=0.5,
    ),
)
