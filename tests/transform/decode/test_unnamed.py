"""Members that no expression names change nothing: no result, no type and no reject, wherever they are."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import json_texts
from tests.support.json_texts import object_of
from tests.support.trial import attempt, lines, refusal
from tests.support.tuned import Tuned
from tests.support.typed import typed
from transform import Calculation, SchemaError, TransformError
from transform.decode.inference import SampleSize
from transform.explore.check import check

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

element = pl.element()
items = pl.col("items")
city = pl.col("customer").struct.field("city")
zip_code = pl.col("customer").struct.field("address").struct.field("zip")
NAMING: dict[str, Calculation] = {
    "paths": Calculation(shout=city.str.to_uppercase(), z=zip_code * 2, zz=zip_code, more=pl.col("n") + 1),
    "presence": Calculation(c=city.is_null(), a=items.is_not_null(), z=zip_code.is_null(), l=items.list.len()),
    "elements": Calculation(p=items.list.eval(element.struct.field("price") * 2), l=items.list.len()),
    "two of the elements": Calculation(
        total=items.list.eval(element.struct.field("price") * element.struct.field("count")),
        present=items.list.eval(element.struct.field("sub").struct.field("x").is_not_null()),
    ),
    "deep in elements": Calculation(x=items.list.eval(element.struct.field("sub").struct.field("x") + 1)),
    "first element": Calculation(first=items.list.get(0, null_on_oob=True).struct.field("price") * 2),
    "filter": Calculation(o="n").filter((zip_code > 1) | items.list.get(0, null_on_oob=True).struct.field("ok")),
    "sql": Calculation.from_sql("upper(customer.city) AS c, customer.address.zip + 1 AS z", "n > 0"),
}
OTHERS = "~"
"""The names of members that nobody names begin with it."""
SAMPLE_LINES = 3
SHOWN = '{"n":1,"customer":{"city":"a","address":{"zip":1}},"items":[{"price":1,"count":1,"ok":true,"sub":{"x":1}}]}'
_WIDE = object_of([(f"m{number}", str(number)) for number in range(300)])
_DEEP = '{"x":[' * 100 + "]}" * 100
_other_values = json_texts.values() | st.sampled_from([_WIDE, _DEEP, "null", "[]", "{}", "1e999", r'"\ud83d"'])
Line = list[tuple[str, Any]]
"""The members of an object: of each the name, and a text or members again, or a list of these."""


def _some(draw: DrawFn, **parts: SearchStrategy[Any]) -> Line:
    return [(name, draw(part)) for name, part in parts.items() if draw(st.integers(0, 5))]


_integers = st.sampled_from(["0", "1", "-2", "7", "null"])
_numbers = _integers | st.sampled_from(["1.5", "1E1"])


@st.composite
def elements(draw: DrawFn) -> Any:
    if not draw(st.integers(0, 5)):
        return "null"
    sub: SearchStrategy[Any] = st.just("null") | st.builds(lambda x: [("x", x)], _numbers) | st.just([])
    return _some(draw, price=_numbers, count=_integers, ok=st.sampled_from(["true", "false", "null"]), sub=sub)


@st.composite
def rows(draw: DrawFn) -> Line:
    address: SearchStrategy[Any] = st.just("null") | st.builds(lambda z: [("zip", z)], _numbers) | st.just([])
    city = st.sampled_from(['"a"', '"é"', "null"])
    customer = st.just("null") | st.builds(lambda c, a: [("city", c), ("address", a)], city, address)
    array = st.just("null") | st.lists(elements(), max_size=3).map(tuple)
    return _some(draw, n=_integers, customer=customer, items=array)


def written(value: Any, draw: Any = None) -> str:
    """Return a value as text, given how to draw others to be put beside the members of each object, if any."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "[" + ",".join(written(element, draw) for element in value) + "]"
    members = [(name, written(part, draw)) for name, part in value]
    for number in range(draw(st.integers(0, 2)) if draw else 0):
        members.insert(draw(st.integers(0, len(members))), (f"{OTHERS}{number}", draw(_other_values)))
    return object_of(members)


@pytest.mark.parametrize("name", NAMING)
@settings(max_examples=12, deadline=None)
@given(data=st.data(), bodies=st.lists(rows(), min_size=1, max_size=5))
def test_they_change_nothing(name: str, data: st.DataObject, bodies: list[Line]) -> None:
    plain = lines(SHOWN, *(written(body) for body in bodies))
    shown = data.draw(st.sampled_from([[], [SHOWN] * SAMPLE_LINES]))  # the others come within the sample, or after it
    with_others = lines(*shown, SHOWN, *(written(body, data.draw) for body in bodies))
    calculation = Tuned(NAMING[name], sample_size=SampleSize(SAMPLE_LINES))
    outcome, other = attempt(plain, calculation), attempt(with_others, calculation)
    kept, found = outcome.output.split(b"\n")[:-1], other.output.split(b"\n")[:-1]
    kept = kept[:1] * len(shown) + kept
    assert [without_others(line) for line in found] == [without_others(line) for line in kept]
    assert other.rejects == []
    assert other.summary.schema == outcome.summary.schema
    # all that is in the input is in the output
    sources = [line for line in with_others.split(b"\n")[:-1] if not NAMING[name].spec_for("").filters]
    assert all(line.startswith(source[:-1]) for source, line in zip(sources, found, strict=False))


def without_others(line: bytes) -> Any:
    def kept(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in pairs if not name.startswith(OTHERS)]

    return json.loads(line, object_pairs_hook=kept, parse_int=_spelled, parse_float=_spelled)


def _spelled(number: str) -> tuple[str, str]:
    return "number", number


@pytest.mark.parametrize("name", NAMING)
@settings(max_examples=6, deadline=None)
@given(
    bodies=st.lists(rows(), min_size=1, max_size=6), source=st.randoms(use_true_random=False), size=st.integers(1, 7)
)
def test_order_of_members_size_of_sample_and_of_chunks_change_no_result(
    name: str, bodies: list[Line], source: Any, size: int
) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return source.sample([(name, shuffled(part)) for name, part in value], len(value))
        return tuple(shuffled(part) for part in value) if isinstance(value, tuple) else value

    calculation = NAMING[name].select()
    plain = attempt(lines(SHOWN, *(written(body) for body in bodies)), calculation)
    other = attempt(
        lines(SHOWN, *(written(shuffled(body)) for body in bodies)),
        Tuned(calculation, sample_size=SampleSize(size)),
        chunk_bytes=source.choice([1, 30, 500]),
    )
    assert (other.output, other.rejects) == (plain.output, plain.rejects) == (plain.output, [])
    assert other.summary.schema == plain.summary.schema


# --- what has no type yet ------------------------------------------------------------------------------------------

price = items.list.eval(element.struct.field("price") * 2)
UNSETTLED: list[tuple[Calculation, str, str, str]] = [
    (Calculation(r=typed("v")), '{"v":%s}', "v", "List(Int64)"),
    (Calculation(r=pl.col("v").list.first()), '{"v":%s}', "v", "List(Int64)"),
    (Calculation(r=typed("o").struct.field("v")), '{"o":{"v":%s}}', "o.v", "List(Int64)"),
    (Calculation(r=pl.col("o").struct.field("v") == 1), '{"o":{"v":%s}}', "o.v", "Int64"),
    (Calculation(r=price), '{"items":[{"price":%s}]}', "items[].price", "List(Struct({'price': Int64}))"),
]


@pytest.mark.parametrize(("calculation", "line", "name", "dtype"), UNSETTLED[:2] + UNSETTLED[3:], ids=str)
@pytest.mark.parametrize("shown", [["null"], ["[]"], ["{}"], ["null", "[]"], ["{}", "null"]], ids=str)
def test_a_column_that_shows_no_type_is_an_error(
    calculation: Calculation, line: str, name: str, dtype: str, shown: list[str]
) -> None:
    column = name.partition("[")[0]
    message = refusal(lines(*(line % value for value in shown)), calculation, SchemaError)
    only = next((value for value in shown if value != "null"), "null")
    assert message.startswith(f"column `{name}` is only {only} in the input ({len(shown)} line")
    assert f"Declare its type: --schema {column}=TYPE, or .with_schema({{'{column}': pl.TYPE}})" in message
    # Done as it says, it works.
    declared = attempt(lines(line % "null"), calculation.with_schema({column: dtype}))
    assert declared.summary.schema == {column: (dtype, "declared")}


@pytest.mark.parametrize("array", ["[]", "[null]", "null", "[{}]"])
def test_an_array_without_elements_shows_no_type_of_their_members(array: str) -> None:
    message = refusal(lines(f'{{"items":{array}}}'), Calculation(r=price), SchemaError)
    assert message.startswith("column `items")
    assert "--schema items=TYPE" in message
    assert attempt(lines(f'{{"items":{array}}}'), Calculation(r=items.is_null())).values() == [array == "null"]


# --- types that are closed -----------------------------------------------------------------------------------------

CLOSED: dict[str, tuple[pl.Expr, str, str]] = {
    "with fields": (pl.col("v").struct.with_fields(pl.field("x") * 2), "{}", "{'x': Int128}"),
    "encoded": (pl.col("v").struct.json_encode(), "{}", "{'x': Int128}"),
    "the whole": (typed("v"), "{}", "{'x': Int128}"),
    "elements": (pl.col("v").list.eval(element.filter(element.struct.field("x") > 0)), "[{}]", "{'x': Int128}"),
    "sorted": (pl.col("v").list.reverse(), "[{}]", "{'x': Int128}"),
    "within an object": (pl.col("v").struct.with_fields(pl.field("x")), '{{"x":{}}}', "{'x': Struct({'x': Int128})}"),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("company", [0, 2])
@pytest.mark.parametrize("other", ["late", r"l\u0061te", "x y`z"])
def test_a_member_first_seen_after_the_sample_has_the_line_rejected(name: str, company: int, other: str) -> None:
    expr, wrap, _ = CLOSED[name]
    good, bad = (f'{{"v":{wrap.format(inner)}}}' for inner in ('{"x":1}', f'{{"x":1,"{other}":null}}'))
    calculation = Tuned(Calculation(r=expr), sample_size=SampleSize(1))
    outcome = attempt(lines(*[good] * (1 + company), bad, good), calculation)
    said = json.loads(f'"{other}"')
    assert outcome.reasons == [f"column `v`: a member that its type does not have, and that would be lost: `{said}`"]
    assert outcome.rejects[0]["raw"] == bad
    # Within the sample it is part of the type, and written.
    whole = attempt(lines(good, bad), Calculation(r=expr))
    assert whole.rejects == []
    assert said in json.dumps(whole.values()[1])


@pytest.mark.parametrize("name", CLOSED)
def test_check_notes_that_a_type_is_closed(name: str) -> None:
    expr, wrap, dtype = CLOSED[name]
    data = io.BytesIO(lines(f'{{"v":{wrap.format(chr(123) + chr(34) + "x" + chr(34) + ":1}")}}}'))
    found = check(Calculation(r=expr).spec_for(data), data)
    assert found.closed == ("v",)
    (note,) = [note for note in found.summary.notes if "as a whole" in note]
    assert note.startswith("objects in `v` are used as a whole: a line where one has a member that is not in its type")
    assert dtype in note


@pytest.mark.parametrize("name", NAMING)
def test_check_has_no_such_note_of_what_is_named(name: str) -> None:
    data = io.BytesIO(lines(SHOWN))
    found = check(NAMING[name].spec_for(data), data)
    assert found.closed == ()
    assert not any("as a whole" in note for note in found.summary.notes)


# --- integers that floats cannot be --------------------------------------------------------------------------------

LARGE = (2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, -(2**53), 2**54, 10**30, -(10**300))
_large = st.sampled_from([*map(str, LARGE), "9007199254740993.0", "1e300", "null", "1", "0.5"])
FLOATS: dict[str, tuple[Calculation, str, str]] = {
    "column": (Calculation(r=pl.col("v") * 2), "{}", "v"),
    "list": (Calculation(r=pl.col("v").list.eval(element * 2)), "[1,{},{}]", "v"),
    "object": (Calculation(r=typed("v")), '{{"x":{},"y":[{}]}}', "v"),
    "path": (Calculation(r=pl.col("v").struct.field("x") * 2), '{{"x":{},"other":9007199254740993}}', "v.x"),
    "elements": (
        Calculation(r=pl.col("v").list.eval(element.struct.field("x") * 2)),
        '[{{"x":{},"other":[9007199254740993,1e999]}},null,{{"x":{}}}]',
        "v",
    ),
    "replaced": (Calculation(v=pl.col("v") * 2), "{}", "v"),
}


@pytest.mark.parametrize("name", FLOATS)
@settings(max_examples=12, deadline=None)
@given(texts=st.lists(st.tuples(_large, _large), max_size=5), bad=st.booleans(), chunk_bytes=st.sampled_from([1, 9999]))
@example(texts=[(str(2**53 + 1), str(2**53))], bad=True, chunk_bytes=9999)
def test_integers_that_floats_cannot_be_are_counted(
    name: str, texts: list[tuple[str, str]], bad: bool, chunk_bytes: int
) -> None:
    calculation, wrap, column = FLOATS[name]
    holes = wrap.count("{}")
    used = [pair[:holes] for pair in texts]
    body = [f'{{"v":{wrap.format(*pair)}}}' for pair in [("0.5", "0.5")[:holes], *used]]
    outcome = attempt(
        lines(*body, *["nope", '{"v":"x"}', "null"] * bad),
        Tuned(calculation, sample_size=SampleSize(1)),
        chunk_bytes=chunk_bytes,
    )
    count = sum(text.lstrip("-").isdigit() and abs(int(text)) > 2**53 for pair in used for text in pair)
    assert outcome.summary.inexact == ({column: count} if count else {})


def test_integers_do_not_count_that_are_exact_or_not_computed_with() -> None:
    big = str(10**30 + 1)
    data = lines('{"v":0.5,"i":1}', f'{{"v":{big},"i":{big}}}')
    unchanged = attempt(data, Calculation(r="v", i=pl.col("i") * 2))
    assert unchanged.summary.inexact == {}
    assert unchanged.output.splitlines()[1] == f'{{"v":{big},"i":{2 * int(big)},"r":{big}}}'.encode()
    assert attempt(data, Calculation(r="v", s=pl.col("v") * 2)).summary.inexact == {"v": 1}


SCALARS = st.sampled_from(["1", "2.5", '"x"', "null", "[]", "true", "-7"])


@given(
    lines_of=st.lists(st.lists(st.tuples(st.sampled_from("ab"), SCALARS), max_size=4), min_size=1, max_size=5),
    within=st.sampled_from(["{}", "[{}]"]),
)
def test_of_duplicates_within_an_object_the_last_counts(lines_of: list[list[tuple[str, str]]], within: str) -> None:
    """Only the last may decide the type, whether the line is rejected, and the value; and the run comes to an end."""
    texts = ["{" + ",".join(f'"{name}":{text}' for name, text in members) + "}" for members in lines_of]
    once = [json.dumps(json.loads(text), separators=(",", ":")) for text in texts]
    v = pl.col("v")
    whole = v.struct.with_fields(z=1) if within == "{}" else v.list.eval(pl.element().struct.with_fields(z=1))

    def outcome(objects: list[str]) -> object:
        data = lines(*(f'{{"v":{within.replace("{}", text)}}}' for text in ('{"a":1,"b":2}', *objects)))
        try:
            found = attempt(data, Calculation(r=whole))
        except TransformError as error:
            return str(error)
        return [row["r"] for row in found.rows], found.summary.schema, found.reasons

    assert outcome(texts) == outcome(once)


TAKEN: dict[str, pl.Expr] = {
    "slice": pl.col("l").list.slice(0, 1).list.eval(pl.element().struct.field("a") * 2),
    "head": pl.col("l").list.head(1).list.len(),
    "tail": pl.col("l").list.tail(1).list.get(0).struct.field("a") + 1,
    "drop_nulls": pl.col("l").list.drop_nulls().list.get(pl.col("i")).struct.field("a") + 1,
    "gather": pl.col("l").list.gather([0]).list.eval(pl.element().struct.field("a") * 2),
}


@pytest.mark.parametrize("taken", TAKEN)
def test_of_some_elements_of_an_array_only_what_is_named_is_read(taken: str) -> None:
    data = lines('{"l":[{"a":1,"z":2},{"a":2,"z":"x"}],"i":1}', '{"l":[{"a":5,"q":[1,{}]}],"i":0}')
    outcome = attempt(data, Calculation(r=TAKEN[taken]))
    assert (outcome.summary.lines_out, outcome.summary.rejected) == (2, 0)
    assert outcome.summary.schema.get("l", ("",))[0] == ("" if taken == "head" else "List(Struct({'a': Int128}))")


def test_what_is_mixed_within_arrays_is_said() -> None:
    with pytest.raises(SchemaError, match="2 arrays, but what they contain has no common type"):
        attempt(lines('{"l":[1]}', '{"l":["x"]}'), Calculation(r=pl.col("l").list.reverse()))
