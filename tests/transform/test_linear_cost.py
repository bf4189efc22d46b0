"""What a run costs grows in proportion to its input, whatever is wrong with the lines."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from transform import Calculation, RejectedError
from transform.decode import columns
from transform.decode.line_errors import LineError
from transform.decode.rejects import ChunkResult, Reject, Rejects
from transform.decode.schema import Column
from transform.engine.summary import MAX_REASONS, OTHER_REASONS, Summary
from transform.explore.check import check
from transform.explore.compare import differences

if TYPE_CHECKING:
    from collections.abc import Callable

BEYOND = str(2**130).encode()
APPEND = Calculation.from_sql("v + 1 AS w").with_schema({"v": "Int128"})
REPLACE = Calculation.from_sql("v + 1 AS v, u + 1 AS u").with_schema({"v": "Int128", "u": "Int64"})
LIST = Calculation(w=pl.col("v").list.len()).with_schema({"v": "List(Int128)"})
LINES: dict[str, tuple[Calculation, Callable[[int], bytes]]] = {
    "every second beyond Int128": (APPEND, lambda i: b'{"v":%b}' % (BEYOND if i % 2 else b"1")),
    "every second beyond, in lists": (LIST, lambda i: b'{"v":[%b]}' % (BEYOND if i % 2 else b"1")),
    "every second of another type": (APPEND, lambda i: b'{"v":%b}' % (b'"x"' if i % 2 else b"1")),
    "every second of another type, replaced": (REPLACE, lambda i: b'{"v":%b}' % (b'"x"' if i % 2 else b"1")),
    "all of another type, replaced": (REPLACE, lambda _: b'{"v":1,"u":"x"}'),
    "every second not JSON": (APPEND, lambda i: b'{"v":1}' if i % 2 else b'{"v":nope}'),
    "every second two objects": (APPEND, lambda i: b'{"v":1}' if i % 2 else b'{"v":1}{"v":1}'),
    "every second not UTF-8": (APPEND, lambda i: b'{"v":1}' if i % 2 else b'{"v":1,"x":"\xff"}'),
    "every second too deep": (APPEND, lambda i: b'{"v":1}' if i % 2 else b'{"v":1,"x":%b' % (b"[" * 600)),
    "every second a lone surrogate": (APPEND, lambda i: b'{"v":1}' if i % 2 else b'{"v":1,"x":"\\ud83d"}'),
    "each another name": (
        Calculation.from_sql("v AS w").drop("nome1", "zzz").with_schema({"v": "Int64"}),
        lambda i: b'{"v":1,"name%d":1}' % i,
    ),
}
FEW, TIMES = 500, 5


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of some tries."""
    best = float("inf")
    for _ in range(2):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


@pytest.mark.parametrize("name", LINES)
def test_five_times_the_lines_take_about_five_times_the_time(name: str) -> None:
    calculation, line = LINES[name]

    def run(count: int) -> None:
        content = io.BytesIO(b"\n".join(map(line, range(count))))
        with suppress(RejectedError):
            calculation.run(content, io.BytesIO(), workers=1)

    assert cpu_seconds(lambda: run(TIMES * FEW)) < 2 * TIMES * cpu_seconds(lambda: run(FEW))


@pytest.mark.parametrize("element", [b'{"a":1}', b"1"], ids=["kept", "rejected"])
def test_a_line_of_five_times_the_elements_takes_about_five_times_the_time(element: bytes) -> None:
    calculation = Calculation.from_sql("a + 1 AS b").with_schema({"a": "Int64"}).each("r")

    def run(count: int) -> None:
        content = io.BytesIO(b'{"r":[{"a":1},%b]}' % b",".join([element] * count))
        calculation.run(content, io.BytesIO(), workers=1, chunk_bytes=10_000)

    assert cpu_seconds(lambda: run(20_000 * TIMES)) < 2 * TIMES * cpu_seconds(lambda: run(20_000))


def test_an_integer_beyond_the_range_is_found_without_a_series_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = columns.to_series

    def counted(name: str, of: list[Any], column: Column) -> pl.Series:
        made.append(len(of))
        return make(name, of, column)

    monkeypatch.setattr(columns, "to_series", counted)
    values = {name: [*range(10_000)] for name in "abc"}
    values["b"][77] = 2**130
    frame, errors = columns.to_frame(values, dict.fromkeys("abc", Column(pl.Int128())), 10_000)
    assert (frame.height, [*errors]) == (9_999, [77])
    assert str(errors[77]) == f"column `b`: out of range for Int128: {2**130}"
    assert len(made) < 10


def test_ten_thousand_names_take_ten_times_as_long_as_a_thousand() -> None:
    def objects(count: int) -> bytes:
        return b"{%b}" % b",".join(b'"name %d":%d' % (number, number) for number in range(count))

    def compared(count: int) -> None:
        assert differences(objects(count), objects(count)) == []

    assert cpu_seconds(lambda: compared(10_000)) < 25 * cpu_seconds(lambda: compared(1_000))


def test_checking_against_many_names_takes_time_in_proportion() -> None:
    calculation = Calculation.from_sql("v + 1 AS w").drop("nmae 7", "zzz")

    def checked(count: int) -> None:
        lines = (
            b'{"v":1,%b}\n' % b",".join(b'"name %d":1' % (number + 20 * line) for number in range(20))
            for line in range(count // 20)
        )
        assert check(calculation.spec_for(""), io.BytesIO(b"".join(lines))).problems()

    assert cpu_seconds(lambda: checked(20_000)) < 2 * TIMES * cpu_seconds(lambda: checked(4_000))


def test_reasons_with_names_of_the_input_do_not_grow_the_summary_without_limit() -> None:
    summary = Summary()
    rejects = [
        Reject(number, number, error.kind, str(error), b"")
        for number in range(5_000)
        for error in [LineError(f"a member `name {number % 1_000}` that is not known")]
    ]
    summary.count(ChunkResult((), Rejects.of(rejects), len(rejects), 0, 0, 0, {}, 0))
    assert summary.rejected == 5_000
    assert len(summary.reject_reasons) == MAX_REASONS + 1
    assert sum(reason.count for reason in summary.reject_reasons.values()) == 5_000
    other = summary.reject_reasons[OTHER_REASONS]
    assert (other.count, other.first_offset) == (5 * (1_000 - MAX_REASONS), MAX_REASONS)
