"""Comparing expressions with the function they replace finds what differs, where, and nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.trial import lines
from tests.support.typed import typed
from tests.transform.expressions.test_arithmetic import LIMIT, ROWS, SCHEMA, TREES, Row, Tree, expected, varies
from transform import Calculation, CalculationError, Comparison, load
from transform.explore.compare import differences

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(__file__).parents[3] / "sample_data" / "yelp_businesses.json"
KEEP = Calculation().filter(pl.lit(value=True))
"""Changes nothing."""


def numbered(count: int) -> bytes:
    return lines(*(json.dumps({"a": number}) for number in range(count)))


def found(comparison: Comparison) -> list[tuple[str, str, int, list[int]]]:
    """Return the differences: where, which, in how many lines, and the numbers of the first."""
    return [(one.member, one.kind, one.lines, [example.line for example in one.examples]) for one in comparison.found]


def identity(json_obj: dict[str, Any]) -> dict[str, Any]:
    return json_obj


def test_the_samples_function_gives_what_the_expression_does() -> None:
    def calculation(json_obj: dict[str, Any]) -> dict[str, Any]:
        json_obj["review_score"] = float(json_obj["stars"]) * float(json_obj["review_count"])
        return json_obj

    compared = Calculation(review_score=pl.col("stars") * pl.col("review_count")).compare(calculation, SAMPLE)
    assert (compared.lines, compared.equal, compared.same, compared.whole) == (200, 200, True, True)
    assert compared.found == ()
    assert repr(compared) == f"Comparison with calculation(…): the same for all 200 lines of {SAMPLE}"


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ('{"a":1}', '{"a":1}', []),
        ('{"a":1}', "{}", [("a", "only the expressions give it", "1", "")]),
        ("{}", '{"a":1}', [("a", "only the function gives it", "", "1")]),
        ('{"a":null}', "{}", [("a", "only the expressions give it", "null", "")]),
        ('{"a":null}', '{"a":0}', [("a", "null by the expressions", "null", "0")]),
        ('{"a":false}', '{"a":null}', [("a", "null by the function", "false", "null")]),
        ('{"a":2}', '{"a":2.0}', [("a", "integer against float", "2", "2.0")]),
        ('{"a":2}', '{"a":2.5}', [("a", "another value", "2", "2.5")]),
        ('{"a":1}', '{"a":true}', [("a", "another type", "1", "true")]),
        ('{"a":"1"}', '{"a":1}', [("a", "another type", '"1"', "1")]),
        ('{"a":[]}', '{"a":{}}', [("a", "another type", "[]", "{}")]),
        ('{"a":4.50}', '{"a":4.5}', []),
        ('{"a":"caf\\u00e9"}', '{"a":"café"}', []),
        ('{"a":9007199254740993}', '{"a":9007199254740992}', None),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', [("", "another order of members", "a, b", "b, a")]),
        ('{"a":1,"b":2,"c":3}', '{"a":1,"c":3}', [("b", "only the expressions give it", "2", "")]),
        ('{"a":1,"a":2}', '{"a":2}', [("a", "another number of members of that name", "2", "1")]),
        ('{"a":{"b":[1,2]}}', '{"a":{"b":[1,2.0]}}', [("a.b[]", "integer against float", "2", "2.0")]),
        ('{"a":[1,2]}', '{"a":[1]}', [("a", "another length", "[1, 2]", "[1]")]),
        ('{"a":{"x":1,"y":2}}', '{"a":{"y":2,"x":1}}', [("a", "another order of members", "x, y", "y, x")]),
    ],
)
def test_difference_is_told_for_what_it_is(ours: str, theirs: str, expected: list[Any] | None) -> None:
    told = [(one.member, one.kind, one.ours, one.theirs) for one in differences(ours.encode(), theirs.encode())]
    if expected is None:
        assert [one[1] for one in told] == ["another value"]
    else:
        assert told == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=2), JSON, max_size=4)


def kinds(value: Any) -> Any:
    """Return a value with the type of each number beside it, and with the order of members."""
    if isinstance(value, dict):
        return (dict, [(name, kinds(of)) for name, of in value.items()])
    return [kinds(of) for of in value] if isinstance(value, list) else (type(value), value)


@given(OBJECTS, OBJECTS)
def test_objects_differ_where_they_are_not_the_same(one: Any, other: Any) -> None:
    told = differences(json.dumps(one).encode(), json.dumps(other).encode())
    assert bool(told) == (kinds(one) != kinds(other))
    assert differences(json.dumps(one).encode(), json.dumps(one, indent=1, ensure_ascii=False).encode()) == []


def test_floats_may_be_a_little_apart() -> None:
    source = lines('{"a":0.1}', '{"a":0.2}')

    def tripled(json_obj: dict[str, Any]) -> dict[str, Any]:
        return json_obj | {"b": (json_obj["a"] + json_obj["a"]) + json_obj["a"], "c": json_obj["a"] * 1.5}

    calculation = Calculation(b=pl.col("a") * 3, c=pl.col("a") * 1.25 + pl.col("a") / 4)
    strict = calculation.compare(tripled, io.BytesIO(source))
    assert all(one.kind == "another value" and 0 < (one.relative or 0) < 1e-15 for one in strict.found)
    assert calculation.compare(tripled, io.BytesIO(source), rel_tol=1e-12).same
    doubled = Calculation(b=pl.col("a") * 3, c=pl.col("a") * 3)
    assert not doubled.compare(tripled, io.BytesIO(source), rel_tol=1e-12).same


def test_lines_are_numbered_as_in_the_input_and_counted() -> None:
    source = b'\xef\xbb\xbf{"a":1}\r\n\n   \n{"a":2}\nnope\n{"a":3}\n{"a":"x"}\n{"a":4}\n{"a":5}\n{"a":6}'

    def function(json_obj: dict[str, Any]) -> dict[str, Any] | None:
        if json_obj["a"] == 3:
            raise LookupError("three")
        return {"a": json_obj["a"], "b": json_obj["a"] + (json_obj["a"] > 1)} if json_obj["a"] != 4 else None

    calculation = Calculation(b="a").filter(pl.col("a") != 6).with_schema({"a": pl.Int64})
    compared = calculation.compare(function, io.BytesIO(source))
    assert (compared.lines, compared.equal) == (8, 3)  # line 1; those that both reject: not JSON, and of another type
    assert found(compared) == [
        ("b", "another value", 2, [4, 9]),
        ("", "only one of them drops the line", 2, [8, 10]),
        ("", "only one of them rejects the line", 1, [6]),
    ]
    _, dropped, rejected = compared.found
    assert [(one.expressions, one.function) for one in dropped.examples] == [("kept", "dropped"), ("dropped", "kept")]
    assert rejected.examples[0].function == "the calculation failed: LookupError: three"
    assert "line 6: kept by the expressions, the calculation failed: LookupError: three by function(…)" in repr(
        compared
    )


@pytest.mark.parametrize(("most", "count", "whole"), [(1, 1, False), (3, 3, False), (5, 5, True), (9, 5, True)])
def test_the_first_lines_are_enough(most: int, count: int, whole: bool) -> None:
    source = numbered(5)
    compared = KEEP.compare(identity, io.BytesIO(source), most)
    assert (compared.lines, compared.whole, compared.same) == (count, whole, True)
    assert KEEP.compare(identity, io.BytesIO(source), None).lines == 5


def test_examples_are_few_and_as_a_frame() -> None:
    source = numbered(5000)
    compared = Calculation(b=pl.col("a") * 2).compare(lambda json_obj: json_obj | {"b": 0}, io.BytesIO(source), None)
    assert found(compared) == [("b", "another value", 4999, [2, 3, 4])]
    assert compared.to_frame().to_dicts()[0] == {
        "member": "b", "kind": "another value", "lines": 4999, "line": 2, "expressions": "2", "function": "0"
    }  # fmt: skip
    assert KEEP.compare(identity, io.BytesIO(source)).to_frame().is_empty()


def test_a_column_that_turns_out_to_hold_floats_starts_it_again(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(lines(*['{"a":1}'] * 1500, '{"a":1.5}'))

    def function(json_obj: dict[str, Any]) -> dict[str, Any]:
        return json_obj | {"b": float(json_obj["a"])}

    compared = Calculation(b=typed("a")).compare(function, path)
    assert (compared.lines, compared.same) == (1501, True)


def test_dropping_is_compared_too() -> None:
    source = lines('{"a":1,"b":2}', '{"b":3}')
    dropped: Callable[[dict[str, Any]], dict[str, Any]] = lambda json_obj: {"b": json_obj["b"]}  # noqa: E731
    assert Calculation().drop("a").compare(dropped, io.BytesIO(source)).same
    assert found(Calculation().drop("b").compare(dropped, io.BytesIO(source))) == [
        ("b", "only the function gives it", 2, [1, 2]),
        ("a", "only the expressions give it", 1, [1]),
    ]


def test_function_from_a_file_will_do(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("def calculation(json_obj):\n    json_obj['b'] = 1\n    return json_obj\n")
    old: Any = load(f"{tmp_path}/old.py")
    assert Calculation(b=pl.lit(1)).compare(old, io.BytesIO(lines('{"a":1}'))).same


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(CalculationError, match=r"^expected a function of one line, got int: 5$"):
        KEEP.compare(5, io.BytesIO())  # type: ignore[arg-type]


def test_very_deep_lines_are_compared_as_they_are() -> None:
    deep = b'{"a":' + b"[" * 511 + b"]" * 511 + b"}\n"
    assert KEEP.compare(identity, io.BytesIO(deep)).same


@settings(max_examples=40)
@given(tree=TREES.filter(varies), rows=ROWS)
def test_arithmetic_is_that_of_a_function_of_python(tree: Tree, rows: list[Row]) -> None:
    # A check in floats may also reject integers that are very near to the limit, which the function keeps.
    assume(expected(tree, rows, LIMIT - 2**98)[1] == expected(tree, rows)[1])

    def calculation(json_obj: dict[str, Any]) -> dict[str, Any]:
        numbers = {name: json_obj[name] for name in SCHEMA}
        json_obj["r"] = tree[1](numbers | {"limit": LIMIT})  # what is beyond Int128 raises, which rejects the line
        return json_obj

    expressions = Calculation(r=tree[0]).with_schema(SCHEMA)
    compared = expressions.compare(calculation, io.BytesIO(lines(*map(json.dumps, rows))))
    assert compared.same, compared
    assert compared.lines == len(rows)
