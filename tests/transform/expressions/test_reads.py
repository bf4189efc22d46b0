"""Expressions are bound to the members that they name, and mean on the columns of these what they mean on the line."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_series_equal

from tests.support.typed import typed
from transform import Calculation, CalculationError
from transform.decode.schema import Read, Use
from transform.expressions.reads import bind

a, items = pl.col("a"), pl.col("items")
b, c = a.struct.field("b"), a.struct.field("b").struct.field("c")
price, count = (pl.element().struct.field(name) for name in ("price", "count"))
C = ("a", "b", "c")
PRICES = frozenset([("price",)])
READS: dict[str, tuple[pl.Expr, dict[str, Read]]] = {
    "column": (a + 1, {"a": Read(("a",))}),
    "typed": (typed("a"), {"a": Read(("a",))}),
    "path": (c + 1, {"a.b.c": Read(("a", "b", "c"))}),
    "two paths": (c + a.struct.field("d"), {"a.b.c": Read(("a", "b", "c")), "a.d": Read(("a", "d"))}),
    "path within a whole": (pl.struct(c, b), {"a.b": Read(("a", "b"))}),
    "presence": (c.is_null(), {"a.b.c": Read(("a", "b", "c"), Use.PRESENCE)}),
    "presence of a value": (c.is_null() | (c > 1), {"a.b.c": Read(("a", "b", "c"))}),
    "length": (items.list.len(), {"items": Read(("items",), elements=frozenset())}),
    "elements": (items.list.eval(price * 2), {"items": Read(("items",), elements=PRICES)}),
    "length and elements": (
        items.list.eval(price * 2).list.len() + items.list.len(),
        {"items": Read(("items",), elements=PRICES)},
    ),
    "two of the elements": (
        items.list.eval(price * count),
        {"items": Read(("items",), elements=PRICES | {("count",)})},
    ),
    "whole elements": (items.list.eval(pl.element().filter(price > 1)), {"items": Read(("items",))}),
    "element": (items.list.get(0), {"items": Read(("items",))}),
    "first element": (items.list.first(), {"items": Read(("items",))}),
    "member of an element": (
        items.list.get(pl.col("i")).struct.field("price"),
        {"items": Read(("items",), elements=PRICES), "i": Read(("i",))},
    ),
    "fields": (a.struct.with_fields(pl.field("b")), {"a": Read(("a",))}),
    "encoded": (b.struct.json_encode(), {"a.b": Read(("a", "b"))}),
    "literal": (pl.lit("a"), {}),
}


@pytest.mark.parametrize("name", READS)
def test_only_what_is_named_is_read(name: str) -> None:
    expr, reads = READS[name]
    bound = bind({"r": expr}, [])
    assert bound.reads == reads
    assert bound.unchanged == {}
    assert bind({}, [expr]).reads == reads, "and likewise by a filter"


@pytest.mark.parametrize(
    ("expr", "path"),
    [
        (a, ("a",)),
        (a.alias("x"), ("a",)),
        (a.name.suffix("_"), ("a",)),
        (c, ("a", "b", "c")),
        (c.alias("x"), ("a", "b", "c")),
    ],
    ids=str,
)
def test_a_bare_column_or_path_is_the_member_as_it_is(expr: pl.Expr, path: tuple[str, ...]) -> None:
    bound = bind({"r": expr}, [])
    assert (bound.results, bound.unchanged) == ({}, {"r": path})
    assert bound.reads == {".".join(path): Read(path, Use.BYTES)}
    assert bind({"r": expr}, [expr == 1]).reads == {".".join(path): Read(path)}


def test_a_column_whose_name_has_a_dot_is_another_one_than_the_path() -> None:
    bound = bind({"r": pl.col("a.b") + b}, [])
    assert bound.reads == {"a.b": Read(("a.b",)), '"a"."b"': Read(("a", "b"))}


ROWS: list[dict[str, Any]] = [
    {"a": {"b": {"c": 1, "e": 2}, "d": 5}, "items": [{"price": 2, "count": 3}, None], "i": 0},
    {"a": {"b": None, "d": None}, "items": [], "i": None},
    {"a": None, "items": None, "i": 0},
    {"a": {"b": {"c": None, "e": 3}, "d": 1}, "items": [{"price": None, "count": 1}] * 2, "i": 1},
]
MEANINGS = {
    **{name: c_ for name, (c_, _) in READS.items() if name not in ("column", "member of an element", "element")},
    "computed": pl.when(c > 0).then(c * 2).otherwise(a.struct.field("d")),
    "mixed": c.is_null() & items.list.eval(price.is_null()).list.any() | (a.struct.field("d") > 1),
    "got": items.list.get(pl.col("i"), null_on_oob=True).struct.field("price") * 2,
}


@pytest.mark.parametrize("name", MEANINGS)
def test_on_its_columns_an_expression_means_what_it_means_on_the_line(name: str) -> None:
    expr = MEANINGS[name]
    frame = pl.DataFrame(ROWS)
    bound = bind({"r": expr}, [])
    columns = {}
    for column, read in bound.reads.items():
        values = [value_at(row, read.path) for row in ROWS]
        columns[column] = pl.Series(column, values)
    found = pl.DataFrame(columns).select(bound.results["r"].alias("r"))["r"]
    assert_series_equal(found, frame.select(expr.alias("r"))["r"])


def value_at(row: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        row = None if row is None else row[name]
    return row


def test_what_is_nested_too_deeply_is_refused_in_a_line() -> None:
    text = " OR ".join(f"n = {number}" for number in range(300)) + " AS r"
    with pytest.raises(CalculationError, match="nested too deeply"):
        Calculation.from_sql(text).run(io.BytesIO(b'{"n":1}'), io.BytesIO())
