"""A plan takes a chunk through its stages, one after the other, and does the same in another process."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import polars as pl
import pytest

from transform import CalculationError, WidenError
from transform.decode.schema import Column
from transform.engine.plan import ExpressionPlan
from transform.engine.projection import Projection
from transform.io.chunks import Chunk, LongLine

if TYPE_CHECKING:
    from transform.decode.rejects import ChunkResult

INT = {"a": Column(pl.Int64())}
MAX_LINE_BYTES = 100
OFFSET = 1000
HUGE = 2**126


def plan(*filters: pl.Expr, columns: dict[str, Column] = INT, **options: Any) -> ExpressionPlan:
    return ExpressionPlan({"b": pl.col("a") + 1}, filters, columns, MAX_LINE_BYTES, **options)


def chunk(*lines: str) -> Chunk:
    return Chunk(memoryview(bytearray("".join(f"{line}\n" for line in lines).encode())), OFFSET)


def plain(result: ChunkResult) -> tuple[Any, ...]:
    """Return a result as plain data."""
    output = b"".join(result.output).decode()
    rejects = [(reject.line, reject.offset, reject.kind, reject.raw) for reject in result.rejects]
    counts = (result.lines, result.kept, result.filtered, result.blank, result.nonfinite)
    return output, rejects, counts, result.stop


MIXED = chunk('{"a":1}', "", '{"a":"x"}', '{ "a" : 3, "b":0 }', "no", '{"c":null}', " \t\r", '{"a":9}')
MIXED_OUTPUT = '{"a":1,"b":2}\n{ "a" : 3, "b":4 }\n{"c":null,"b":null}\n'


def test_a_chunk_becomes_its_output_its_rejects_and_their_numbers() -> None:
    output, rejects, counts, stop = plain(plan(pl.col("a").fill_null(0) < 9).transform(MIXED))
    assert output == MIXED_OUTPUT
    assert rejects == [
        (2, OFFSET + 9, "column `a`: expected an integer, found a string", b'{"a":"x"}'),
        (4, OFFSET + 38, "not valid JSON", b"no"),
    ]
    assert counts == (8, 3, 1, 2, {})
    assert stop == OFFSET + len(MIXED.data)


def test_the_stages_one_by_one_are_the_whole() -> None:
    made = plan(pl.col("a") > 1)
    decoded = made.decode(MIXED)
    assert decoded.lines.tolist() == [0, 3, 5, 7]
    assert decoded.frame["a"].to_list() == [1, 3, None, 9]
    found = made.evaluate(MIXED, decoded)
    assert found.decoded is decoded, "it is not decoded again"
    assert found.kept_lines.tolist() == [3, 7]
    assert found.evaluated.results["b"].to_list() == [4, 10]
    assert plain(made.splice(found)) == plain(made.splice(made.evaluate(MIXED))) == plain(made.transform(MIXED))


def test_lines_that_fail_are_rejected_among_those_without_a_row() -> None:
    products = ExpressionPlan({"b": pl.col("a") * 4}, (), {"a": Column(pl.Int128())}, 1000)
    lines = ["no", f'{{"a":{HUGE}}}', '{"a":1}', "[]", f'{{"a":-{HUGE}}}', "no", '{"a":2}']
    found = products.evaluate(chunk(*lines))
    assert [reject.line for reject in found.rejects] == [0, 1, 3, 4, 5]
    assert [reject.line for reject in found.decoded.rejects] == [0, 3, 5], "nothing was added to what was decoded"
    output, rejects, counts, _ = plain(products.splice(found))
    assert output == '{"a":1,"b":4}\n{"a":2,"b":8}\n'
    assert [raw.decode() for *_, raw in rejects] == [lines[line] for line, *_ in rejects]
    assert [kind for _, _, kind, _ in rejects].count("the calculation failed") == 1 + 1
    assert counts == (7, 2, 0, 0, {})


def test_a_line_over_the_limit_is_a_reject_and_nothing_else() -> None:
    result = plan().transform(LongLine(b"{", 500, 30, 531))
    assert plain(result) == ("", [(0, 30, "longer than 100 bytes", b"{")], (1, 0, 0, 0, {}), 531)
    assert result.rejects[0].length == 500


@pytest.mark.parametrize(
    ("projection", "expected"),
    [
        (Projection(), '{"a":1,"b":2,"c":3}'),
        (Projection(drop=frozenset("bc")), '{"a":1,"b":2}'),
        (Projection(select=frozenset("c")), '{"c":3,"b":2}'),
        (Projection(select=frozenset()), '{"b":2}'),
    ],
)
def test_members_that_do_not_stay_are_read_all_the_same(projection: Projection, expected: str) -> None:
    result = plan(projection=projection).transform(chunk('{"a":1,"b":0,"c":3}'))
    assert b"".join(result.output).decode() == f"{expected}\n"


def test_values_are_those_of_the_rows_that_stay() -> None:
    made = plan(pl.col("a") != 3)
    values = made.values(made.evaluate(MIXED), 5)
    assert values.to_dict(as_series=False) == {"a": [1, 9], "b": [2, 10]}
    assert made.values(made.evaluate(MIXED), 1).to_dict(as_series=False) == {"a": [1], "b": [2]}
    assert made.empty_values().schema == values.schema == {"a": pl.Int128, "b": pl.Int128}
    assert made.empty_values().height == 0
    assert made.result_types == {"b": pl.Int128}


def test_a_float_where_integers_were_inferred_is_no_result() -> None:
    made = plan(columns={"a": Column(pl.Int128(), inferred=True)})
    for stage in (made.decode, made.evaluate, made.transform):
        with pytest.raises(WidenError) as caught:
            stage(chunk('{"a":1}', '{"a":1.5}'))
        assert (caught.value.name, caught.value.dtype) == ("a", pl.Float64)


def test_the_schema_says_where_a_type_comes_from() -> None:
    columns = {"a": Column(pl.Int128(), inferred=True), "c": Column(pl.String())}
    made = ExpressionPlan({"b": pl.col("a"), "d": pl.col("c")}, (), columns, MAX_LINE_BYTES)
    assert made.describe_schema() == {"a": ("Int128", "inferred"), "c": ("String", "declared")}


def test_what_does_not_fit_the_types_is_refused_when_the_plan_is_made() -> None:
    with pytest.raises(CalculationError):
        ExpressionPlan({"b": pl.col("a").str.len_chars()}, (), INT, MAX_LINE_BYTES)
    with pytest.raises(CalculationError, match="not true or false"):
        plan(pl.col("a") + 1)


OPTIONS: list[dict[str, Any]] = [{}, {"projection": Projection(drop=frozenset("a"))}, {"pure": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_plan_travels_with_all_that_it_was_made_from(options: dict[str, Any]) -> None:
    made = plan(pl.col("a") < 9, **options)
    again = pickle.loads(pickle.dumps(made))
    assert again is not made
    assert plain(again.transform(MIXED)) == plain(made.transform(MIXED))
    long_line = LongLine(b"{", 500, 30, 531)
    assert plain(again.transform(long_line)) == plain(made.transform(long_line))
    assert again.describe_schema() == made.describe_schema()
    twice = pickle.loads(pickle.dumps(again))
    assert plain(twice.transform(MIXED)) == plain(made.transform(MIXED))


def test_a_plan_with_a_function_travels_by_value() -> None:
    amounts = [2, 3]

    def total(value: int) -> int:
        for amount in amounts:
            value += amount
        return value

    expr = pl.col("a").map_elements(total, return_dtype=pl.Int64)
    made = ExpressionPlan({"b": expr}, (), INT, MAX_LINE_BYTES, pure=True)
    again = pickle.loads(cloudpickle.dumps(made))
    assert b"".join(again.transform(chunk('{"a":1}')).output) == b'{"a":1,"b":6}\n'
