"""Each row is computed as if it were alone: exact, or failed by itself, and counted just once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.results import as_texts
from tests.support.trial import attempt, lines
from transform import Calculation
from transform.errors import CalculationError
from transform.expressions.evaluate import Evaluator

BEYOND = "the calculation failed: integer arithmetic goes beyond Int128"
LIMIT = 2**127
HUGE = 2**126 + 2**90
a, b, s = pl.col("a"), pl.col("b"), pl.col("s")


def integers(*values: int | None, **others: list[int | None]) -> pl.DataFrame:
    columns = {"a": list(values), **others}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Int128))


def evaluate(
    frame: pl.DataFrame, results: dict[str, pl.Expr], *filters: pl.Expr, **options: Any
) -> tuple[list[int], int, dict[int, str], dict[str, list[str]], dict[str, int]]:
    """Return the rows kept, how many are filtered, why others fail, the texts, and the counts of what is not finite."""
    found = Evaluator(results, filters, frame.schema, **options).evaluate(frame)
    assert len(found.kept) + found.filtered + len(found.failed) == frame.height
    assert as_texts(found).columns == list(results)
    assert not results or as_texts(found).height == len(found.kept)
    failed = {row: str(error) for row, error in found.failed.items()}
    return found.kept.tolist(), found.filtered, failed, as_texts(found).to_dict(as_series=False), found.nonfinite


# results, filters → rows kept and rows failed of a in 5, HUGE, 11, null, -HUGE; the others are filtered
OVERFLOWS: list[tuple[dict[str, pl.Expr], list[pl.Expr], list[int], list[int]]] = [
    ({"r": a * a}, [], [0, 2, 3], [1, 4]),
    ({"r": a + a}, [], [0, 2, 3], [1, 4]),
    ({"r": a * a}, [a < 10, a > 0], [0], []),
    ({"r": a * a}, [a > 10], [2], [1]),
    ({"r": pl.lit(1)}, [a * a > 0], [0, 2], [1, 4]),
    ({}, [a * a > 0], [0, 2], [1, 4]),
    ({}, [a.is_not_null(), a * a < 100], [0], [1, 4]),
    ({}, [(a * 4).is_null()], [3], [1, 4]),
    ({"r": a * 4}, [a * a < 100], [0], [1, 4]),
    ({"r": a * 4, "q": a}, [], [0, 2, 3], [1, 4]),
    ({"q": a, "r": a * 4}, [a < 0], [], [4]),
    ({"r": pl.when(a < 10).then(a).otherwise(a * a)}, [], [0, 2, 3, 4], [1]),
    ({"r": pl.when(a > 10).then(a).otherwise(a * a)}, [], [0, 1, 2, 3], [4]),
    ({"r": pl.when(a > 10).then(a * a).otherwise(a)}, [], [0, 2, 3, 4], [1]),
    ({"r": pl.when(a > 10).then(a * a).when(a < 0).then(a * a).otherwise(a)}, [], [0, 2, 3], [1, 4]),
    ({"r": pl.when(a > 10).then(1).when(a < 0).then(2).otherwise(a * a)}, [], [0, 1, 2, 3, 4], []),
    ({"r": pl.when(a > 10).then(pl.when(a > 20).then(a * a).otherwise(a)).otherwise(a)}, [], [0, 2, 3, 4], [1]),
    (
        {"r": pl.when(a < 10).then(pl.when(a.is_not_null()).then(a * a).otherwise(a)).otherwise(a)},
        [],
        [0, 1, 2, 3],
        [4],
    ),
    ({"r": pl.when(a < 10).then(pl.max_horizontal(a * a, a)).otherwise(a)}, [], [0, 1, 2, 3], [4]),
    ({"r": pl.when(a < 10).then((a * a) % 7).otherwise(a)}, [], [0, 1, 2, 3], [4]),
    ({"r": pl.when(a * a > 0).then(1).otherwise(2)}, [], [0, 2, 3], [1, 4]),
    ({"r": pl.lit(1)}, [pl.when(a < 10).then(a > 0).otherwise(a * a > 0)], [0, 2], [1]),
    ({"r": (a * a) % 7}, [], [0, 2, 3], [1, 4]),
    ({"r": (a * a).cast(pl.String)}, [], [0, 2, 3], [1, 4]),
    ({"r": a**2}, [], [0, 2, 3], [1, 4]),
    ({"r": (a * 4).abs()}, [], [0, 2, 3], [1, 4]),
    ({"r": a.abs() * 4}, [], [0, 2, 3], [1, 4]),
    ({"r": pl.sum_horizontal(a, a, a)}, [], [0, 2, 3], [1, 4]),
    ({"r": (a * 4 < 0) | (a > 0)}, [], [0, 2, 3], [1, 4]),
    ({"r": -(a * 4)}, [], [0, 2, 3], [1, 4]),
    ({"r": 0 - a * 4}, [], [0, 2, 3], [1, 4]),
    ({"r": a - (0 - a)}, [], [0, 2, 3], [1, 4]),
    ({"r": a * 1.5}, [], [0, 1, 2, 3, 4], []),
    ({"r": a - a + a}, [], [0, 1, 2, 3, 4], []),
    ({"r": a * a}, [pl.lit(value=False)], [], []),
]


@pytest.mark.parametrize(
    ("results", "filters", "kept", "failed"), OVERFLOWS, ids=[str(n) for n in range(len(OVERFLOWS))]
)
def test_only_rows_for_which_an_overflow_matters_fail(
    results: dict[str, pl.Expr], filters: list[pl.Expr], kept: list[int], failed: list[int]
) -> None:
    found, filtered, why, _, _ = evaluate(integers(5, HUGE, 11, None, -HUGE), results, *filters)
    assert (found, why) == (kept, dict.fromkeys(failed, BEYOND))
    assert filtered == 5 - len(kept) - len(failed)
    for row, value in enumerate([5, HUGE, 11, None, -HUGE]):  # and so it is for each row alone
        alone, gone, why, _, _ = evaluate(integers(value), results, *filters)
        assert (len(alone), gone, why) == (row in kept, row not in kept + failed, {0: BEYOND} if row in failed else {})


def test_a_condition_that_is_null_takes_the_other_choice() -> None:
    frame = integers(HUGE, HUGE, HUGE, b=[None, 0, 1])
    assert evaluate(frame, {"r": pl.when(b > 0).then(a * a).otherwise(a)})[0] == [0, 1]
    assert evaluate(frame, {"r": pl.when(b > 0).then(a).otherwise(a * a)})[0] == [2]


def test_overflows_are_counted_as_rejected_and_filtered_lines_in_a_run() -> None:
    data = lines('{"a":5}', f'{{"a":{HUGE}}}', '{"a":11}', '{"a":null}', f'{{"a":{-HUGE}}}')
    typed = {"a": pl.Int128}
    for calculation, kept, filtered, rejected in (
        (Calculation(r=a * a).filter(a < 10, a > 0), 1, 4, 0),
        (Calculation(r=a * a).filter(a > 10), 1, 3, 1),
        (Calculation(r=1).filter(a * a > 30), 1, 2, 2),
        (Calculation.from_sql("a * a AS r"), 3, 0, 2),
        (Calculation.from_sql("1 AS r", where="a * a > 30"), 1, 2, 2),
    ):
        outcome = attempt(data, calculation.with_schema(typed))
        assert outcome.reasons == [BEYOND] * rejected
        counts = (outcome.summary.lines_out, outcome.summary.filtered, outcome.summary.rejected)
        assert counts == (kept, filtered, rejected)


Value = tuple[pl.Expr, Callable[[int, int], int]]
products: st.SearchStrategy[Value] = st.sampled_from(
    [
        (a * a, lambda x, _: x * x),
        (a * b, lambda x, y: x * y),
        (a * 3 - b, lambda x, y: 3 * x - y),
        (-b, lambda _, y: -y),
    ]
)


def choose(one: Value, other: Value, by_a: bool) -> Value:
    (left, f), (right, g) = one, other
    predicate = a > 2 if by_a else b.is_null()
    return pl.when(predicate).then(left).otherwise(right), lambda x, y: f(x, y) if by_a and x > 2 else g(x, y)


wide = st.integers(-9, 9) | st.integers(-(2**70), 2**70) | st.integers(-(2**126), 2**126)


@settings(max_examples=120, deadline=None)
@given(
    result=st.recursive(products, lambda parts: st.builds(choose, parts, parts, st.booleans()), max_leaves=4),
    condition=products,
    least=st.sampled_from([None, 0, -(2**100)]),
    rows=st.lists(st.tuples(wide, wide), min_size=1, max_size=9),
)
def test_arithmetic_in_results_filters_and_choices_is_exact_or_fails_just_its_row(
    result: Value, condition: Value, least: int | None, rows: list[tuple[int, int]]
) -> None:
    kept, failed, texts = [], {}, []
    for row, (x, y) in enumerate(rows):
        wanted, value = condition[1](x, y), result[1](x, y)
        if any(abs(abs(number) - LIMIT) < 2**80 for number in (wanted, value)):
            return  # within the rounding of floats either answer is right
        if least is not None and abs(wanted) > LIMIT:
            failed[row] = BEYOND
        elif least is None or wanted > least:
            if abs(value) > LIMIT:
                failed[row] = BEYOND
            else:
                kept.append(row)
                texts.append(str(value))
    frame = integers(*(x for x, _ in rows), b=[y for _, y in rows])
    filters = [] if least is None else [condition[0] > least]
    filtered = len(rows) - len(kept) - len(failed)
    assert evaluate(frame, {"r": result[0]}, *filters) == (kept, filtered, failed, {"r": texts}, {})


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.sampled_from(["1", "2", "30", "x", "-", None]), min_size=1, max_size=40), pick=st.booleans())
@example(texts=["x"], pick=False)
@example(texts=["1", "x"], pick=True)
@example(texts=["x", "1", "30"], pick=True)
def test_rows_that_fail_are_found_among_the_others(texts: list[str | None], pick: bool) -> None:
    frame = pl.DataFrame({"s": texts}, schema={"s": pl.String})
    results = {"n": s.cast(pl.Int64), "f": s.cast(pl.Float64, strict=False) / 0}
    filters = [(s != "2") & (s != "-")] if pick else []
    failed = {row for row, text in enumerate(texts) if text == "x" or (text == "-" and not pick)}
    kept = [row for row, text in enumerate(texts) if row not in failed and not (pick and text in ("2", "-", None))]
    found, filtered, why, spelled, nonfinite = evaluate(frame, results, *filters)
    assert (found, set(why), filtered) == (kept, failed, len(texts) - len(kept) - len(failed))
    assert spelled == {"n": [texts[row] or "null" for row in kept], "f": ["null"] * len(kept)}
    infinite = sum(texts[row] is not None for row in kept)
    assert nonfinite == ({"f": infinite} if infinite else {})
    for row, reason in why.items():
        assert reason == (
            "the calculation failed: conversion from `str` to `i64` failed in column 's': " + f'"{texts[row]}"'
        )


def test_filters_keep_the_rows_for_which_all_are_true() -> None:
    frame = integers(1, 2, None, 4, b=[1, None, 1, 0])
    kept, filtered, failed, texts, _ = evaluate(frame, {"r": a, "q": b}, a > 0, b > 0)
    assert (kept, filtered, failed, texts) == ([0], 3, {}, {"r": ["1"], "q": ["1"]})
    assert evaluate(frame, {"r": a}, a < 0)[:4] == ([], 4, {}, {"r": []})
    assert evaluate(frame, {"r": a}, pl.lit(None))[:2] == ([], 4)
    assert evaluate(frame, {}, a >= 2)[:3] == ([1, 3], 2, {})
    lists = pl.DataFrame({"l": [[1, 2]]})  # polars cannot do this on no rows
    assert evaluate(lists, {"r": pl.col("l").list.set_union([1, 2])}, pl.lit(value=False))[3] == {"r": []}
    computed = Evaluator({"r": a * 2}, [a >= 2], frame.schema).compute(frame)
    assert computed.to_dict(as_series=False) == {"a": [2, 4], "b": [None, 0], "r": [4, 8]}
    with pytest.raises(CalculationError, match=r'the filter `col\("a"\)` gives Int128, not true or false'):
        Evaluator({"r": a}, [b > 0, a], frame.schema)


NAN, INF = float("nan"), float("inf")
NUMBERS = st.sampled_from([1.5, -0.0, NAN, INF, -INF, None])
ROW = st.fixed_dictionaries(
    {
        "f": NUMBERS,
        "l": st.none() | st.lists(NUMBERS, max_size=3),
        "o": st.none() | st.fixed_dictionaries({"x": NUMBERS, "y": st.none() | st.lists(NUMBERS, max_size=2)}),
        "i": st.none() | st.integers(0, 3),
    }
)
FLOATS = {
    "f": pl.Float64(),
    "l": pl.List(pl.Float64()),
    "o": pl.Struct({"x": pl.Float64(), "y": pl.List(pl.Float64())}),
}


def spelled(value: object, count: list[None]) -> str:
    match value:
        case None:
            return "null"
        case float() if value - value != 0:
            count.append(None)
            return "null"
        case list():
            return "[" + ",".join(spelled(element, count) for element in value) + "]"
        case dict():
            return (
                "{" + ",".join(f'"{name}":{spelled(element, count)}' for name, element in sorted(value.items())) + "}"
            )
    return str(value)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6), only_some=st.booleans())
def test_numbers_that_are_not_finite_are_null_and_counted_where_they_go_out(
    rows: list[dict[str, Any]], only_some: bool
) -> None:
    schema = {**FLOATS, "i": pl.Int128()}
    frame = pl.DataFrame(rows, schema=schema)
    kept = [row for row in rows if not only_some or (row["i"] or 0) > 1]
    *_, texts, nonfinite = evaluate(frame, {name: pl.col(name) for name in schema}, *[pl.col("i") > 1] * only_some)
    for name in schema:
        count: list[None] = []
        assert texts[name] == [spelled(row[name], count) for row in kept]
        assert nonfinite.get(name, 0) == len(count)
    assert 0 not in nonfinite.values()


SOME = st.sampled_from([49.0, 1.0, 98.0, -7.5])
SCHEMA_OF_SOME = {"f": pl.Float64(), "i": pl.Int128(), "l": pl.List(pl.Float64())}


@cache
def evaluators_of_some() -> list[Evaluator]:
    f, i = pl.col("f"), pl.col("i")
    # polars computes in another way with one value and a constant than with many and a constant
    results = {"a": f // i, "b": 49.0 // f, "c": f / i, "d": f // 49, "e": pl.lit("k"), "g": i // 7}
    of_elements = {"h": pl.col("l").list.eval(pl.element() // 49)}
    return [
        Evaluator(exprs, filters, SCHEMA_OF_SOME)
        for exprs, filters in (
            (results, []),
            (results | of_elements, []),
            (results, [f // 49 < 1]),
            (results, [f % 49 == 0]),
        )
    ]


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(SOME, st.sampled_from([49, 7, -3, None]), st.lists(SOME, max_size=2)), max_size=6))
@example(rows=[(49.0, 49, [49.0])])
@example(rows=[(49.0, 49, [49.0]), (98.0, 49, [])])
@example(rows=[(49.0, 49, [49.0, 49.0]), (98.0, 49, [49.0])])
def test_rows_alone_give_what_they_give_together(rows: list[tuple[float, int | None, list[float]]]) -> None:
    frame = pl.DataFrame(rows, SCHEMA_OF_SOME, orient="row")
    for evaluator in evaluators_of_some():
        together = evaluator.evaluate(frame)
        apart = [evaluator.evaluate(frame.slice(row, 1)) for row in range(len(rows))]
        assert together.kept.tolist() == [row for row in range(len(rows)) if len(apart[row].kept)]
        assert as_texts(together).rows() == [row for one in apart for row in as_texts(one).rows()]
        assert as_texts(together)["b"].to_list() == [str(49.0 // rows[row][0]) for row in together.kept]


@pytest.mark.parametrize("height", [0, 1, 2, 5])
def test_results_that_read_no_column_are_there_for_every_row(height: int) -> None:
    rows = list(range(height))
    frame = pl.DataFrame(height=height)
    assert evaluate(frame, {"r": pl.lit(1), "q": pl.lit("x")})[:4] == (
        *(rows, 0, {}),
        {"r": ["1"] * height, "q": ['"x"'] * height},
    )
    assert evaluate(frame, {}, pl.lit(value=True))[:3] == (rows, 0, {})
    assert evaluate(frame, {}, pl.lit(value=False))[:3] == ([], height, {})
    assert evaluate(frame, {"r": pl.lit(1)}, pl.lit(value=False))[:4] == ([], height, {}, {"r": []})


def pure(function: Callable[[pl.Series], pl.Series]) -> pl.Expr:
    return pl.col("f").map_batches(function, return_dtype=pl.Float64)


IMPURE: dict[str, Callable[[pl.Series], pl.Series]] = {
    "the mean": lambda x: x - (x.mean() or 0.0),
    "the row before": lambda x: x.shift(1),
    "a row alone": lambda x: x + float(len(x) <= 2),
    "few rows": lambda x: x + float(2 <= len(x) <= 3),
    "the last third": lambda x: x + float(len(x) == 6),
    "many rows": lambda x: x + float(len(x) == 9),
}


@pytest.mark.parametrize("looks_at", IMPURE)
def test_functions_that_look_at_other_rows_are_found_out(looks_at: str) -> None:
    frame = pl.DataFrame({"f": [5.0, 1.0, 2.0, 8.0, 3.0, 7.0, 6.0, 4.0, 9.0]})
    results = {"good": pl.col("f") * 2, "r": pure(IMPURE[looks_at])}
    with pytest.raises(CalculationError, match=r"`r` is not row-wise: .* evaluated apart"):
        Evaluator(results, [], frame.schema, pure=True).probe(frame)
    kept_by = pure(IMPURE["the mean"]) > 0
    with pytest.raises(CalculationError, match="is not row-wise"):
        Evaluator({"f": pl.col("f")}, [kept_by], frame.schema, pure=True).probe(frame)


def test_functions_of_one_row_pass_the_probe_and_so_does_one_that_fails() -> None:
    frame = pl.DataFrame({"f": [5.0, None, float("nan"), 8.0, 3.0]})
    for height in range(6):
        Evaluator({"r": pure(lambda x: x * 2)}, [pl.col("f") > 1], frame.schema, pure=True).probe(frame.head(height))

    def fail(values: pl.Series) -> pl.Series:
        if 8.0 in values:
            raise ValueError("no eights\nplease")
        return values

    evaluator = Evaluator({"r": pure(fail)}, [], frame.schema, pure=True)
    evaluator.probe(frame)
    found = evaluator.evaluate(frame)
    assert {row: str(e) for row, e in found.failed.items()} == {3: "the calculation failed: ValueError: no eights"}
    assert found.kept.tolist() == [0, 1, 2, 4]


def test_a_function_that_looks_at_other_rows_is_refused_before_anything_is_written() -> None:
    calculation = Calculation(r=pure(IMPURE["the mean"])).with_schema({"f": pl.Float64}).assume_pure()
    with pytest.raises(CalculationError, match="evaluated apart"):
        attempt(lines('{"f":1}', '{"f":2}', '{"f":5}'), calculation)
