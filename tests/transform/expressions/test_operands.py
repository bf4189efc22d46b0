"""Whole lists and objects are neither computed with nor mixed with single values, and results have the type planned."""

from __future__ import annotations

import operator
import re
from typing import Any

import polars as pl
import pytest

from transform.errors import CalculationError
from transform.expressions.evaluate import Evaluator
from transform.expressions.parse import parse_sql

SCHEMA = {
    "n": pl.Int128(),
    "x": pl.Float64(),
    "l": pl.List(pl.Int128()),
    "ll": pl.List(pl.List(pl.Int128())),
    "r": pl.Array(pl.Int128(), 2),
    "o": pl.Struct({"a": pl.Int128()}),
    "lo": pl.List(pl.Struct({"a": pl.Int128()})),
    "ls": pl.List(pl.String()),
}
n, x, l, ll, r, o, lo, ls = (pl.col(name) for name in SCHEMA)  # noqa: E741 - names of columns
ROW = {"n": 3, "x": 0.5, "l": [7, -7], "ll": [[7]], "r": [1, 2], "o": {"a": 5}, "lo": [{"a": 5}], "ls": ["ab", None]}
FRAME = pl.DataFrame([ROW, dict.fromkeys(SCHEMA)], SCHEMA)
element = pl.element()
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
SQL_BINARY = ["+", "-", "*", "/", "//", "%"]


def evaluator(expr: pl.Expr | str) -> Evaluator:
    return Evaluator({"r": parse_sql(expr)[0] if isinstance(expr, str) else expr}, [], SCHEMA)


def value(expr: pl.Expr | str) -> Any:
    return evaluator(expr).compute(FRAME)["r"].to_list()[0]


@pytest.mark.parametrize(
    "expr",
    [
        *(of(nested, other) for of in BINARY for nested in (l, o, r) for other in (2, 0.5, n, nested)),
        *(of(n, nested) for of in BINARY for nested in (l, o)),
        *(f"{nested} {of} {other}" for of in SQL_BINARY for nested in "lo" for other in ("2", "0.5", "n", nested)),
        *(
            ll.list.eval(element * 2),
            lo.list.eval(element * 2),
            -l,
            -o,
            pl.sum_horizontal(l, l),
            pl.sum_horizontal(o, n),
        ),
        *(ls.list.eval(element.str.len_chars()) - 5, pl.concat_list(n, n) * 100, l.cast(pl.List(pl.Int8)) * 2),
        *(pl.struct(a=ls.list.len()) - 10, ll * 2, lo * 2, pl.when(n > 5).then(l * 2).otherwise(l), (l * 2).list.sum()),
        *(lo.list.eval(element.diff()), "MOD(l, 2)", "DIV(o, 2)", "-l", "-o"),
    ],
    ids=str,
)
def test_arithmetic_on_whole_lists_and_objects_is_refused(expr: pl.Expr | str) -> None:
    with pytest.raises(CalculationError) as caught:
        evaluator(expr)
    assert re.search("polars refuses|does arithmetic on|is refused: .* is (a list|an object)", str(caught.value))


@pytest.mark.parametrize("expr", [l * 2, "l * 2"])
def test_the_message_says_how_elements_are_computed_with(expr: pl.Expr | str) -> None:
    with pytest.raises(CalculationError, match=r"In Python, .*\.list\.eval\(pl\.element\(\) \* 2\)"):
        evaluator(expr)
    assert value(l.list.eval(element * 2)) == [14, -14]


@pytest.mark.parametrize("expr", [o * 2, "o * 2"])
def test_the_message_says_how_members_are_computed_with(expr: pl.Expr | str) -> None:
    with pytest.raises(CalculationError, match=r"o\.a in SQL.*with_fields\(pl\.field\('a'\) \* 2\)"):
        evaluator(expr)
    assert value(o.struct.with_fields(pl.field("a") * 2)) == {"a": 10}
    assert value("o.a * 2") == 10


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        (ls.list.eval(element.str.len_chars()).list.eval(element - 5), [-3, None]),
        (ls.list.eval(element.str.len_chars() - 5), [-3, None]),
        (ls.list.eval(-element.str.len_chars()), [-2, None]),
        (pl.concat_list(n.cast(pl.Int8), 100).cast(pl.List(pl.Int8)).list.eval(element * 100), [300, 10000]),
        (l.cast(pl.List(pl.Int8)).list.eval(element * element * element), [343, -343]),
        (l.cast(pl.List(pl.Int8)).list.eval(element.abs() * 100), [700, 700]),
        (pl.struct(a=ls.list.len()).struct.with_fields(pl.field("a") - 10).struct.field("a"), -8),
        (ll.list.eval(element.list.eval(element * 2)), [[14]]),
        (lo.list.eval(element.struct.field("a").cast(pl.Int8) * 100), [500]),
    ],
    ids=str,
)
def test_narrow_integers_in_lists_are_widened_when_they_are_computed_with(expr: pl.Expr, wanted: Any) -> None:
    assert value(expr) == wanted


@pytest.mark.parametrize(
    "expr",
    [
        *("COALESCE(o, 0)", "IFNULL(o, 1.5)", "COALESCE(n, o)", "COALESCE(o.a, o)", "COALESCE(l, 0)", "COALESCE(o, l)"),
        *("CASE WHEN n > 1 THEN n ELSE o END", "IF(n > 1, l, 0)", "GREATEST(o, n)", "LEAST(o, 1)", "o = 5", "o < 5"),
        *("NULLIF(o, 5)", "o IN (5)", "CASE o WHEN 5 THEN 1 END", "l = 7", "n = l", "IFNULL(o, 'a')"),
        *(o.fill_null(0), l.fill_null(0), pl.coalesce(o, n), pl.coalesce(l, ll), pl.when(n > 1).then(o).otherwise(n)),
        *(pl.max_horizontal(o, n), pl.min_horizontal(n, o), o == n, o.eq_missing(5), o.is_in([5]), ll.fill_null(l)),
        *(
            pl.concat_list(n, o),
            lo.list.contains(5),
            lo.list.eval(element.fill_null(0)),
            o.clip(0, 5),
            o.is_between(0, 5),
        ),
        *(pl.concat_list(o).list.eval(pl.coalesce(element, 1)), o.replace(5, 6), o.fill_null("x")),
    ],
    ids=str,
)
def test_lists_and_objects_are_not_mixed_with_anything_else(expr: pl.Expr | str) -> None:
    with pytest.raises(CalculationError):
        evaluator(expr)


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("COALESCE(o.a, 0)", 5),
        ("COALESCE(o, NULL)", {"a": 5}),
        ("CASE WHEN n > 1 THEN o ELSE NULL END", {"a": 5}),
        ("CASE WHEN n > 1 THEN l END", [7, -7]),
        (pl.coalesce(l, pl.concat_list(n)), [7, -7]),
        (l.fill_null([]), [7, -7]),
        (l == l, True),
        (o == o, True),
        (pl.concat_list(l, n), [7, -7, 3]),
        (pl.concat_list(n, n), [3, 3]),
        (l.list.concat([1]), [7, -7, 1]),
        (ll.list.contains(l), False),
        (l.list.contains(7), True),
        (n.is_in(l), False),
        (pl.concat_list(o, o), [{"a": 5}, {"a": 5}]),
        (l.list.set_union([1]), [7, -7, 1]),
    ],
    ids=str,
)
def test_lists_and_objects_are_combined_with_their_kind(expr: pl.Expr | str, wanted: Any) -> None:
    found = value(expr)
    assert sorted(found) == sorted(wanted) if "set_" in str(expr) else found == wanted


def test_results_of_another_type_than_planned_are_an_error_and_not_written() -> None:
    found = Evaluator({"r": pl.coalesce(n, n)}, [], SCHEMA)
    with pytest.raises(CalculationError, match=r"`r` is String on some lines.*Int128"):
        found.evaluate(FRAME.cast({"n": pl.String}))


@pytest.mark.parametrize(
    "expr", ["CAST(n AS DECIMAL(10,2)) / 3", "n % CAST(n AS DECIMAL(10,2))", "7 // CAST(n AS DECIMAL)"]
)
def test_decimals_are_not_divided(expr: str) -> None:
    with pytest.raises(CalculationError, match="divides decimals"):
        evaluator(expr)
