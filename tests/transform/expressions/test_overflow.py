"""Arithmetic of integers: exact, or the line is rejected; never wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trial import attempt, lines
from transform import Calculation

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 2**127
SCHEMA = {"a": pl.Int128, "b": pl.Int64}
a, b = pl.col("a"), pl.col("b")
REASON = "the calculation failed: integer arithmetic goes beyond Int128"

Pair = tuple[pl.Expr, "Callable[[int, int], int]"]
leaves: st.SearchStrategy[Pair] = st.sampled_from(
    [(a, lambda x, _: x), (b, lambda _, y: y), (pl.lit(3), lambda *_: 3), (-a, lambda x, _: -x)]
)


def combined(parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def combine(one: Pair, other: Pair, sign: str) -> Pair:
        (left, f), (right, g) = one, other
        if sign == "+":
            return left + right, lambda x, y: f(x, y) + g(x, y)
        if sign == "-":
            return left - right, lambda x, y: f(x, y) - g(x, y)
        return left * right, lambda x, y: f(x, y) * g(x, y)

    return st.builds(combine, parts, parts, st.sampled_from("+-**"))


wide = st.integers(-(2**127), 2**127 - 1) | st.integers(-(2**70), 2**70) | st.integers(-9, 9)
narrow = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)


@settings(max_examples=150, deadline=None)
@given(
    pair=st.recursive(leaves, combined, max_leaves=4),
    rows=st.lists(st.tuples(wide, narrow), min_size=1, max_size=8),
)
def test_a_polynomial_is_exact_or_its_line_is_rejected(pair: Pair, rows: list[tuple[int, int]]) -> None:
    expr, exactly = pair
    expected = [exactly(x, y) for x, y in rows]
    # Within a few units in the sixteenth place of the limit either answer is one.
    if any(abs(abs(value) - LIMIT) < 2**80 for value in expected):
        return
    data = lines('{"a":1,"b":1}', *(f'{{"a":{x},"b":{y}}}' for x, y in rows))
    calculation = Calculation(r=expr)
    outcome = attempt(data, calculation.with_schema({name: SCHEMA[name] for name in calculation.columns}))
    assert [row["r"] for row in outcome.rows][1:] == [value for value in expected if abs(value) < LIMIT]
    assert outcome.reasons == [REASON for value in expected if abs(value) >= LIMIT]


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
