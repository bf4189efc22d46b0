"""Types, declared and inferred: what a column takes, what it refuses and in which words, and how results are spelled.

Each part follows a row of the table of what a calculation means. What is expected is worked out with Python's own
integers and floats, which are exact and IEEE doubles, or written down.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import json
import math
import re
import shlex
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from tests.support.trial import attempt, column, lines, refusal
from tests.support.tuned import Tuned
from tests.support.typed import typed
from transform import Calculation, CalculationError, CalculationsByPrefix, LineFunction, RejectedError, SchemaError
from transform.decode.columns import to_frame
from transform.decode.inference import SampleSize
from transform.decode.schema import Column, parse_type
from transform.explore.check import check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

v = pl.col("v")
COPY = Calculation(r=typed("v"))
"""The values of a column as its type has them."""
SAMPLE_LINES = 1000
INT128_MIN, INT128_MAX = -(2**127), 2**127 - 1
BOUNDS: dict[type[pl.DataType], tuple[int, int]] = {
    pl.Int8: (-128, 127),
    pl.Int16: (-32_768, 32_767),
    pl.Int32: (-2_147_483_648, 2_147_483_647),
    pl.Int64: (-9_223_372_036_854_775_808, 9_223_372_036_854_775_807),
    pl.Int128: (INT128_MIN, INT128_MAX),
    pl.UInt8: (0, 255),
    pl.UInt16: (0, 65_535),
    pl.UInt32: (0, 4_294_967_295),
    pl.UInt64: (0, 18_446_744_073_709_551_615),
}
WIDTHS = pytest.mark.parametrize("width", BOUNDS, ids=lambda width: width.__name__)
HUGE = "1" + "0" * 5000
"""More digits than Python converts without being asked to."""
TYPES = (
    "Types are Float64, String, Boolean, Int8 to Int128, UInt8 to UInt64, List(…), Struct({…}), and json for the text "
    "of a value of any kind."
)


def declared(dtype: object, calculation: Calculation = COPY) -> Calculation:
    return calculation.with_schema({"v": dtype})


# --- integers ------------------------------------------------------------------------------------------------------


@WIDTHS
def test_declared_integer_takes_what_is_within_its_bounds(width: type[pl.DataType]) -> None:
    least, most = BOUNDS[width]
    values = [least, least + 1, 0, None, 1, most - 1, most]
    outcome = attempt(column(values), declared(width))
    assert outcome.values() == values
    assert outcome.summary.rejected == 0
    assert outcome.summary.schema == {"v": (width.__name__, "declared")}


@WIDTHS
def test_declared_integer_rejects_what_is_past_its_bounds(width: type[pl.DataType]) -> None:
    least, most = BOUNDS[width]
    past = [least - 1, most + 1, most * 10 + 9, least - 2**130]
    outcome = attempt(column([past[0], 1, past[1], *past[2:], most]), declared(width))
    assert outcome.values() == [1, most]
    texts = [str(value) if len(str(value)) <= 40 else f"{str(value)[:39]}…" for value in past]
    assert outcome.reasons == [f"column `v`: out of range for {width.__name__}: {text}" for text in texts]
    assert outcome.summary.reject_reasons.keys() == {f"column `v`: out of range for {width.__name__}"}


NESTS: dict[str, tuple[Callable[[type[pl.DataType]], pl.DataType], str]] = {
    "array": (pl.List, "[0,{}]"),
    "object": (lambda width: pl.Struct({"x": width}), '{{"x":{}}}'),
    "array of objects": (lambda width: pl.List(pl.Struct({"x": width})), '[{{"x":{}}}]'),
}


@pytest.mark.parametrize("nest", NESTS)
@WIDTHS
def test_bounds_hold_within_arrays_and_objects(width: type[pl.DataType], nest: str) -> None:
    least, most = BOUNDS[width]
    dtype, wrap = NESTS[nest][0](width), NESTS[nest][1]
    texts = [wrap.format(value) for value in (least, most, least - 1, most + 1)]
    outcome = attempt(lines(*(f'{{"v":{text}}}' for text in texts)), declared(dtype))
    assert outcome.values() == [json.loads(text) for text in texts[:2]]
    assert [reject["line"] for reject in outcome.rejects] == [3, 4]
    assert all(reason.startswith(f"column `v`: out of range for {dtype}: ") for reason in outcome.reasons)


def test_reason_shows_the_value_out_of_range_as_it_is_written() -> None:
    outcome = attempt(lines('{"v":{"x":1}}', f'{{"v":{{"x":{2**200}}}}}'), COPY)
    assert outcome.reasons[0].startswith("""column `v`: out of range for Struct({'x': Int128}): {"x":1606""")


@WIDTHS
def test_declared_integer_is_evaluated_as_int128(width: type[pl.DataType]) -> None:
    most = min(BOUNDS[width][1], 2**42)  # whose cube is within Int128, and far out of the declared width's range
    outcome = attempt(column([most, 3]), declared(width, Calculation(r=v * v * v, s=v + v - v)))
    assert outcome.values() == [most**3, 27]
    assert outcome.values("s") == [most, 3]


@pytest.mark.parametrize("dtype", [None, pl.Int64, pl.Int128], ids=str)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(*BOUNDS[pl.Int64])] * 2), min_size=1, max_size=20))
def test_products_of_two_64_bit_columns_are_exact(
    dtype: type[pl.DataType] | None, pairs: list[tuple[int, int]]
) -> None:
    least, most = BOUNDS[pl.Int64]
    pairs = [*pairs, (least, least), (least, most), (most, most)]
    calculation = Calculation.from_sql("v * w AS r")
    if dtype:
        calculation = calculation.with_schema({"v": dtype, "w": dtype})
    outcome = attempt(lines(*(f'{{"v":{one},"w":{other}}}' for one, other in pairs)), calculation)
    assert outcome.values() == [one * other for one, other in pairs]


BEYOND: dict[str, tuple[pl.Expr, Callable[[int], int]]] = {
    "product": (v * v, lambda n: n * n),
    "sum": (v + v * 1000, lambda n: n + n * 1000),
    "difference": (0 - v - v * 1000, lambda n: -n - n * 1000),
    "power": (v**3, lambda n: n**3),
    "horizontal sum": (pl.sum_horizontal(v, v), lambda n: n + n),
}


@pytest.mark.parametrize("dtype", [pl.UInt64, pl.Int128], ids=str)
@pytest.mark.parametrize(("expr", "exact"), BEYOND.values(), ids=BEYOND)
def test_result_beyond_int128_is_never_wrapped(
    expr: pl.Expr, exact: Callable[[int], int], dtype: type[pl.DataType]
) -> None:
    most = BOUNDS[dtype][1]
    outcome = attempt(column([2, most]), declared(dtype, Calculation(r=expr)))
    expected = [exact(number) for number in (2, most) if INT128_MIN <= exact(number) <= INT128_MAX]
    assert outcome.values() == expected
    assert outcome.summary.rejected == 2 - len(expected)


@pytest.mark.parametrize("dtype", [None, pl.Int128], ids=str)
def test_values_beyond_int128_are_rejected(dtype: type[pl.DataType] | None) -> None:
    data = lines(*(f'{{"v":{text}}}' for text in (INT128_MAX + 1, 7, INT128_MIN - 1, HUGE, INT128_MAX, INT128_MIN)))
    outcome = attempt(data, declared(dtype) if dtype else COPY)
    assert outcome.values() == [7, INT128_MAX, INT128_MIN]
    assert outcome.reasons == [
        f"column `v`: out of range for Int128: {INT128_MAX + 1}",
        f"column `v`: out of range for Int128: {INT128_MIN - 1}",
        f"column `v`: out of range for Int128: {HUGE[:39]}…",
    ]
    assert [reject["line"] for reject in outcome.rejects] == [1, 3, 4]
    assert outcome.rejects[2]["raw"] == f'{{"v":{HUGE}}}'
    assert outcome.summary.schema == {"v": ("Int128", "declared" if dtype else "inferred")}


@pytest.mark.parametrize("text", ["3.0", "1E2", "1e0", "-0.0", "2.5"])
def test_float_is_rejected_in_a_declared_integer_column(text: str) -> None:
    outcome = attempt(lines('{"v":3}', f'{{"v":{text}}}'), declared(pl.Int64))
    assert outcome.output == b'{"v":3,"r":3}\n'
    assert outcome.reasons == [f"column `v`: expected an integer, found a float: {text}"]


def test_minus_zero_is_the_integer_zero() -> None:
    assert attempt(b'{"v":-0}\n', COPY).output == b'{"v":-0,"r":0}\n'


@pytest.mark.parametrize("dtype", [None, pl.Int64], ids=str)
def test_integers_can_be_negated(dtype: type[pl.DataType] | None) -> None:
    calculation = Calculation(r=-v)
    assert attempt(column([5, -7]), declared(dtype, calculation) if dtype else calculation).values() == [-5, 7]


# --- floats --------------------------------------------------------------------------------------------------------


FLOATS = [
    "1.5",
    "1E2",
    "-2.5e-3",
    "-0.0",
    "1e-999",
    "5e-324",
    "1.7976931348623157e308",
    "0.1",
    str(2**53 + 1),
    "10" * 15,
]


@pytest.mark.parametrize("dtype", [None, pl.Float64], ids=str)
def test_floats_are_ieee_doubles_however_they_are_spelled(dtype: type[pl.DataType] | None) -> None:
    outcome = attempt(lines(*(f'{{"v":{text}}}' for text in FLOATS)), declared(dtype) if dtype else COPY)
    assert [math.copysign(1, value) for value in outcome.values()] == [math.copysign(1, float(text)) for text in FLOATS]
    assert outcome.values() == [float(text) for text in FLOATS]
    assert all(type(value) is float for value in outcome.values()), "also where the column holds integers"
    assert outcome.summary.schema == {"v": ("Float64", "declared" if dtype else "inferred")}


@pytest.mark.parametrize("dtype", [None, pl.Float64], ids=str)
@pytest.mark.parametrize("text", ["1e999", "-1e999", "1E400", "9" * 400, HUGE])
def test_float_that_is_no_double_is_rejected(dtype: type[pl.DataType] | None, text: str) -> None:
    outcome = attempt(lines('{"v":1.5}', f'{{"v":{text}}}', '{"v":2}'), declared(dtype) if dtype else COPY)
    assert outcome.values() == [1.5, 2.0]
    shown = text if len(text) <= 40 else f"{text[:39]}…"
    assert outcome.reasons == [f"column `v`: out of range for Float64: {shown}"]


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (pl.List(pl.Float64), "[1.5]", "[1e999]"),
        (pl.Struct({"x": pl.Float64}), '{"x":1.5}', '{"x":-1e999}'),
        (pl.List(pl.Struct({"x": pl.Float64})), '[{"x":1.5}]', '[{"x":2},{"x":1e999}]'),
    ],
    ids=str,
)
@pytest.mark.parametrize("infer", [True, False])
def test_float_that_is_no_double_is_rejected_within_arrays_and_objects(
    dtype: pl.DataType, good: str, bad: str, *, infer: bool
) -> None:
    outcome = attempt(lines(f'{{"v":{good}}}', f'{{"v":{bad}}}'), COPY if infer else declared(dtype))
    assert outcome.values() == [json.loads(good)]
    assert outcome.reasons == [f"column `v`: out of range for {dtype}: {bad}"]


def test_numbers_out_of_range_matter_in_a_column_that_is_read_only() -> None:
    line = f'{{"v":1,"w":1e999,"x":{HUGE},"y":[1E400]}}'
    outcome = attempt(lines(line), COPY)
    assert outcome.output == lines(line.removesuffix("}") + ',"r":1}')


# --- a float in a column inferred as integer -----------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, SAMPLE_LINES, SAMPLE_LINES + 1, 5000])
def test_one_float_makes_the_whole_column_float(at: int) -> None:
    texts = [str(2**53 + 1 + number) for number in range(5000)]
    texts[at - 1] = "0.5"
    data = lines(*(f'{{"v":{text}}}' for text in texts))
    outcome = attempt(data, Calculation(r=v * 2))
    assert outcome.values() == [float(text) * 2 for text in texts]
    assert outcome.summary.schema == {"v": ("Float64", "inferred")}
    assert outcome.summary.lines_in == outcome.summary.lines_out == 5000, "lines of an attempt given up don't count"
    assert outcome.output == attempt(data, declared(pl.Float64, Calculation(r=v * 2))).output


@pytest.mark.parametrize(
    ("integers", "floats", "dtype"),
    [
        ("[1,null]", "[1.5]", pl.List(pl.Float64)),
        ('{"x":1}', '{"x":1E2}', pl.Struct({"x": pl.Float64})),
        ('{"x":1,"y":2}', '{"x":3,"y":0.5}', pl.Struct({"x": pl.Int128, "y": pl.Float64})),
        ('[{"x":[1]}]', '[{"x":[1.5]}]', pl.List(pl.Struct({"x": pl.List(pl.Float64)}))),
        ("[[1],[]]", "[[2,2.5]]", pl.List(pl.List(pl.Float64))),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [SAMPLE_LINES - 1, SAMPLE_LINES, 1500])
def test_float_past_the_sample_gives_what_it_gives_within(
    integers: str, floats: str, dtype: pl.DataType, before: int
) -> None:
    late = lines(*[f'{{"v":{integers}}}'] * before, f'{{"v":{floats}}}', f'{{"v":{integers}}}')
    early = lines(f'{{"v":{floats}}}')
    found, shown = attempt(late, COPY), attempt(early + late, COPY)
    assert found.summary.schema == {"v": (str(dtype), "inferred")}
    assert shown.output.endswith(found.output)
    assert shown.output.count(b"\n") == found.output.count(b"\n") + 1
    assert found.output == attempt(late, declared(dtype)).output


def test_each_column_turns_float_when_it_has_to() -> None:
    data = lines(*['{"v":1,"w":1,"x":1}'] * 1200, '{"v":1,"w":2.5,"x":1}', '{"v":0.5,"w":1,"x":1}')
    outcome = attempt(data, Calculation(r=typed("v"), s=typed("w"), t=typed("x")))
    assert {name: dtype for name, (dtype, _) in outcome.summary.schema.items()} == {
        "v": "Float64",
        "w": "Float64",
        "x": "Int128",
    }
    assert outcome.output.splitlines()[-2:] == [
        b'{"v":1,"w":2.5,"x":1,"r":1.0,"s":2.5,"t":1}',
        b'{"v":0.5,"w":1,"x":1,"r":0.5,"s":1.0,"t":1}',
    ]


def test_starting_again_counts_and_keeps_the_rejected_lines_once() -> None:
    data = lines(*['{"v":1}'] * 1100, "nope", '{"v":"x"}', *['{"v":2}'] * 1100, '{"v":2.5}', '{"v":true}')
    outcome = attempt(data, COPY, chunk_bytes=512)
    assert [reject["line"] for reject in outcome.rejects] == [1101, 1102, 2204]
    assert outcome.summary.rejected == 3
    assert outcome.summary.lines_in == 2204
    assert outcome.values() == [1.0] * 1100 + [2.0] * 1100 + [2.5]


@pytest.mark.parametrize(
    ("integers", "floats", "dtype"),
    [("1", "1.5", "Float64"), ("[1]", "[1.5]", "List(Float64)"), ('{"x":1}', '{"x":1.5}', "Struct({'x': Float64})")],
)
def test_pipe_cannot_start_again_and_says_what_to_declare(
    tmp_path: Path, integers: str, floats: str, dtype: str
) -> None:
    early = lines(*[f'{{"v":{integers}}}'] * SAMPLE_LINES)
    data, target = early + lines(f'{{"v":{floats}}}'), tmp_path / "out.jsonl"
    with pytest.raises(SchemaError) as caught:
        COPY.run(io.BytesIO(data), target)
    assert "column `v` was inferred as integer" in str(caught.value)
    assert f"the line at offset {len(early)} holds a float" in str(caught.value)
    assert "pipe" in str(caught.value)
    assert "--schema " in str(caught.value)
    assert f".with_schema({{'v': pl.{dtype}}})" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    # Done as it says, it works.
    declared(parse_type("v", dtype)).run(io.BytesIO(data), target)
    assert target.read_bytes() == attempt(data, COPY).output


@pytest.mark.parametrize(
    ("integers", "floats", "dtype"),
    [("1", "1.5", "Float64"), ('{"x":1}', '{"x":1.5}', "Struct({'x': Float64})")],
)
def test_declaration_can_be_pasted_into_a_shell(integers: str, floats: str, dtype: str) -> None:
    data = lines(*[f'{{"v":{integers}}}'] * SAMPLE_LINES, f'{{"v":{floats}}}')
    with pytest.raises(SchemaError) as caught:
        COPY.run(io.BytesIO(data), io.BytesIO())
    _, _, advice = str(caught.value).partition("--schema ")
    assert shlex.split(advice)[0] == f"v={dtype}"


def test_pipe_that_shows_a_float_in_time_needs_no_declaration(tmp_path: Path) -> None:
    data = column([1] * (SAMPLE_LINES - 1) + [1.5] + [2] * 500)
    COPY.run(io.BytesIO(data), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == attempt(data, COPY).output


# --- what a column refuses -----------------------------------------------------------------------------------------


KINDS = {
    "integer": "7",
    "float": "1.5",
    "string": '"x"',
    "boolean": "true",
    "array": "[1]",
    "object": '{"x":1}',
    "null": "null",
}
COLUMNS: dict[str, tuple[pl.DataType, str, set[str]]] = {
    "an integer": (pl.Int64(), "1", {"integer", "null"}),
    "a number": (pl.Float64(), "0.5", {"integer", "float", "null"}),
    "a string": (pl.String(), '"a"', {"string", "null"}),
    "a boolean": (pl.Boolean(), "false", {"boolean", "null"}),
    "List(Int128)": (pl.List(pl.Int128), "[]", {"array", "null"}),
    "Struct({'x': Int128})": (pl.Struct({"x": pl.Int128}), "{}", {"object", "null"}),
}
ARTICLES = {"integer": "an", "array": "an", "object": "an"}


def expected_reason(wanted: str, kind: str) -> str:
    if wanted.startswith(("a ", "an ")):
        return f"column `v`: expected {wanted}, found {ARTICLES.get(kind, 'a')} {kind}: {KINDS[kind]}"
    return f"column `v`: not of type {wanted}: "


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", COLUMNS)
def test_declared_column_takes_its_kind_and_rejects_the_others(wanted: str, kind: str) -> None:
    dtype, good, kinds = COLUMNS[wanted]
    outcome = attempt(lines(f'{{"v":{good}}}', f'{{"v":{KINDS[kind]}}}'), declared(dtype))
    if kind in kinds:
        assert outcome.rejects == []
        assert outcome.values()[1] == json.loads(KINDS[kind])
    else:
        assert outcome.values() in ([json.loads(good)], [{"x": None}])
        assert outcome.reasons[0].startswith(expected_reason(wanted, kind))
        assert len(outcome.reasons) == 1
        assert outcome.rejects[0]["raw"] == f'{{"v":{KINDS[kind]}}}'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", COLUMNS)
def test_inferred_column_rejects_other_kinds_past_the_sample(wanted: str, kind: str) -> None:
    _, _, kinds = COLUMNS[wanted]
    shown = KINDS["float" if wanted == "a number" else (kinds - {"null"}).pop()]
    outcome = attempt(lines(*[f'{{"v":{shown}}}'] * SAMPLE_LINES, f'{{"v":{KINDS[kind]}}}'), COPY)
    assert outcome.values()[:SAMPLE_LINES] == [json.loads(shown)] * SAMPLE_LINES
    if kind in kinds or (wanted, kind) == ("an integer", "float"):  # that makes it a column of floats
        assert outcome.rejects == []
        assert outcome.values()[SAMPLE_LINES] == json.loads(KINDS[kind])
    else:
        assert len(outcome.reasons) == 1
        assert outcome.reasons[0].startswith(expected_reason(wanted, kind))
        assert outcome.rejects[0]["line"] == SAMPLE_LINES + 1


def test_reason_tells_where_in_an_array_or_object_it_is() -> None:
    dtype = pl.Struct({"x": pl.List(pl.Int8), "y": pl.String})
    data = lines('{"v":{"x":[1,2]}}', '{"v":{"x":[1,"2"]}}', '{"v":{"y":3}}')
    outcome = attempt(data, declared(dtype))
    assert [reason.partition(" - at ")[2] for reason in outcome.reasons] == ["`$.x[1]`", "`$.y`"]


def test_long_value_is_shortened_in_the_reason_and_whole_in_the_reject() -> None:
    text = "y" * 500
    outcome = attempt(column([1, text]), declared(pl.Int64))
    assert outcome.reasons == [f'column `v`: expected an integer, found a string: "{"y" * 38}…']
    assert json.loads(outcome.rejects[0]["raw"]) == {"v": text}


def test_all_reasons_of_a_kind_are_counted_together() -> None:
    data = column([1, "x", True, "y", 2**200, [1]])
    reasons = attempt(data, declared(pl.Int64)).summary.reject_reasons
    assert {kind: (reason.count, reason.first_offset) for kind, reason in reasons.items()} == {
        "column `v`: expected an integer, found a string": (2, data.index(b'{"v": "x"')),
        "column `v`: expected an integer, found a boolean": (1, data.index(b'{"v": true')),
        "column `v`: out of range for Int64": (1, data.index(b'{"v": 1606')),
        "column `v`: expected an integer, found an array": (1, data.index(b'{"v": [')),
    }


# --- strings and booleans ------------------------------------------------------------------------------------------


STRINGS = ["", "x", "é 名 \U0001f600", 'say "no" \\ /', "\x00\x08\t\r\n\x1f\x7f\u2028", "1.50", "null"]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("dtype", [None, pl.String], ids=str)
def test_strings_come_through_whole(dtype: type[pl.DataType] | None, *, ascii_only: bool) -> None:
    data = lines(*(json.dumps({"v": text}, ensure_ascii=ascii_only) for text in STRINGS))
    outcome = attempt(data, declared(dtype, Calculation(r=v + "!")) if dtype else Calculation(r=v + "!"))
    assert outcome.values() == [text + "!" for text in STRINGS]


@pytest.mark.parametrize("dtype", [None, pl.Boolean], ids=str)
def test_booleans_are_neither_numbers_nor_strings(dtype: type[pl.DataType] | None) -> None:
    outcome = attempt(column([True, False, None]), declared(dtype, Calculation(r=~v)) if dtype else Calculation(r=~v))
    assert outcome.output == lines('{"v": true,"r":false}', '{"v": false,"r":true}', '{"v": null,"r":null}')


SURROGATES = [r"\ud83d", r"\udc00\ud800", r"x\uDBFFy", r"\\\ud800"]


@pytest.mark.parametrize("text", SURROGATES)
@pytest.mark.parametrize("nest", ["{}", "[{}]", '{{"x":{}}}'])
def test_lone_surrogate_is_rejected_in_a_column_that_is_read(text: str, nest: str) -> None:
    bad, good = (nest.format(f'"{content}"') for content in (text, r"\ud83d\ude00"))
    outcome = attempt(lines(f'{{"v":{good}}}', f'{{"v":{bad}}}'), COPY)
    assert outcome.values() == [json.loads(good)]
    assert outcome.reasons == ["column `v`: holds a lone surrogate escape: no text has that value"]
    assert outcome.rejects[0]["raw"] == f'{{"v":{bad}}}'


@pytest.mark.parametrize("text", SURROGATES)
def test_lone_surrogate_passes_in_what_is_not_read(text: str) -> None:
    line = f'{{"w":"{text}","{text}":["{text}"],"v":"a"}}'
    outcome = attempt(lines(line), Calculation(r=v + "b"))
    assert outcome.output == lines(line.removesuffix("}") + ',"r":"ab"}')


def test_lone_surrogate_passes_in_what_is_replaced_and_not_read() -> None:
    outcome = attempt(lines(r'{"w":"\ud800","v":1}'), Calculation(w=v))
    assert outcome.output == lines('{"w":1,"v":1}')


def test_surrogate_escape_behind_an_escaped_backslash_is_none() -> None:
    outcome = attempt(lines(r'{"v":"\\ud800"}'), COPY)
    assert outcome.values() == [r"\ud800"]


# --- arrays and objects --------------------------------------------------------------------------------------------


NESTED: list[tuple[str, list[object], str]] = [
    ("integers are exact", [[1, 2**100, None], [], None, [INT128_MIN, INT128_MAX]], "List(Int128)"),
    ("in objects, too", [{"x": 2**63}, {"x": -(2**64)}], "Struct({'x': Int128})"),
    ("a float makes floats", [[1], [2.5, 3]], "List(Float64)"),
    ("strings and booleans", [{"s": "é", "b": True}, {"s": None, "b": False}], "Struct({'s': String, 'b': Boolean})"),
    ("deep", [{"x": [{"y": [[2**65]]}]}], "Struct({'x': List(Struct({'y': List(List(Int128))}))})"),
    ("nulls in arrays", [[None], [True], []], "List(Boolean)"),
    ("a type for an empty array is found in another line", [[[]], [["s"]]], "List(List(String))"),
]


@pytest.mark.parametrize(("values", "dtype"), [case[1:] for case in NESTED], ids=[case[0] for case in NESTED])
@pytest.mark.parametrize("way", ["inferred", "declared"])
def test_arrays_and_objects_come_through_whole(values: list[object], dtype: str, way: str) -> None:
    outcome = attempt(column(values), declared(parse_type("v", dtype)) if way == "declared" else COPY)
    assert outcome.values() == values
    assert outcome.summary.schema == {"v": (dtype, way)}


def test_objects_of_different_members_are_of_one_type_that_has_them_all() -> None:
    values: list[dict[str, object] | None] = [{"x": 1}, {"y": "s"}, {}, None, {"x": 2.5, "z": [True]}, {"x": None}]
    outcome = attempt(column(values), COPY)
    names = ("x", "y", "z")
    assert outcome.values() == [value if value is None else {n: value.get(n) for n in names} for value in values]
    assert outcome.summary.schema == {"v": ("Struct({'x': Float64, 'y': String, 'z': List(Boolean)})", "inferred")}


def test_members_beside_the_one_that_is_read_need_no_type() -> None:
    calculation = declared(pl.Struct({"x": pl.Int8}), Calculation(r=v.struct.field("x") * 2))
    outcome = attempt(lines('{"v":{"x":1,"other":1e999,"y":{"x":2}}}', '{"v":{"x":128}}'), calculation)
    assert outcome.output == lines('{"v":{"x":1,"other":1e999,"y":{"x":2}},"r":2}')
    assert outcome.reasons == ["column `v.x`: out of range for Int8: 128"]


def test_members_of_an_object_used_as_a_whole_that_no_column_declares_have_the_line_rejected() -> None:
    good = '{"v":{"x":1}}'
    outcome = attempt(lines(good, '{"v":{"x":1,"other":1e999}}'), declared(pl.Struct({"x": pl.Int8})))
    assert outcome.values() == [{"x": 1}]
    assert outcome.reasons == ["column `v`: a member that its type does not have, and that would be lost: `other`"]


def test_of_duplicate_members_within_an_object_the_last_counts() -> None:
    assert attempt(lines('{"v":{"x":1,"x":2}}'), COPY).values() == [{"x": 2}]


@pytest.mark.parametrize(
    "dtype", [None, pl.Struct({"l": pl.List(pl.Int64), "name": pl.String})], ids=["inferred", "declared"]
)
def test_expressions_reach_into_arrays_and_objects(dtype: pl.DataType | None) -> None:
    values = [{"l": [1, 2, 2**62], "name": "ab"}, {"l": [], "name": None}, {"l": None, "name": "c"}]
    lists = v.struct.field("l")
    calculation = Calculation(
        total=lists.list.sum(), first=lists.list.first(), shout=v.struct.field("name").str.to_uppercase()
    )
    outcome = attempt(column(values), declared(dtype, calculation) if dtype else calculation)
    assert outcome.values("total") == [2**62 + 3, 0, None]
    assert outcome.values("first") == [1, None, None]
    assert outcome.values("shout") == ["AB", None, "C"]


def test_results_can_be_arrays_and_objects() -> None:
    w = pl.col("w")
    calculation = Calculation(
        both=pl.concat_list(v, w), pair=pl.struct(a=v, b=pl.struct(c=w)), deep=pl.concat_list(pl.struct(v, x=w))
    )
    outcome = attempt(lines('{"v":1,"w":2}', '{"v":null}'), calculation)
    assert outcome.values("both") == [[1, 2], [None, None]]
    assert outcome.values("pair") == [{"a": 1, "b": {"c": 2}}, {"a": None, "b": {"c": None}}]
    assert outcome.values("deep") == [[{"v": 1, "x": 2}], [{"v": None, "x": None}]]


@pytest.mark.parametrize("value", [{}, [{}], {"x": {}}], ids=str)
def test_objects_that_are_empty_in_every_line_can_be_results_as_they_are(value: object) -> None:
    assert attempt(column([value]), Calculation(r=v)).values() == [value]


def test_objects_that_are_empty_in_every_line_can_be_read() -> None:
    assert attempt(column([{}, None]), Calculation(r=v.is_null())).values() == [False, True]


def test_member_names_with_quotes_within_an_object_are_refused_in_words() -> None:
    message = refusal(lines(r'{"v":{"a\"b":1}}'), COPY, SchemaError)
    assert "member names that hold a quote, a backslash or a control character can't be read" in message


# --- what the sample does not show ---------------------------------------------------------------------------------


def test_column_that_no_line_has_is_an_error() -> None:
    message = refusal(lines('{"stars":1,"state":"x"}', '{"city":2}'), Calculation(r=pl.col("starz")), SchemaError)
    assert message.startswith("there is no column `starz` in the input (2 lines).")
    assert "Did you mean `stars` or `state`?" in message
    assert "--schema starz=TYPE, or .with_schema({'starz': pl.TYPE})" in message


def test_names_that_differ_in_case_only_are_near() -> None:
    message = refusal(lines('{"stars":1}'), Calculation(r=pl.col("Stars")), SchemaError)
    assert "Did you mean `stars`?" in message


def test_no_name_is_near_where_none_is() -> None:
    message = refusal(lines('{"stars":1}'), Calculation(r=pl.col("v")), SchemaError)
    assert "Did you mean" not in message


def test_the_members_that_are_there_are_named() -> None:
    """Given data of another kind, whose names are somebody else's."""
    event = json.dumps({"eventVersion": "1", "user\x1b[2J\n": {}, "x" * 100: 3, **dict.fromkeys("abcdefghij", 0)})
    message = refusal(lines(event, '{"late":1}'), COPY, SchemaError)
    listed = "The lines have: `eventVersion`, `user\\x1b[2J\\n`, `" + "x" * 40 + "…`, `a`, `b`, `c` and 8 more."
    assert f" {listed} If it comes later, declare its type" in message
    assert message.isprintable()
    inside = refusal(lines('{"v":{"b":1,"c":2}}'), Calculation(r=pl.col("v").struct.field("a")), SchemaError)
    assert inside.startswith("there is no member `a` in `v` in the input (1 line).")
    assert " It has: `b`, `c`. If it comes later" in inside


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('{"Records":[{"v":1},{"w":2}]}', "Records"),
        ('{"odd":["[{",1],"at":{"none":[],"hits":[{"w":[{"v":0}],"v":1}]},"v2":{"v":3}}', "at.hits"),
    ],
)
def test_an_array_whose_objects_have_the_column_is_suggested_as_the_rows(line: str, path: str) -> None:
    message = refusal(lines(line), COPY, SchemaError)
    assert f" The objects in the array `{path}` have it: make them the rows with --each {path}, or " in message
    assert attempt(lines(line), COPY.each(path)).values()[0] == 1


@pytest.mark.parametrize(
    "line",
    ['{"a":[{"w":1},{"v":1}]}', '{"a":[{"w":{"v":1}}]}', '{"a":{"v":1}}', '{"a":[[{"v":1}]]}', '{"a-b":[{"v":1}]}'],
)
def test_no_array_is_suggested_whose_first_object_does_not_have_the_column(line: str) -> None:
    assert "--each" not in refusal(lines(line), COPY, SchemaError)


@pytest.mark.parametrize("start", ["", '"a\\\\\\"b":"}{\\"c\\":",'])
def test_the_members_of_a_long_line_are_named(start: str) -> None:
    """Given a file of CloudTrail, which is one line; of its end no name is known."""
    records = ",".join(['{"eventVersion":"1.08","odd":"}\\"]"}'] * 20_000)
    message = refusal(lines(f'{{{start}"Records":[{records}],"late":1}}'), COPY, SchemaError)
    names = ['`a\\"b`', "`Records`"] if start else ["`Records`"]
    assert f" The lines have: {', '.join(names)}. If it comes" in message


def test_column_that_no_sampled_line_has_is_an_error_though_it_comes_later() -> None:
    data = lines(*['{"w":1}'] * SAMPLE_LINES, '{"v":1}')
    message = refusal(data, COPY, SchemaError)
    assert message.startswith(f"there is no column `v` in the first {SAMPLE_LINES} lines.")
    assert attempt(data, declared(pl.Int64)).values() == [None] * SAMPLE_LINES + [1]


def test_column_of_nothing_but_nulls_is_an_error() -> None:
    message = refusal(lines('{"v":null}', '{"w":1}', '{"v":null}'), COPY, SchemaError)
    assert message.startswith("column `v` is only null in the input (3 lines).")


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([1, "x"], "1 integer and 1 string"),
        (["x", 1, 2.5, 2], "2 integers, 1 string and 1 float"),
        ([True, 1], "1 boolean and 1 integer"),
        ([[1], {"x": 1}, None], "1 array, 1 object and 1 null"),
        (["x", "y", ["z"]], "2 strings and 1 array"),
    ],
)
def test_column_of_mixed_kinds_is_an_error_that_counts_them(values: list[object], counts: str) -> None:
    message = refusal(column(values), COPY, SchemaError)
    assert message.startswith(f"column `v` is of mixed kinds in the input ({len(values)} lines): {counts}.")
    assert "lines where it has another type are then rejected" in message
    assert "The type json accepts any value" in message


@pytest.mark.parametrize("values", [[[1], ["x"]], [[1, "x"]], [{"x": 1}, {"x": "1"}], [[[1]], [1]], [[True, 1]]])
def test_mixed_kinds_within_arrays_and_objects_are_an_error(values: list[object]) -> None:
    message = refusal(column(values), COPY, SchemaError)
    assert message.startswith("column `v` is of mixed kinds")


@pytest.mark.parametrize("values", [[None], [1, "x"]], ids=["only null", "mixed"])
def test_error_says_how_to_declare_the_column(values: list[object]) -> None:
    message = refusal(column(values, name="reviewCount"), Calculation(r=typed("reviewCount")), SchemaError)
    assert "Declare its type: --schema reviewCount=TYPE, or .with_schema({'reviewCount': pl.TYPE})" in message
    assert "in the worker's settings: SCHEMA=reviewCount=TYPE" in message


@pytest.mark.parametrize(
    "values", [[], [None], [1, "x", 2, None, 1.0], [2]], ids=["absent", "only null", "mixed", "integers"]
)
def test_declared_column_needs_no_sample(values: list[object]) -> None:
    outcome = attempt(column(values) + b'{"w":1}\n', declared(pl.Int64))
    assert outcome.values() == [value for value in values if value is None or type(value) is int] + [None]


def test_error_names_the_first_column_in_the_order_of_the_calculation() -> None:
    message = refusal(lines('{"v":1}'), Calculation(r=pl.col("b") + pl.col("a")), SchemaError)
    assert message.startswith("there is no column `b`")


# --- the sample ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [20, 2 << 20])
def test_sample_is_the_first_thousand_lines_that_are_objects(chunk_bytes: int) -> None:
    others = itertools.cycle(["", "nope", "[1]", " \t", '{"v":', '{"v":1}{"v":1}'])
    valid = ['{"w":1}'] * (SAMPLE_LINES - 1)
    mixed = [line for pair in zip(others, valid, strict=False) for line in pair]
    enough = attempt(lines(*mixed, '{"v":1}'), COPY, chunk_bytes=chunk_bytes)
    assert enough.values() == [None] * (SAMPLE_LINES - 1) + [1]
    message = refusal(lines(*mixed, '{"w":1}', '{"v":1}'), COPY, SchemaError, chunk_bytes=chunk_bytes)
    assert f"in the first {SAMPLE_LINES} lines" in message


def test_line_past_the_limit_is_no_part_of_the_sample() -> None:
    data = lines('{"v":1}', '{"v":"' + "x" * 100 + '"}')
    assert attempt(data, COPY, max_line_bytes=50).values() == [1]
    assert "mixed" in refusal(data, COPY, SchemaError, max_line_bytes=500)


@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_lines_that_are_all_past_the_limit_are_told_so(chunk_bytes: int) -> None:
    data = lines(*['{"v":"' + "x" * 100 + '"}'] * 20)
    sampled = Tuned(COPY, sample_size=SampleSize(max_bytes=1000))
    message = refusal(data, sampled, SchemaError, max_line_bytes=50, chunk_bytes=chunk_bytes)
    assert "a JSON object (longer than 50 bytes); is this JSON lines?" in message


def test_lines_that_are_all_blank_are_told_so() -> None:
    sampled = Tuned(COPY, sample_size=SampleSize(max_bytes=1000))
    assert "a JSON object (all are blank); is this JSON lines?" in refusal(b"\n" * 2000, sampled, SchemaError)


def test_each_input_has_its_own_types() -> None:
    assert attempt(column([1]), COPY).summary.schema == {"v": ("Int128", "inferred")}
    assert attempt(column(["1"]), COPY).summary.schema == {"v": ("String", "inferred")}
    assert attempt(column([1]), COPY).output == b'{"v": 1,"r":1}\n', "the runs before have left nothing behind"


def test_declared_and_inferred_columns_stand_side_by_side() -> None:
    calculation = Calculation(r=v + pl.col("w")).with_schema({"v": pl.Int8})
    outcome = attempt(lines('{"v":1,"w":2}', '{"v":300,"w":2}'), calculation)
    assert outcome.values() == [3]
    assert outcome.summary.schema == {"v": ("Int8", "declared"), "w": ("Int128", "inferred")}


SMALL_SAMPLE_LINES = 3
VALUES = ["1", "-7", "2.5", "1e999", str(2**127), '"s"', "true", "null", None]
"""None stands for a line that is no JSON."""


def expected_values(texts: Sequence[str | None]) -> list[object] | str:
    """Infer and read a column as the table has it; return the values, or what the error starts with."""
    valid = [text for text in texts if text is not None]
    kinds = {kind(text) for text in valid[:SMALL_SAMPLE_LINES]} - {"null"}
    if not valid:
        return "every line was rejected"
    if not kinds:
        return "column `v` is only null"
    if kinds > {"integer"} and kinds != {"integer", "float"}:
        return "column `v` is of mixed kinds"
    if len(kinds) > 1 and kinds != {"integer", "float"}:
        return "column `v` is of mixed kinds"
    if kinds == {"integer"} and "float" in {kind(text) for text in valid}:
        kinds = {"float"}
    values = [json.loads(text) for text in valid if fits(text, kinds)]
    if not values:
        return "every line was rejected"
    return [float(value) if "float" in kinds and value is not None else value for value in values]


def kind(text: str) -> str:
    words = {"t": "boolean", "n": "null", '"': "string"}
    return words.get(text[0]) or ("float" if set(text) & set(".eE") else "integer")


def fits(text: str, kinds: set[str]) -> bool:
    if kind(text) == "null":
        return True
    if "float" in kinds:
        return kind(text) in {"integer", "float"} and math.isfinite(float(text))
    return kind(text) in kinds and (kind(text) != "integer" or INT128_MIN <= int(text) <= INT128_MAX)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.sampled_from(VALUES), min_size=1, max_size=8), chunk_bytes=st.sampled_from([1, 9, 64, 4096]))
def test_types_are_inferred_as_the_table_says_whatever_the_chunks(texts: list[str | None], chunk_bytes: int) -> None:
    data = lines(*("nope" if text is None else f'{{"v":{text}}}' for text in texts))
    expected = expected_values(texts)
    sampled = Tuned(COPY, sample_size=SampleSize(SMALL_SAMPLE_LINES))
    if isinstance(expected, str):
        with pytest.raises((SchemaError, RejectedError), match=re.escape(expected)):
            attempt(data, sampled, chunk_bytes=chunk_bytes)
        return
    outcome = attempt(data, sampled, chunk_bytes=chunk_bytes)
    assert outcome.values() == expected
    assert [type(value) for value in outcome.values()] == [type(value) for value in expected]


# --- nothing to infer from -----------------------------------------------------------------------------------------


EMPTY = [b"", b"\n", b" \t\r\n\n  \n", b"\xef\xbb\xbf", b"   "]
w = pl.col("w")
COMPUTATIONS = {
    "copy": Calculation(r=v),
    "string": Calculation(r=v.str.to_uppercase()),
    "product": Calculation(r=v * w),
    "sum with a literal": Calculation(r=v + 1),
    "boolean": Calculation(r=~v),
    "list": Calculation(r=v.list.first()),
    "comparison": Calculation().filter(v > 1),
    "filter": Calculation().filter(v),
}


@pytest.mark.parametrize("data", EMPTY, ids=repr)
@pytest.mark.parametrize("calculation", COMPUTATIONS.values(), ids=COMPUTATIONS)
def test_empty_input_gives_empty_output_whatever_is_computed(calculation: Calculation, data: bytes) -> None:
    outcome = attempt(data, calculation)
    assert outcome.output == b""
    assert outcome.summary.lines_out == outcome.summary.rejected == 0
    assert outcome.summary.blank == outcome.summary.lines_in == data.count(b"\n") + (data == b"   ")


@pytest.mark.parametrize("data", EMPTY, ids=repr)
def test_empty_input_gives_empty_output_where_types_are_declared(data: bytes) -> None:
    assert attempt(data, declared(pl.Float64, Calculation(r=v * 2).filter(v > 1))).output == b""


@pytest.mark.parametrize("calculation", [COPY, Calculation(r=v * w)], ids=["copy", "product"])
def test_input_without_a_single_object_is_rejected_whole(tmp_path: Path, calculation: Calculation) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"nope\n\n3\n")
    with pytest.raises(
        RejectedError, match=re.escape("every line was rejected (1 × not valid JSON; 1 × not a JSON object)")
    ):
        calculation.run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    kept = (tmp_path / "out.jsonl.rejects.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["raw"] for line in kept] == ["nope", "3"]
    assert not (tmp_path / "out.jsonl").exists()


# --- declarations --------------------------------------------------------------------------------------------------


UNREAD = "the schema declares `starz`, but no expression or filter reads it. Did you mean `stars`?"


def test_declaring_a_column_that_nothing_reads_is_a_note_of_a_run_and_a_problem_of_a_check() -> None:
    declared = Calculation(r=pl.col("stars")).with_schema({"stars": pl.Float64, "starz": pl.Int8})
    data = lines('{"stars":1,"starz":1}')
    summary = declared.run(io.BytesIO(data), io.BytesIO())
    assert (summary.notes, summary.lines_out) == ([UNREAD], 1)
    found = check(declared.spec_for(""), io.BytesIO(data))
    assert (found.problems(), found.summary.notes) == ([UNREAD], [UNREAD])
    by_prefix = CalculationsByPrefix({"a/": Calculation(r=v), "b/": declared})
    for one in (declared, by_prefix):
        with pytest.raises(SchemaError, match=f"^{re.escape(UNREAD)}$"):
            one.check_schema()


def test_declaring_what_is_read_is_fine() -> None:
    declared = Calculation(r=v).filter(w > 1).with_schema({"v": pl.String, "w": pl.Int8})
    for fine in (declared, Calculation(r=v), CalculationsByPrefix({"": declared}), LineFunction(dict)):
        fine.check_schema()
    assert declared.run(io.BytesIO(b""), io.BytesIO()).notes == []


@pytest.mark.parametrize("name", ["o", "o.p", "o.p.q"])
def test_types_of_objects_on_a_path_that_is_read_can_be_declared(name: str) -> None:
    dtype: pl.DataType = pl.Int64()
    for inside in "o.p.q".removeprefix(name).split(".")[:0:-1]:
        dtype = pl.Struct({inside: dtype})
    calculation = Calculation.from_sql("o.p.q + 1 AS r").with_schema({name: dtype})
    calculation.check_schema()
    summary = calculation.run(io.BytesIO(lines('{"o":{"p":{"q":1}}}', '{"o":{"p":{"q":1.5}}}')), io.BytesIO())
    assert (summary.notes, summary.lines_out, summary.rejected) == ([], 1, 1)
    assert summary.schema == {"o.p.q": ("Int64", "declared")}


def test_column_that_only_a_filter_reads_can_be_declared() -> None:
    calculation = Calculation(r=v).filter(w > 1).with_schema({"w": pl.Int8})
    assert attempt(lines('{"v":"a","w":1}', '{"v":"b","w":2}'), calculation).values() == ["b"]


def test_types_can_be_declared_by_name() -> None:
    named = Calculation(r=v).with_schema({"v": "List(Int64)"})
    assert named.digest == Calculation(r=v).with_schema({"v": pl.List(pl.Int64)}).digest
    with pytest.raises(SchemaError, match="is not a type"):
        Calculation(r=v).with_schema({"v": "Text"})


PARSE_IN_THE_EXPRESSION = "declare String and parse it in the expression, with the format spelled out."
UNDECLARABLE: list[tuple[object, str]] = [
    *((dtype, PARSE_IN_THE_EXPRESSION) for dtype in (pl.Date, pl.Time, pl.Datetime("us", "UTC"), pl.Duration)),
    (pl.List(pl.Date), PARSE_IN_THE_EXPRESSION),
    (pl.Float32, "declare Float64, as numbers in JSON are read."),
    (pl.Struct({"x": pl.Float32}), "column `v.x` can't be declared as Float32: declare Float64"),
    *((dtype, "") for dtype in (pl.Binary, pl.Categorical, pl.Enum(["a"]), pl.Decimal(10, 2), pl.Object, pl.Null)),
    *((dtype, "") for dtype in (pl.UInt128, pl.Array(pl.Int8, 2), pl.List, pl.Struct, pl.Struct([]), pl.List(pl.List))),
    *((dtype, "") for dtype in (int, None, 3)),
]


@pytest.mark.parametrize(("dtype", "advice"), UNDECLARABLE, ids=lambda value: str(value)[:40])
def test_type_that_json_does_not_have_cannot_be_declared(dtype: object, advice: str) -> None:
    with pytest.raises(SchemaError, match=r"^column `v(\.x)?` can't be declared as ") as caught:
        declared(dtype)
    assert advice in str(caught.value)
    assert str(caught.value).endswith(TYPES)


GOOD_TEXTS = {
    "Float64": pl.Float64(),
    "float64": pl.Float64(),
    "float": pl.Float64(),
    "int": pl.Int64(),
    "str": pl.String(),
    "bool": pl.Boolean(),
    " UInt16 ": pl.UInt16(),
    "INT128": pl.Int128(),
    "List(Int8)": pl.List(pl.Int8),
    "List[Int8]": pl.List(pl.Int8),
    "List(List(Float64))": pl.List(pl.List(pl.Float64)),
    "Struct({'a b': Int64, \"c\": List(String)})": pl.Struct({"a b": pl.Int64, "c": pl.List(pl.String)}),
}


@pytest.mark.parametrize(("text", "dtype"), GOOD_TEXTS.items())
def test_text_names_a_type(text: str, dtype: pl.DataType) -> None:
    assert parse_type("v", text) == dtype


@pytest.mark.parametrize("dtype", [pl.Float64(), *(width() for width in BOUNDS), *GOOD_TEXTS.values()], ids=str)
def test_text_of_a_type_names_it(dtype: pl.DataType) -> None:
    assert parse_type("v", str(dtype)) == dtype


BAD_TEXTS = {
    "": "",
    "Flaot64": "Float64",
    "Float32": "Float64",
    "pl.Int8": "Int8",
    "Int8(3)": "Int8",
    "Date": "",
    "Decimal": "",
    "List": "",
    "List()": "",
    "List(Int8, Int8)": "",
    "List(Date)": "",
    "List(Int8": "Int8",
    "Struct()": "",
    "Struct({1: Int8})": "",
    "Struct({'a'})": "",
    "Struct({**x})": "",
    "__import__('os').abort()": "",
    "Int8\0": "Int8",
}


@pytest.mark.parametrize(("text", "near"), BAD_TEXTS.items(), ids=lambda value: repr(value)[:30])
def test_text_that_names_no_type_is_refused_and_never_run(text: str, near: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse_type("v", text)
    advice = f"Did you mean {near}? " if near else ""
    assert str(caught.value) == f"column `v`: `{text}` is not a type. {advice}{TYPES}"


def test_struct_without_members_cannot_be_declared_by_text() -> None:
    with pytest.raises(SchemaError, match=r"^column `v` can't be declared as Struct\(\{\}\)"):
        parse_type("v", "Struct({})")


# --- how results are spelled ---------------------------------------------------------------------------------------


def test_nan_and_infinities_are_written_as_null_and_counted() -> None:
    data = lines('{"v":0}', '{"v":1}', '{"v":-2}', '{"v":null}')
    outcome = attempt(data, Calculation(inverse=1 / v, ratio=0 / v, finite=v * 1.5))
    assert outcome.values("inverse") == [None, 1.0, -0.5, None]
    assert outcome.values("ratio") == [None, 0.0, 0.0, None]
    assert outcome.summary.nonfinite == {"inverse": 1, "ratio": 1}


def test_nan_and_infinities_are_counted_within_arrays_and_objects() -> None:
    calculation = Calculation(
        l=pl.concat_list(1 / v, 0 / v, v * 1.0), s=pl.struct(x=-1 / v, y=v), n=pl.concat_list(pl.struct(x=1 / v))
    )
    outcome = attempt(column([0, 1, 0]), calculation)
    assert outcome.values("l") == [[None, None, 0.0], [1.0, 0.0, 1.0], [None, None, 0.0]]
    assert outcome.values("s") == [{"x": None, "y": 0}, {"x": -1.0, "y": 1}, {"x": None, "y": 0}]
    assert outcome.values("n") == [[{"x": None}], [{"x": 1.0}], [{"x": None}]]
    assert outcome.summary.nonfinite == {"l": 4, "s": 2, "n": 2}


def test_nan_and_infinities_of_filtered_lines_do_not_count() -> None:
    outcome = attempt(lines('{"v":0,"w":1}', '{"v":0,"w":2}'), Calculation(r=1 / v).filter(w > 1))
    assert outcome.summary.nonfinite == {"r": 1}


TEMPORAL: dict[str, tuple[pl.Expr, str]] = {
    "date": (v.str.to_date("%Y-%m-%d"), "2024-02-29"),
    "naive": (v.str.to_datetime("%Y-%m-%d"), "2024-02-29T00:00:00"),
    "zoned": (v.str.to_datetime("%Y-%m-%d", time_zone="Europe/Paris"), "2024-02-29T00:00:00+01:00"),
    "utc": (v.str.to_datetime("%Y-%m-%d", time_zone="UTC"), "2024-02-29T00:00:00+00:00"),
}


@pytest.mark.parametrize("name", TEMPORAL)
@pytest.mark.parametrize("nest", ["bare", "array", "object", "array of objects"])
def test_dates_and_times_are_iso_8601_strings(name: str, nest: str) -> None:
    expr, text = TEMPORAL[name]
    wrap: dict[str, tuple[pl.Expr, Callable[[Any], Any]]] = {
        "bare": (expr, lambda value: value),
        "array": (pl.concat_list(expr), lambda value: value[0]),
        "object": (pl.struct(x=expr), lambda value: value["x"]),
        "array of objects": (pl.concat_list(pl.struct(x=expr)), lambda value: value[0]["x"]),
    }
    result, unwrap = wrap[nest]
    outcome = attempt(column(["2024-02-29", None]), Calculation(r=result))
    spelled, nothing = (unwrap(value) for value in outcome.values())
    assert nothing is None
    parse = dt.date.fromisoformat if name == "date" else dt.datetime.fromisoformat
    assert parse(spelled) == parse(text)
    assert spelled.startswith(text[:19])
    assert spelled.endswith(text[19:])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_fractions_of_a_second_are_kept(unit: Any) -> None:
    outcome = attempt(column([1]), Calculation(r=pl.from_epoch(v * 1000 + 234, "ms").cast(pl.Datetime(unit))))
    (found,) = outcome.values()
    assert dt.datetime.fromisoformat(found) == dt.datetime(1970, 1, 1, 0, 0, 1, 234_000)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (pl.duration(days=v), "P3D"),
        (pl.duration(hours=v, milliseconds=5), "PT3H0.005S"),
        (pl.duration(seconds=0 - v), "-PT3S"),
        (pl.lit(dt.time(1, 2, 3, 456)), "01:02:03.000456"),
        (pl.date(-5, 1, v), "-0005-01-03"),
        (pl.date(12345, 1, v), "+12345-01-03"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_durations_times_and_far_years_are_iso_8601_strings(expr: pl.Expr, text: str) -> None:
    assert attempt(column([3]), Calculation(r=expr)).values() == [text]


def test_decimals_are_numbers_that_keep_their_digits() -> None:
    outcome = attempt(column([1, None, -25]), Calculation(r=v.cast(pl.Decimal(20, 2)), s=pl.lit(Decimal("1.50"))))
    assert outcome.output == lines(
        '{"v": 1,"r":1.00,"s":1.50}', '{"v": null,"r":null,"s":1.50}', '{"v": -25,"r":-25.00,"s":1.50}'
    )


@pytest.mark.parametrize("wrap", [pl.concat_list, pl.struct])
def test_decimals_within_arrays_and_objects_are_numbers(wrap: Any) -> None:
    outcome = attempt(column([1]), Calculation(r=wrap(v.cast(pl.Decimal(20, 2)))))
    assert b"1.00" in outcome.output
    assert b'"1.00"' not in outcome.output


@pytest.mark.parametrize(
    "expr",
    [v.cast(pl.Binary), pl.concat_list(v.cast(pl.Binary)), pl.struct(x=v.cast(pl.Binary))],
    ids=["bare", "array", "object"],
)
def test_binary_results_are_refused(expr: pl.Expr) -> None:
    message = refusal(column(["x"]), Calculation(r=expr), CalculationError)
    assert message == "the result `r` is Binary, which has no place in JSON; make it a string first"


def test_results_that_are_python_objects_are_refused() -> None:
    refusal(column(["x"]), Calculation(r=pl.lit(object(), dtype=pl.Object)), CalculationError)


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (v.cast(pl.UInt8), "7"),
        (v.cast(pl.Float32) / 2, "3.5"),
        (v > 3, "true"),
        (pl.lit(None), "null"),
        (v.cast(pl.String).cast(pl.Enum(["7"])), '"7"'),
        (pl.lit([1, 2]), "[1,2]"),
        (pl.concat_list(v, v).list.to_array(2), "[7,7]"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_results_of_other_types_have_a_spelling(expr: pl.Expr, text: str) -> None:
    assert attempt(b'{"v":7}\n', Calculation(r=expr)).output == f'{{"v":7,"r":{text}}}\n'.encode()


NAMES = ['say "no"', "back\\slash", "tab\tnew\nline\x00", "名 é \U0001f600", "", "a.b", " r ", "r'", "__class__", "x}"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_results_can_have_any_name(name: str) -> None:
    outcome = attempt(b'{"v":7}\n{}\n', Calculation(**{name: v}))
    assert outcome.rows == [{"v": 7, name: 7}, {name: None}]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("escaped", [False, True])
def test_columns_can_have_any_name_written_with_escapes_or_not(name: str, *, escaped: bool) -> None:
    units = name.encode("utf-16-be")
    spelled = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
    key = f'"{spelled}"' if escaped else json.dumps(name, ensure_ascii=False)
    data = lines(f'{{{key}:2,"o":0}}', f'{{"o":0, {key} : 3 }}')
    outcome = attempt(data, Calculation(result=pl.col(name) * 2, **{name: pl.col(name) + 1}))
    assert outcome.output == lines(f'{{{key}:3,"o":0,"result":4}}', f'{{"o":0, {key} : 4 ,"result":6}}')
    assert outcome.summary.schema == {name: ("Int128", "inferred")}


def test_of_duplicate_members_the_last_counts_however_it_is_written() -> None:
    data = lines('{"v":1,"v":2}', r'{"v":1,"\u0076":3}', r'{"\u0076":"x", "v" : 4}', '{"v":5,"v":null}')
    assert attempt(data, COPY).values() == [2, 3, 4, None]


def test_of_duplicate_members_only_the_last_has_to_be_of_the_type() -> None:
    outcome = attempt(lines('{"v":"x","v":2}', '{"v":1,"v":"x"}'), declared(pl.Int64))
    assert outcome.output == b'{"v":"x","v":2,"r":2}\n'
    assert outcome.reasons == ['column `v`: expected an integer, found a string: "x"']


# --- objects in lists ------------------------------------------------------------------------------------------------


_OBJECTS_IN_LISTS = pl.List(
    pl.Struct({"n": pl.Int128, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "l": pl.List(pl.Int128)})
)
_OBJECTS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-(2**70), 2**70),
        "f": st.none() | st.floats(allow_nan=False),
        "s": st.none() | st.text(),
        "b": st.none() | st.booleans(),
        "l": st.none() | st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
    },
)


@given(st.lists(st.none() | st.lists(_OBJECTS, max_size=3), max_size=4))
def test_objects_in_lists_are_the_series_that_polars_makes(values: list[Any]) -> None:
    made, _ = to_frame({"x": values}, {"x": Column(_OBJECTS_IN_LISTS)}, len(values))
    assert_series_equal(made["x"], pl.Series("x", values, dtype=_OBJECTS_IN_LISTS, strict=True))
