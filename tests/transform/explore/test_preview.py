"""Whatever looks at the lines of an input decodes and evaluates each of them once, and starts again where it has to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.support.trial import lines
from transform import Calculation
from transform.explore.check import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = 3000
PROBED_LINES = 1000
"""Of these first ones it is tried whether results depend on how the input is cut."""


def same(json_obj: dict[str, Any]) -> dict[str, Any]:
    return json_obj


LOOKS: dict[str, Callable[[Calculation, Path], object]] = {
    "check": lambda calculation, path: check(calculation.spec_for(path), path),
    "compare": lambda calculation, path: calculation.compare(same, path),
    "profile": lambda calculation, path: calculation.profile(path),
    "preview": lambda calculation, path: calculation.preview(path, 5),
    "run": lambda calculation, path: calculation.run(path, path.with_name("out"), workers=1),
}


@pytest.mark.parametrize("look", LOOKS)
def test_each_line_is_evaluated_once(look: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines(*(f'{{"a":{number}}}' for number in range(LINES))))
    seen: Counter[int] = Counter()

    def note(value: int) -> int:
        seen[value] += 1
        return value

    expr = pl.col("a").map_elements(note, return_dtype=pl.Int128)
    LOOKS[look](Calculation(b=expr).with_schema({"a": pl.Int64}).assume_pure(), path)
    assert {seen[number] for number in range(PROBED_LINES, LINES)} == {1}


seen_types: set[str] = set()


def note_type(value: object) -> float:
    """Note the type of a value. (Expressions with arithmetic are pickled, which copies functions within others.)"""
    seen_types.add(type(value).__name__)
    return 1.0


@pytest.mark.parametrize("look", LOOKS)
def test_a_float_where_integers_were_inferred_starts_it_again(look: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines(*['{"a":1,"c":1}'] * 1500, '{"a":1.5,"c":1}', *['{"a":1,"c":1}'] * 9, '{"a":1,"c":2.5}'))
    seen_types.clear()
    expr = (pl.col("a") + pl.col("c")).map_elements(note_type, return_dtype=pl.Float64)
    LOOKS[look](Calculation(b=expr).assume_pure(), path)
    assert "float" in seen_types


def test_preview_has_the_types_of_results_where_there_are_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    calculation = Calculation.from_sql("a + 1 AS b", "a > 5").with_schema({"a": "Int64"})
    for content in (b"", b"\n", lines('{"a":1}'), lines('{"a":1}', "no")):
        path.write_bytes(content)
        frame = calculation.preview(path)
        assert frame.height == 0
        assert frame.schema == pl.Schema({"a": pl.Int128, "b": pl.Int128})


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 100])
def test_preview_has_the_first_rows_that_stay(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    pad = "x" * 20_000  # a few lines fill a chunk
    path.write_bytes(lines(*(f'{{"a":{number},"pad":"{pad}"}}' for number in range(20))))
    frame = Calculation.from_sql("a / 2 AS b", "a % 3 <> 0").preview(path, rows)
    numbers = [number for number in range(20) if number % 3][:rows]
    assert frame.to_dict(as_series=False) == {"a": numbers, "b": [number / 2 for number in numbers]}
