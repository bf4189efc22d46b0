"""Arithmetic gives what Python gives, in SQL what DuckDB gives, or the line is rejected; it never wraps around."""

from __future__ import annotations

import datetime as dt
import math
import operator
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.results import as_texts
from tests.support.trial import attempt, lines
from transform import Calculation
from transform.errors import CalculationError
from transform.expressions import arithmetic
from transform.expressions.evaluate import Evaluator
from transform.expressions.parse import parse_sql

LIMIT = 2**127
SCHEMA = {"a": pl.Int128(), "b": pl.Int128(), "f": pl.Float64(), "g": pl.Float64()}
a, b, f, g = (pl.col(name) for name in SCHEMA)
REASON = "the calculation failed: integer arithmetic goes beyond Int128"
Number = int | float | None
Row = dict[str, Any]


class BeyondError(Exception):
    """An integer is beyond Int128."""


def exactly(function: Callable[..., Any], limit: int, *values: Number) -> Number:
    """Return what Python gives; by zero `/` is IEEE 754 division, and `%` and `//` give null."""
    if None in values:
        return None
    try:
        if function is operator.truediv:
            values = tuple(map(float, values))  # type: ignore[arg-type]
        found = function(*values)
    except ZeroDivisionError:
        if function is not operator.truediv:
            return None
        x, y = values
        assert x is not None
        assert y is not None
        return math.nan if x == 0 or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)
    except OverflowError:  # an int beyond the floats
        raise BeyondError from None
    if isinstance(found, int):
        found = int(found)
        if not -limit <= found < limit:
            raise BeyondError
    return found  # type: ignore[no-any-return]


Tree = tuple[pl.Expr, Callable[[Row], Number]]


def leaf(name: str) -> Tree:
    return pl.col(name), lambda row: row[name]


def constant(value: float) -> Tree:
    return pl.lit(value), lambda _: value


def operation(of: Callable[..., Any], left: Tree, right: Tree) -> Tree:
    return of(left[0], right[0]), lambda row: exactly(of, row["limit"], left[1](row), right[1](row))


def function(of: Callable[..., Any], inner: Tree) -> Tree:
    return of(inner[0]), lambda row: exactly(of, row["limit"], inner[1](row))


def varies(tree: Tree) -> bool:
    """Return whether a tree is no constant; polars takes x + c for x if it computes that c is 0, also if x is -0.0."""
    return "col(" in str(tree[0]) or "element()" in str(tree[0])


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
INTEGERS = (
    st.integers(-9, 9) | st.integers(-(2**60), 2**60) | st.sampled_from([0, 1, -1, 2**126, -(2**126), 10**18 + 1])
)
FLOATS = (
    st.sampled_from([0.0, -0.0, 1.0, 0.1, -0.1, 0.5, 2.5, -2.5, 49.0, 1e300, 1e-300, 1600643735021.0, 3.0])
    | st.floats(-1000.0, 1000.0)
    | st.floats(allow_nan=False, allow_infinity=False)
)
LEAVES = st.sampled_from([leaf(name) for name in SCHEMA]) | st.builds(
    constant, st.sampled_from([0, 1, -1, 3, 7, 1000, 0.0, 0.1, 0.7, 1.0, -3.5, 1000.0, 2**100])
)
TREES = st.recursive(
    LEAVES,
    lambda parts: (
        st.builds(operation, st.sampled_from(OPERATORS), parts, parts)
        | st.builds(function, st.sampled_from([operator.neg, abs]), parts)
    ),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"a": st.none() | INTEGERS, "b": st.none() | INTEGERS, "f": st.none() | FLOATS, "g": st.none() | FLOATS}
    ),
    min_size=1,
    max_size=5,
)


def expected(tree: Tree, rows: list[Row], limit: int = LIMIT) -> tuple[list[Number], set[int]]:
    """Return the values of the rows that have one, and the other rows."""
    values, failed = [], set()
    for place, row in enumerate(rows):
        try:
            values.append(tree[1](row | {"limit": limit}))
        except BeyondError:
            failed.add(place)
    return values, failed


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex() or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def computed(expr: pl.Expr, rows: list[Row]) -> tuple[list[Number], set[int]]:
    evaluator = Evaluator({"r": expr}, [], SCHEMA)
    frame = pl.DataFrame(rows, SCHEMA)
    failed = set(evaluator.evaluate(frame).failed)
    kept = frame.filter(pl.Series([row not in failed for row in range(frame.height)], dtype=pl.Boolean))
    return evaluator.compute(kept)["r"].to_list(), failed


@settings(max_examples=150, deadline=None)
@given(tree=TREES, rows=ROWS)
@example(tree=operation(operator.truediv, leaf("f"), constant(1000)), rows=[dict.fromkeys(SCHEMA, 1600643735021.0)])
@example(tree=operation(operator.floordiv, leaf("f"), constant(0.1)), rows=[dict.fromkeys(SCHEMA, 1.0)])
@example(tree=operation(operator.mod, leaf("a"), constant(0.0)), rows=[dict.fromkeys(SCHEMA, 1)])
def test_expressions_compute_what_python_computes(tree: Tree, rows: list[Row]) -> None:
    check(tree, rows)
    for row in rows:  # and so it is for each row alone
        check(tree, [row])


def check(tree: Tree, rows: list[Row]) -> None:
    """Compare with Python; a check in floats may also reject integers that are very near to the limit."""
    found, rejected = computed(tree[0], rows)
    assert rejected <= expected(tree, rows, LIMIT - 2**98)[1]  # a sum may leave Int128 on the way
    values = expected(tree, [row for place, row in enumerate(rows) if place not in rejected], LIMIT**9)[0]
    assert len(found) == len(values)
    assert all(map(same, found, values)), (found, values)


LISTS = {"l": pl.List(pl.Int128()), "m": pl.List(pl.Float64()), "r": pl.Array(pl.Float64(), 2)}
ELEMENT: Tree = (pl.element(), lambda row: row["element"])
ELEMENT_TREES = st.recursive(
    st.just(ELEMENT) | st.builds(constant, st.sampled_from([0, 3, 1000, 0.1, -3.5, 1000.0, 2**100])),
    lambda parts: (
        st.builds(operation, st.sampled_from(OPERATORS), parts, parts)
        | st.builds(function, st.sampled_from([operator.neg, abs]), parts)
    ).filter(varies),
    max_leaves=4,
).filter(varies)  # a constant is there once for each list


@settings(max_examples=60, deadline=None)
@given(
    tree=ELEMENT_TREES,
    integers=st.lists(st.none() | st.lists(st.none() | INTEGERS, max_size=3), min_size=1, max_size=4),
    floats=st.lists(st.none() | FLOATS.map(float), min_size=2, max_size=2),
)
@example(tree=operation(operator.truediv, ELEMENT, constant(1000)), integers=[[1600643735021]], floats=[0.0, 1.0])
@example(tree=operation(operator.mul, ELEMENT, constant(2**100)), integers=[[1], [2**60], [1, None]], floats=[0.0, 1.0])
def test_elements_of_lists_are_computed_as_python_computes_them(
    tree: Tree, integers: list[list[int | None] | None], floats: list[float | None]
) -> None:
    rows = [{"l": values, "m": floats, "r": floats} for values in integers]
    of = tree[0]
    for name, expr in (
        ("l", pl.col("l").list.eval(of)),
        ("m", pl.col("m").list.eval(of)),
        ("r", pl.col("r").arr.eval(of)),
    ):
        evaluator = Evaluator({"r": expr}, [], LISTS)
        texts = [
            None if values is None else [None if value is None else str(value) for value in values]
            for values in integers
        ]
        others = pl.DataFrame([{"m": floats, "r": floats}] * len(rows), {"m": LISTS["m"], "r": LISTS["r"]})
        frame = pl.DataFrame({"l": pl.Series(texts, dtype=pl.List(pl.String)).cast(LISTS["l"]), **others.to_dict()})
        rejected = evaluator.evaluate(frame).failed
        for place, row in enumerate(rows):
            given: list[Number] | None = row[name]  # type: ignore[assignment]
            elements = [{"element": value} for value in given or []]
            if place in rejected:
                assert expected(tree, elements, LIMIT - 2**98)[1]
                continue
            found = evaluator.compute(frame[place])["r"].to_list()[0]
            if given is None:
                assert found is None
            else:
                assert all(map(same, found, expected(tree, elements, LIMIT**9)[0]))
                assert len(found) == len(given)


SMALL = st.integers(-(2**20), 2**20)


@settings(max_examples=100, deadline=None)
@given(
    tree=st.recursive(
        st.sampled_from([leaf("a"), leaf("b"), constant(3), constant(1000), constant(0)]),
        lambda parts: st.builds(operation, st.sampled_from(OPERATORS), parts, parts),
        max_leaves=3,
    ),
    rows=st.lists(st.fixed_dictionaries({"a": SMALL, "b": SMALL}), min_size=1, max_size=5),
)
def test_it_makes_no_difference_whether_numbers_are_spelled_as_integers_or_floats(tree: Tree, rows: list[Row]) -> None:
    schema = {"a": pl.Int128(), "b": pl.Int128()}
    spelled: list[list[Number]] = []
    for dtype in (pl.Int128(), pl.Float64()):
        frame = pl.DataFrame(rows, schema).cast(dtype)
        results = Evaluator({"r": tree[0]}, [tree[0] >= 0], frame.schema).compute(frame)
        spelled.append(results.rows())  # type: ignore[arg-type] # of numbers
    integers, floats = (pl.DataFrame(rows, ["a", "b", "r"], orient="row").cast(pl.Float64) for rows in spelled)
    exact = all(abs(value) < 2**53 for value in integers["r"].drop_nulls().drop_nans())
    assert not exact or integers.select("a", "b", "r").equals(floats)


HALVES = st.integers(-(10**6), 10**6).map(lambda n: n / 2) | st.integers(-(10**7), 10**7).map(lambda n: n / 1000)
DOUBLES = (
    HALVES
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-1e6, 1e6)
    | st.sampled_from([2.675, 0.5, -2.5, 1e15 + 0.5, 0.49999999999999994, 1.005, -0.0, 4503599627370497.5])
)


def with_duckdb(texts: list[str], frame: pl.DataFrame) -> list[list[Any]]:
    rows = "SELECT unnest(?::DOUBLE[]) AS x, unnest(?::DOUBLE[]) AS y, unnest(?::BIGINT[]) AS i"
    found = duckdb.execute(f"SELECT {', '.join(texts)} FROM ({rows})", [frame[name].to_list() for name in "xyi"])
    return [list(column) for column in zip(*found.fetchall(), strict=True)]


def with_sql(text: str, frame: pl.DataFrame) -> list[Any]:
    return sql_evaluator(text, tuple(frame.schema.items())).compute(frame)["r"].to_list()


@cache
def sql_evaluator(text: str, schema: tuple[tuple[str, pl.DataType], ...]) -> Evaluator:
    (expr,) = parse_sql(text)
    return Evaluator({"r": expr}, [], dict(schema))


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(DOUBLES, DOUBLES.filter(bool), st.integers(-(2**62), 2**62)), min_size=1, max_size=20))
@example(rows=[(value, 0.1, 15) for value in (2.675, 0.5, -2.5, 1e15 + 0.5, 1.0, 45.0, -45.0)])
def test_sql_computes_what_duckdb_computes(rows: list[tuple[float, float, int]]) -> None:
    frame = pl.DataFrame(rows, {"x": pl.Float64, "y": pl.Float64, "i": pl.Int128}, orient="row")
    floats = ["x / y", "x % y", "MOD(x, y)", "x / 1000", "i / 1000", "x % 3", "ROUND(x)", "i / 7 + x * 0.1"]
    floats += [f"ROUND(x, {digits})" for digits in (-3, -2, -1, 0, 1, 2, 3, 10, 300)]
    integers = ["i % 7", "i // 7", "-i // 7", "i % -7", "ROUND(i)", "ROUND(i, 2)", "ROUND(i, -1)", "ROUND(i, -3)"]
    texts = floats + integers
    # With literals that are doubles; DuckDB takes them for decimals, and so computes something else.
    for text, wanted in zip(
        texts, with_duckdb([text.replace("0.1", "0.1::DOUBLE") for text in texts], frame), strict=True
    ):
        found = with_sql(text, frame)
        assert all(map(same, found, wanted)), (
            text,
            [both for both in zip(found, wanted, strict=True) if not same(*both)],
        )
    for text in ("x // y", "x // 3", "i // 0.5"):  # on purpose not as in DuckDB, where this is `/` if there is a float
        x, y = text.split(" // ")
        values = [(row[{"x": 0, "i": 2}[x]], row[1] if y == "y" else float(y)) for row in rows]
        whole = [math.trunc(Fraction(u) / Fraction(v)) for u, v in values]
        found = with_sql(text, frame)
        assert all(u == v or abs(v) > 2**50 for u, v in zip(found, whole, strict=True))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a / 0", [math.inf, -math.inf, None]),
        ("a % 0", [None] * 3),
        ("a % 0.0", [None] * 3),
        ("a // 0", [None] * 3),
        ("a // 0.0", [None] * 3),
        ("7 // 2", [3] * 3),
        ("-7 // 2", [-3] * 3),
        ("-7.0 // 2", [-3.0] * 3),
        ("-7 % 3", [-1] * 3),
        ("-7.0 % 3", [-1.0] * 3),
        ("1 / 2", [0.5] * 3),
        ("1.0 * a / 3", [1 / 3, -1 / 3, None]),
        ("a * 100.0 / 3", [100 / 3, -100 / 3, None]),
        ("a / 86400000.0", [1 / 86400000, -1 / 86400000, None]),
        ("ROUND(15, -1)", [20] * 3),
        ("ROUND(-15, -1)", [-20] * 3),
        ("ROUND(15, -39)", [0] * 3),
        ("ROUND(a * 1.0 / 0, -1)", [math.inf, -math.inf, None]),
        ("ROUND(a * 99999999999999999999999999999999999999, -40)", [0, 0, None]),
        ("POWER(2, -1)", [0.5] * 3),
        ("POWER(a, -2)", [1.0, 1.0, None]),
        ("POWER(-2, 3)", [-8] * 3),
        ("'ROUND(a, -1)'", ["ROUND(a, -1)"] * 3),
        ("ROUND(GREATEST(a, -1) * 15, -1)", [20, -20, -20]),
        ("CASE a WHEN 1.0 THEN 0.5 ELSE 2 END", [0.5, 2.0, 2.0]),
        ("a BETWEEN 0.5 AND 1.5", [True, False, None]),
        ("a IN (1.0, 2.5)", [True, False, None]),
        ("COALESCE(a, 0.1)", [1.0, -1.0, 0.1]),
        ("NULLIF(a, 1.0)", [None, -1, None]),
        ("a * 0.30000000000000004", [0.30000000000000004, -0.30000000000000004, None]),
        ("a + 99999999999999999999999999999999999999", [10**38, 10**38 - 2, None]),
        ("a IN (99999999999999999999, 1)", [True, False, None]),
        ("0.12345678901234567890123456789012345678", [0.12345678901234567890123456789012345678] * 3),
        ("ARRAY[1.5, 2]", [[1.5, 2.0]] * 3),
        ("'x' || a", ["x1", "x-1", None]),
    ],
)
def test_sql_has_doubles_and_integers_as_they_are_written(text: str, values: list[Any]) -> None:
    frame = pl.DataFrame({"a": [1, -1, None]}, {"a": pl.Int128})
    assert with_sql(text, frame) == values
    assert [with_sql(text, frame[row])[0] for row in range(3)] == values


def test_decimals_stay_where_they_are_asked_for() -> None:
    frame = pl.DataFrame({"a": [1]}, {"a": pl.Int128})
    assert with_sql("CAST(a AS DECIMAL(10, 2))", frame) == [Decimal("1.00")]
    assert with_sql("CAST(1.25 AS DECIMAL(10, 1))", frame)[0] in (Decimal("1.2"), Decimal("1.3"))
    results = {
        "r": pl.lit(Decimal("0.1")),
        "s": a * pl.lit(Decimal("0.1")),
        "t": pl.sql_expr("a * 0.1"),
        "u": pl.sql_expr("a IN (1.0)"),
    }
    found = Evaluator(results, [], frame.schema).compute(frame).row(0)
    assert found == (1, Decimal("0.1"), Decimal("0.1"), 0.1, True)


# Integers as other expressions give them, each with the same from Python.
WRAPPED: dict[str, tuple[pl.Expr, Callable[[int], int]]] = {
    "plain": (a, lambda x: x),
    "coalesce": (pl.coalesce(a, 0), lambda x: x),
    "fill_null": (a.fill_null(0), lambda x: x),
    "when": (pl.when(a > 0).then(a).otherwise(0), lambda x: max(x, 0)),
    "sql case": (pl.sql_expr("CASE WHEN a > 0 THEN a ELSE 0 END"), lambda x: max(x, 0)),
    "clip": (a.clip(-(2**126), 2**126), lambda x: min(max(x, -(2**126)), 2**126)),
    "max_horizontal": (pl.max_horizontal(a, 5), lambda x: max(x, 5)),
    "cast": (a.cast(pl.String).cast(pl.Int128), lambda x: x),
    "alias": (a.alias("z"), lambda x: x),
    "field": (pl.struct(z=a).struct.field("z"), lambda x: x),
    "floor division": (a // 3, lambda x: x // 3),
    "floor division by -1": (a // -1, lambda x: -x),
    "remainder": (a % (2**126 + 1), lambda x: x % (2**126 + 1)),
    "negated": (-a, lambda x: -x),
    "abs": (a.abs(), abs),
    "list sum": (pl.concat_list(a, a, 1).list.sum(), lambda x: 2 * x + 1),
    "list agg": (pl.concat_list(a, a).list.agg(pl.element().sum()), lambda x: 2 * x),
    "list eval": (pl.concat_list(a).list.eval(pl.element() * 3).list.get(0), lambda x: 3 * x),
    "list product": (pl.concat_list(a, 3).list.agg(pl.element().product()), lambda x: 3 * x),
    "list cum_sum": (pl.concat_list(a, a).list.eval(pl.element().cum_sum()).list.get(1), lambda x: 2 * x),
    "list diff": (pl.concat_list(a, -1).list.eval(pl.element().diff()).list.get(1), lambda x: -1 - x),
    "list when": (
        pl.concat_list(a).list.eval(pl.when(pl.element() > 5).then(pl.element() * 4).otherwise(0)).list.get(0),
        lambda x: 4 * x if x > 5 else 0,
    ),
    "struct fields": (
        pl.struct(z=a).struct.with_fields(y=pl.field("z") * 2).struct.field("y"),
        lambda x: 2 * x,
    ),
    "array sum": (pl.concat_list(a, a).cast(pl.Array(pl.Int128, 2)).arr.sum(), lambda x: 2 * x),
    "sum_horizontal": (pl.sum_horizontal(a, a, 1), lambda x: 2 * x + 1),
    "sql round": (
        pl.coalesce(*parse_sql("ROUND(a, -2)")),
        lambda x: (1 if x > 0 else -1) * ((abs(x) + 50) // 100 * 100),
    ),
    "square": (a**2, lambda x: x * x),
    "difference": (a - a + a, lambda x: x),
}
USES: dict[str, tuple[Callable[[pl.Expr], pl.Expr], Callable[[int], int]]] = {
    "* 4": (lambda e: e * 4, lambda x: 4 * x),
    "+ 2**126": (lambda e: e + 2**126, lambda x: x + 2**126),
    "0 -": (lambda e: 0 - e, lambda x: -x),
    "squared": (lambda e: e * e, lambda x: x * x),
    "(x - y) * z": (lambda e: (e - (e - 1)) * e, lambda x: x),
    "in coalesce": (lambda e: pl.coalesce(e * 2, 0), lambda x: 2 * x),
    "in a list": (lambda e: pl.concat_list(e * 2).list.get(0), lambda x: 2 * x),
    "as text": (lambda e: (e * 2).cast(pl.String).cast(pl.Int128), lambda x: 2 * x),
    "compared": (lambda e: (e * 2 > 0).cast(pl.Int128), lambda x: int(2 * x > 0)),
    "unused": (lambda e: e, lambda x: x),
}
EDGES = [
    0,
    1,
    -1,
    7,
    -7,
    2**63,
    2**125,
    -(2**125),
    2**126,
    -(2**126),
    2**126 + 2**80,
    3 * 2**125,
    LIMIT - 2**100,
    -LIMIT,
]


@pytest.mark.parametrize("kind", WRAPPED)
def test_integers_are_right_or_their_line_is_rejected_whatever_they_come_from(kind: str) -> None:
    inner, f = WRAPPED[kind]
    for use, (outer, g) in USES.items():
        rows: list[Row] = [{"a": value} for value in EDGES]
        frame = pl.DataFrame(rows, {"a": pl.Int128})
        found = Evaluator({"r": outer(inner)}, [], frame.schema).evaluate(frame)
        texts = iter(as_texts(found)["r"])
        for place, value in enumerate(EDGES):
            wanted = g(f(value))
            if place in found.failed:
                # Either some value on the way is beyond or very near to the limit, or the result is.
                assert any(abs(part) > LIMIT - 2**100 for part in (wanted, f(value), 2 * f(value), 3 * value)), (
                    use,
                    value,
                )
            else:
                assert next(texts) == str(wanted), (use, value)


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (pl.col("d").dt.month() * 100, 1200),
        (pl.col("d").dt.year() * 10**6, 2024 * 10**6),
        (pl.col("d").dt.year() ** 10, 2024**10),
        (pl.col("s").str.len_chars() - 5, -2),
        (-pl.col("s").str.len_chars(), -3),
        (pl.col("s").str.len_chars() - pl.col("d").dt.month(), -9),
        (pl.sum_horizontal(*[pl.col("d").dt.month()] * 20), 240),
        (pl.col("n").cast(pl.Int8) * pl.lit(100, dtype=pl.Int8), 10000),
        (pl.col("n").cast(pl.Int8) + pl.col("n").cast(pl.Int8), 200),
        (pl.col("n").cast(pl.UInt8) - 101, -1),
        (abs(pl.col("n").cast(pl.Int8) - 128 - 100), 128),
        (pl.col("n").cast(pl.Int8) // -1 * 2, -200),
        (pl.col("l").cast(pl.List(pl.Int64)).list.sum(), 3 * 2**62),
        (pl.col("l").cast(pl.List(pl.Int64)).list.agg(pl.element().sum()), 3 * 2**62),
        (pl.col("l").cast(pl.List(pl.Int64)).list.eval(pl.element() * 4).list.get(0), 2**64),
        (pl.col("l").list.len() - 4, -1),
        (pl.lit(2_000_000_000) * 2 + pl.col("n"), 4_000_000_100),
        ((pl.col("n") > 0) + (pl.col("n") > 1), 2),
        (pl.sql_expr("LENGTH(s) - 5"), -2),
        (pl.sql_expr("EXTRACT(month FROM d) * 100"), 1200),
        (pl.sql_expr("STRPOS(s, 'x') - 1"), -1),
        (pl.sql_expr("BIT_NOT(LENGTH(s))"), -4),
        (~pl.col("s").str.len_chars(), -4),
        (~pl.col("d").dt.month().cast(pl.UInt8), -13),
        (pl.col("s").str.len_chars() ^ -1, -4),
        (pl.col("s").str.len_chars() & (pl.col("n") * 2**64 + 2), 2),
        (pl.mean_horizontal(pl.col("n").cast(pl.Int8), pl.col("n").cast(pl.Int8)), 100),
        (pl.mean_horizontal(pl.col("n"), None, pl.col("n") * 2), 150),
        (pl.mean_horizontal(pl.col("n") > 0, pl.col("n") > 1000), 0.5),
        (pl.mean_horizontal(pl.col("n") * 2**60, pl.col("n") * 2**60), 100.0 * 2**60),
        (pl.mean_horizontal("n", pl.lit(None, pl.Int128), ignore_nulls=False), None),
        (pl.mean_horizontal(pl.lit(None, pl.Int128), pl.lit(None, pl.Int8) + pl.col("n")), None),
        (pl.col("n").clip(0, 1.5), 1.5),
        (pl.col("n").clip(100.5), 100.5),
        (pl.col("n").clip(upper_bound=99.5), 99.5),
        (pl.col("s").str.len_chars().clip(0, 1.5), 1.5),
    ],
    ids=str,
)
def test_narrow_integers_of_functions_do_not_wrap(expr: pl.Expr, value: int) -> None:
    row = {"d": dt.date(2024, 12, 1), "s": "abc", "n": 100, "l": [2**62] * 3}
    frame = pl.DataFrame([row], {"d": pl.Date, "s": pl.String, "n": pl.Int128, "l": pl.List(pl.Int128)})
    for height in (1, 3):
        found = Evaluator({"r": expr}, [], frame.schema).compute(pl.concat([frame] * height))
        assert found["r"].to_list() == [value] * height


s, t = pl.col("s"), pl.col("t")
MIXED: list[str | pl.Expr] = [
    *("s > 4.5", "s = 1", "s BETWEEN 1.5 AND 5", "s IN (1.5, 2)", "CASE s WHEN 4.5 THEN 1 END", "COALESCE(s, 0)"),
    *("COALESCE(s, 0.5)", "IFNULL(s, 1)", "CASE WHEN t THEN s ELSE 0 END", "LEAST(s, 1)", "NULLIF(s, 1)", "SQRT(s)"),
    *("ATAN2(s, 1)", "t = 's'", "s > t", "IF(t, s, 1.5)", "ROUND(s)", "s + 1", "s * 1.5", "s // 2", "a > '5'"),
    *(s.fill_null(0), s.fill_null(0.5), pl.coalesce(s, a), pl.when(t).then(s).otherwise(a), pl.sum_horizontal(s, a)),
    *(
        s.is_in([1.5]),
        pl.min_horizontal(s, a),
        pl.concat_list(s, a),
        pl.concat_list(s).list.contains(1),
        a.is_in(["1"]),
    ),
    *(pl.concat_list(s).list.concat(pl.concat_list(a)), pl.struct(z=s) == pl.struct(z=a), s.replace(1, 2), s.cbrt()),
    *(
        pl.concat_list(s) == pl.concat_list(a),
        pl.concat_list(s).list.set_union(pl.concat_list(a)),
        s + t,
        s.is_close(1),
    ),
    *(
        pl.when(t).then(a).otherwise(pl.lit("x")),
        s.replace_strict({1: 2}, default=3),
        pl.concat_list(s).list.eval(pl.element().fill_null(0)),
    ),
]


@pytest.mark.parametrize("mixed", MIXED, ids=str)
def test_text_and_numbers_are_not_mixed(mixed: str | pl.Expr) -> None:
    expr = parse_sql(mixed)[0] if isinstance(mixed, str) else mixed
    schema = {"s": pl.String(), "t": pl.Boolean(), "a": pl.Int128()}
    with pytest.raises(CalculationError, match=r"is refused: .*(text|Write TRUE)"):
        Evaluator({"r": expr}, [], schema)
    if "list" not in str(expr):
        with pytest.raises(CalculationError):
            Evaluator({}, [expr.is_null()], schema)


@pytest.mark.parametrize(
    "expr",
    [
        *(
            "s || a",
            "CONCAT(s, a)",
            "CAST(s AS DOUBLE) > 4.5",
            "TRY_CAST(s AS DOUBLE) > 1",
            "s = '1'",
            "t > 0",
            "s IN ('1')",
        ),
        *("CASE WHEN a > 1 THEN s ELSE NULL END", "COALESCE(s, '0')", "SUBSTR(s, a)"),
        *(
            s.replace_strict({"x": 1}, default=0),
            a.replace_strict({1: "x"}, default="y"),
            s.str.slice(a, 2),
            s.fill_null("0"),
        ),
        *(pl.concat_str(s, a), pl.struct(s, a), pl.when(t).then(s), s.is_in(["1"]), pl.format("{} {}", s, a)),
    ],
    ids=str,
)
def test_text_and_numbers_side_by_side_are_no_mixture(expr: str | pl.Expr) -> None:
    frame = pl.DataFrame({"s": ["1"], "t": [True], "a": [1]}, {"s": pl.String(), "t": pl.Boolean(), "a": pl.Int128()})
    Evaluator({"r": parse_sql(expr)[0] if isinstance(expr, str) else expr}, [], frame.schema).compute(frame)


@pytest.mark.parametrize("size", [70, 200])
def test_long_chains_are_checked_too(size: int) -> None:
    total = quotient = a
    for _ in range(size):
        total, quotient = total + a, quotient / 1
    frame = pl.DataFrame({"a": [1, 2**126]}, {"a": pl.Int128})
    found = Evaluator({"r": total, "q": quotient}, [], frame.schema).evaluate(frame)
    assert (as_texts(found)["r"].to_list(), as_texts(found)["q"].to_list()) == ([str(size + 1)], ["1.0"])
    assert {place: str(error) for place, error in found.failed.items()} == {1: REASON}


def test_types_are_asked_of_polars_once_for_each_function(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    collect_schema = pl.LazyFrame.collect_schema

    def count(frame: pl.LazyFrame) -> pl.Schema:
        nonlocal asked
        asked += 1
        return collect_schema(frame)

    monkeypatch.setattr(pl.LazyFrame, "collect_schema", count)
    schema = {f"c{place}": pl.Int128() for place in range(400)}
    chain = pl.col("c0")
    for place in range(1, 200):
        chain = chain + pl.col(f"c{place}") * 2 - 1
    arithmetic.with_exact_arithmetic(chain, schema)
    assert asked == 0
    for place in range(400):
        arithmetic.with_exact_arithmetic(pl.col(f"c{place}").fill_null(987) * 2, schema)
    assert asked == 1


@pytest.mark.parametrize(
    ("calculation", "kept"),
    [
        (Calculation(r=pl.when(a < 10).then(a * a).otherwise(0)), [1, 2]),
        (Calculation(r=pl.when(a > 10).then(0).otherwise(a * a)), [1, 2]),
        (Calculation(r=pl.when(a > 10).then(a * a).otherwise(a)), [1]),
        (Calculation(r=(a * a) % 7), [1]),
        (Calculation(r=(a * a).cast(pl.String)), [1]),
        (Calculation.from_sql("a * a AS r"), [1]),
        (Calculation(r=a**2), [1]),
        (Calculation(r=(a * 2).abs()), [1]),
        (Calculation(r=pl.sum_horizontal(a, a)), [1]),
        (Calculation(r=1).filter(a * a > 0), [1]),
        (Calculation(r=a * a).filter(a < 10), [1]),
        (Calculation(r=a * 1.5), [1, 2]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_only_what_matters_to_the_line_rejects_it(calculation: Calculation, kept: list[int]) -> None:
    data = lines('{"a":5,"n":1}', f'{{"a":{2**126},"n":2}}')
    outcome: Any = attempt(data, calculation.with_schema({"a": pl.Int128}))
    assert [row["n"] for row in outcome.rows] == kept
    assert set(outcome.reasons) <= {REASON}


@cache
def power(constant: float | None) -> Evaluator:
    return Evaluator({"r": f ** (g if constant is None else constant)}, [], {"f": pl.Float64(), "g": pl.Float64()})


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(-12, 12) | st.floats(-5, 5)), min_size=1, max_size=9))
@example(rows=[(0.3, 3), (1.1, 10), (7.3, 0.5)])
def test_powers_are_those_of_python_and_duckdb_to_the_last_bit(rows: list[tuple[float, float]]) -> None:
    for constant in (None, 3, 2.0, -2, 0.5, 10):
        pairs = [(x, y if constant is None else constant) for x, y in rows]
        pairs = [(abs(x), y) if y != int(y) else (x, y) for x, y in pairs if abs(x) > 1e-9]
        frame = pl.DataFrame(pairs, {"f": pl.Float64, "g": pl.Float64}, orient="row")
        wanted = [x**y for x, y in pairs]
        text = f"POWER(f, {'g' if constant is None else constant})"
        assert power(constant).compute(frame)["r"].to_list() == wanted
        assert with_sql(text, frame) == wanted
        both = "SELECT unnest(?::DOUBLE[]) AS f, unnest(?::DOUBLE[]) AS g"
        found = duckdb.execute(f"SELECT {text} FROM ({both})", [frame["f"].to_list(), frame["g"].to_list()])
        assert [row[0] for row in found.fetchall()] == wanted


@settings(max_examples=100, deadline=None)
@given(
    lists=st.lists(
        st.none() | st.lists(st.none() | INTEGERS | st.sampled_from([LIMIT - 1, -LIMIT]), max_size=6),
        min_size=1,
        max_size=4,
    )
)
@example(lists=[[2**126, 2**126, -(2**126)]])
@example(lists=[[LIMIT - 1, 1], [LIMIT - 1, LIMIT - 1, -LIMIT, -LIMIT]])
def test_sums_of_lists_are_exact_or_their_line_is_rejected(lists: list[list[int | None] | None]) -> None:
    schema = {"l": pl.List(pl.Int128())}
    texts = [None if some is None else [None if value is None else str(value) for value in some] for some in lists]
    frame = pl.DataFrame({"l": texts}, {"l": pl.List(pl.String)}).cast(schema)  # type: ignore[arg-type] # a dict
    for expr in (pl.col("l").list.sum(), pl.col("l").list.agg(pl.element().sum())):
        found = Evaluator({"r": expr}, [], schema).evaluate(frame)
        texts_found = iter(as_texts(found)["r"])
        for place, some in enumerate(lists):
            total = None if some is None else sum(value for value in some if value is not None)
            if place in found.failed:
                assert total is not None
                assert abs(total) > LIMIT - 2**105
            else:
                assert next(texts_found) == ("null" if total is None else str(total))


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (2**a, "an integer has no integer as its negative power"),
        (pl.int_ranges(0, -a * 10**9), "a range of more than 10,000,000 values"),
        (pl.concat_list(a).list.eval(2 ** pl.element()), "an integer has no integer as its negative power"),
        (pl.mean_horizontal(a * -(2**126), a * -(2**126)), "integer arithmetic goes beyond Int128"),
        (a * -(2**127 - 1) + a, "integer arithmetic goes beyond Int128"),
    ],
    ids=str,
)
def test_the_reason_says_what_a_line_is_rejected_for(expr: pl.Expr, reason: str) -> None:
    frame = pl.DataFrame({"a": [0, -2, None]}, {"a": pl.Int128})
    found = Evaluator({"r": expr}, [], frame.schema).evaluate(frame)
    assert list(found.failed) == [1]
    assert str(found.failed[1]).startswith(f"the calculation failed: {reason}")


@pytest.mark.parametrize(
    "expr",
    [
        pl.concat_list(a, a).list.eval(pl.element().rolling_sum(2)),
        a.round_sig_figs(2),
        *parse_sql("ROUND(CAST(a AS DECIMAL(10, 2)), -1)"),
    ],
    ids=str,
)
def test_what_polars_computes_wrongly_of_integers_and_decimals_is_refused(expr: pl.Expr) -> None:
    with pytest.raises(CalculationError, match=r"takes .*CAST|takes .*cast"):
        Evaluator({"r": expr}, [], SCHEMA)


@pytest.mark.parametrize("zero", [0, 0.0, b - b], ids=str)
def test_division_by_zero_is_null_at_the_limits_too(zero: Any) -> None:
    frame = pl.DataFrame({"a": [LIMIT - 1, -LIMIT, 5], "b": [1, 2, 3]}, {"a": pl.Int128, "b": pl.Int128})
    found = Evaluator({"r": a // zero, "q": a % zero}, [], frame.schema).evaluate(frame)
    assert (as_texts(found)["r"].to_list(), as_texts(found)["q"].to_list(), found.failed) == (
        [*["null"] * 3],
        ["null"] * 3,
        {},
    )


def test_what_polars_cannot_compute_for_any_line_is_an_error_of_the_calculation() -> None:
    with pytest.raises(CalculationError, match="`r` cannot be computed, whatever the line: conversion from"):
        Evaluator({"r": parse_sql("GENERATE_SERIES(a, 9223372036854775807)")[0]}, [], SCHEMA)


@pytest.mark.parametrize("text", ["RANGE(a, 9223372036854775807)", "GENERATE_SERIES(a, 9223372036854775)"])
def test_ranges_too_long_for_memory_are_not_tried(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"a": [0, 9223372036854770]}, {"a": pl.Int128})
    found = Evaluator({"r": parse_sql(text)[0]}, [], frame.schema).evaluate(frame)
    assert 0 in found.failed
    assert len(as_texts(found)) == (1 if "SERIES" in text else 0)
    assert capfd.readouterr() == ("", "")


LENGTHENING = [
    pl.lit("x").str.pad_start,
    pl.lit("x").str.pad_end,
    lambda length: pl.concat_list(pl.lit("x").str.pad_end(length)).list.get(0),
    lambda length: pl.lit("x").repeat_by(length).list.join(""),
]


@pytest.mark.parametrize("lengthened", LENGTHENING)
@pytest.mark.parametrize("length", [a, a.cast(pl.Float64), a * 1])
def test_results_too_long_for_memory_are_not_tried(lengthened: Callable[[pl.Expr], pl.Expr], length: pl.Expr) -> None:
    frame = pl.DataFrame({"a": [2, 10**12, 3, None]}, {"a": pl.Int128})
    found = Evaluator({"r": lengthened(length).str.len_chars()}, [], frame.schema).evaluate(frame)
    assert as_texts(found)["r"].to_list() == ["2", "3", "null"]
    reason = "a text is padded, or a value is repeated, to a length of more than 10,000,000"
    assert [str(error) for error in found.failed.values()] == [f"the calculation failed: {reason}"]
    assert list(found.failed) == [1]


@pytest.mark.parametrize("length", ["1000000000000", "1000000 * 1000000", "a * 0 + 1000000000000"])
def test_a_constant_length_too_long_for_memory_is_not_tried(length: str) -> None:
    frame = pl.DataFrame({"a": [1]}, {"a": pl.Int128})
    found = Evaluator({"r": parse_sql(f"LENGTH(LPAD('a', {length}, '0'))")[0]}, [], frame.schema).evaluate(frame)
    assert list(found.failed) == [0]


@pytest.mark.parametrize("lengthened", LENGTHENING)
def test_checks_compute_short_results_where_a_length_wraps_around(lengthened: Callable[[pl.Expr], pl.Expr]) -> None:
    checked = arithmetic.without_negation(lengthened(a.cast(pl.UInt8) - 3))
    (text,) = pl.DataFrame({"a": [1]}, {"a": pl.Int128}).select(checked).to_series()
    assert len(text) < 10  # 254 otherwise, and 4 billion for LENGTH(s) - 3


@pytest.mark.parametrize(
    ("text", "value"), [("GENERATE_SERIES(1, LENGTH(s))", "[1,2]"), ("LENGTH(LPAD(s, LENGTH(s) - 3, '0'))", "0")]
)
def test_a_length_is_taken_as_a_limit(text: str, value: str) -> None:
    frame = pl.DataFrame({"s": ["ab"]})
    assert as_texts(Evaluator({"r": parse_sql(text)[0]}, [], frame.schema).evaluate(frame))["r"].to_list() == [value]
