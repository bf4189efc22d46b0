"""A result that is a member as it is has the bytes of the member, whatever is beside it and however it is decoded."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import json_texts, reference
from tests.support.json_texts import object_of
from tests.support.reference import Spec, Unchanged
from tests.support.trial import attempt, column, lines
from tests.support.tuned import Tuned
from transform import Calculation

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from tests.support.trial import Outcome
    from transform.runnable import Runnable

PATH = ("p", "q", "r", "s")
WRONG = st.sampled_from(['"text"', "[]", '[{"q":1}]', "7", "true"])
SHOWN = '{"n":1,"id":0,"p":{"q":{"r":{"s":0}}}}'
"""A line that has all the members."""


def at(path: tuple[str, ...]) -> pl.Expr:
    expr = pl.col(path[0])
    for name in path[1:]:
        expr = expr.struct.field(name)
    return expr


@st.composite
def members(draw: DrawFn, names: tuple[str, ...] = PATH) -> list[tuple[str, str]]:
    """Draw the members of an object that may have the first name, likely with an object that has the next, and so on.

    Of duplicates the last counts, so others are put before it, or after it.
    """
    found = draw(st.lists(st.tuples(st.sampled_from(json_texts.NAMES), json_texts.values()), max_size=2))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2]))):
        kind = draw(st.sampled_from(["within"] * 8 + ["null", "any", "wrong"]))
        if len(names) == 1 or kind == "any":
            value = draw(json_texts.values())
        elif kind == "within":
            value = object_of(draw(members(names[1:])), draw(st.sampled_from(["", " "])))
        else:
            value = "null" if kind == "null" else draw(WRONG)
        spelled = draw(st.sampled_from([names[0]] * 3 + [f"\\u{ord(names[0]):04x}"]))
        found.insert(draw(st.integers(0, len(found))), (spelled, value))
    return found


@st.composite
def rows(draw: DrawFn) -> str:
    found = draw(members())
    for name, values in (("n", st.sampled_from(["1", "-7", "null", "0"])), ("id", json_texts.values())):
        for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
            found.insert(draw(st.integers(0, len(found))), (name, draw(values)))
    return object_of(found, draw(st.sampled_from(["", " "])))


BAD = st.sampled_from(["nope", "", "[1]", '{"n":1}}', '{"p":{"q":}}', '{"id":"\xff"}', " "])


def doubled(row: dict[str, Any]) -> Any:
    return None if row["n"] is None else row["n"] * 2


def checked(data: bytes, calculation: Runnable, spec: Spec, **options: Any) -> Outcome:
    expected = reference.transform(data, spec)
    outcome = attempt(data, calculation, **options)
    reference.match(expected, outcome.output)
    assert [reject["line"] for reject in outcome.rejects] == [reject.line for reject in expected.rejects]
    for reject, found in zip(expected.rejects, outcome.rejects, strict=True):
        if reject.kind == "type":
            assert re.fullmatch(r"column `p(\.q|\.q\.r)?`: expected an object, found an? \w+", found["reason"])
    assert outcome.summary.inexact == {}
    return outcome


@pytest.mark.parametrize("typed", ["nothing else", "inferred", "declared", "filter"])
@settings(max_examples=15, deadline=None)
@given(
    bodies=st.lists(rows() | rows() | rows() | BAD, max_size=6),
    depth=st.integers(1, 4),
    target=st.sampled_from(["new", "id", "n", "p"]),
    drop=st.sampled_from([(), ("p",), ("id", "n")]),
    chunk_bytes=st.sampled_from([1, 60, 1 << 16]),
)
def test_it_has_the_bytes_of_the_member(
    typed: str, bodies: list[str], depth: int, target: str, drop: tuple[str, ...], chunk_bytes: int
) -> None:
    path = PATH[:depth]
    results = {target: at(path), "m": pl.col("n"), "whole": pl.col("id"), "up": at(path[: max(1, depth - 1)])}
    of: list[Any] = [
        (target, Unchanged(path)),
        *(("m", Unchanged(("n",))), ("whole", Unchanged(("id",))), ("up", Unchanged(path[: max(1, depth - 1)]))),
    ]
    if typed != "nothing else":
        results |= {"twice": pl.col("n") * 2}
        of += [("twice", doubled)]
    calculation = Calculation(**results).drop(*drop)
    keep = None
    if typed == "declared":
        calculation = calculation.with_schema({"n": pl.Int64})
    if typed == "filter":
        calculation, keep = calculation.filter(pl.col("n") > 0), lambda row: None if row["n"] is None else row["n"] > 0
    columns = {} if typed == "nothing else" else {"n": "integer"}
    spec = Spec(columns, tuple(of), keep, drop=frozenset(drop))
    data = lines(SHOWN, *bodies).replace("\xff".encode(), b"\xff")
    checked(data, calculation, spec, chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("name", PATH)
@pytest.mark.parametrize("kind", ['"x"', "[1]", "7", "true"])
@pytest.mark.parametrize("company", [0, 2])
def test_a_line_is_rejected_if_something_else_than_an_object_is_on_the_way(name: str, kind: str, company: int) -> None:
    way = PATH[: PATH.index(name) + 1]
    line = "".join(f'{{"{step}":' for step in way) + kind + "}" * len(way)
    outcome = attempt(lines(*[SHOWN] * (company + 1), line, SHOWN), Calculation(x=at(PATH)))
    if name == PATH[-1]:
        assert outcome.values("x")[company + 1] == json.loads(kind)
        return
    article = "an" if kind in ("[1]", "7") else "a"
    found = {'"x"': "string", "[1]": "array", "7": "integer", "true": "boolean"}[kind]
    assert outcome.reasons == [f"column `{'.'.join(way)}`: expected an object, found {article} {found}"]
    assert outcome.rejects[0]["line"] == company + 2


def test_values_of_a_declared_type_are_checked_and_stay_as_they_are() -> None:
    declared = Calculation(x=at(PATH[:2]), y="n").with_schema({"p": pl.Struct({"q": pl.Float64}), "n": pl.Int8})
    good = '{"p":{"q":1.50,"other":1},"n":-0}'
    outcome = attempt(lines(good, '{"p":{"q":"1"}}', '{"n":128}', '{"p":{"q":1e999}}'), declared)
    assert outcome.output == lines(good[:-1] + ',"x":1.50,"y":-0}')
    assert outcome.reasons == [
        'column `p.q`: expected a number, found a string: "1"',
        "column `n`: out of range for Int8: 128",
        "column `p.q`: out of range for Float64: 1e999",
    ]
    assert outcome.summary.schema == {"p.q": ("Float64", "declared"), "n": ("Int8", "declared")}


@pytest.mark.parametrize("values", [["1", '"x"'], ["null"], ["[]"], ["{}"], ["[1,[]]", "true"]], ids=str)
def test_it_needs_no_type(values: list[str]) -> None:
    outcome = attempt(lines(*(f'{{"v":{value}}}' for value in values)), Calculation(r="v"))
    assert outcome.output == lines(*(f'{{"v":{value},"r":{value}}}' for value in values))
    assert outcome.summary.schema == {}


@pytest.mark.parametrize("calculation", [Calculation(r="v"), Calculation.from_sql("v AS r")])
def test_a_member_that_no_line_has_is_an_error_all_the_same(calculation: Calculation) -> None:
    with pytest.raises(Exception, match="there is no column `v` in the input"):
        attempt(column([1], name="w"), calculation)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("chunk_bytes", [400, 1 << 16])
def test_any_number_of_workers_gives_the_same(workers: int, chunk_bytes: int) -> None:
    texts = random.Random(7)
    body = [
        f'{{"id":{texts.choice(json_texts.SCALARS)},"n":{number},"p":{{"q":{texts.choice(json_texts.SCALARS)}}}}}'
        if number % 50
        else "nope"
        for number in range(1, 400)
    ]
    spec = Spec(
        {"n": "integer"},
        (("id", Unchanged(("p", "q"))), ("x", Unchanged(("id",))), ("n", doubled)),
        lambda row: int(str(row["n"])) % 3 != 0,
    )
    calculation = Calculation(id=at(PATH[:2]), x="id", n=pl.col("n") * 2).filter(pl.col("n") % 3 != 0)
    outcome = checked(
        lines(*body), Tuned(calculation, only_processes=False), spec, workers=workers, chunk_bytes=chunk_bytes
    )
    assert outcome.summary.rejected == 399 // 50
