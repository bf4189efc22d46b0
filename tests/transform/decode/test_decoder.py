"""A chunk of lines becomes rows, spans and rejects, each line judged as if it were alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.reference import BLANK, Rejected, Spec, faults, parse, read
from tests.support.strategies import AWKWARD, SMALL_LIMIT_BYTES, lines
from transform.decode.decoder import Decoder
from transform.decode.line_errors import CUT_KIND
from transform.decode.schema import Column, Read
from transform.errors import WidenError
from transform.io.chunks import LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES, Chunk
from transform.native.binding import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transform.decode.decoder import Decoded
    from transform.decode.rejects import Reject

MAX_DEPTH = 512
OFFSET = 1_000
TYPES: dict[str, pl.DataType] = {
    "float": pl.Float64(),
    "integer": pl.Int128(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    **{name: getattr(pl, name)() for name in ("Int8", "Int64", "UInt8", "UInt64")},
}
REASONS = {
    "too long": "longer than",
    "utf8": "not valid UTF-8: ",
    "depth": f"nested deeper than {MAX_DEPTH} levels",
    "json": "not valid JSON: ",
    "object": "not a JSON object: ",
}


def decode(data: bytes, columns: Mapping[str, object], targets: Sequence[str] = (), **options: Any) -> Decoded:
    typed = {name: c if isinstance(c, Column) else Column(TYPES[str(c)]) for name, c in columns.items()}
    return Decoder(typed, targets, **options).decode(Chunk(memoryview(bytearray(data)), OFFSET))


def check(data: bytes, kinds: dict[str, str], targets: Sequence[str] = (), limit: int = MAX_LINE_BYTES) -> Decoded:
    """Compare everything that is decoded with what the reference says of each line by itself."""
    decoded = decode(data, kinds, targets, max_line_bytes=limit)
    spec, start, blank = Spec(kinds, max_line_bytes=limit), 0, 0
    rows: list[dict[str, object]] = []
    places: list[tuple[int, int, bool]] = []
    spans: dict[str, list[tuple[int, int, int]]] = {name: [] for name in targets}
    rejects = iter(decoded.rejects)
    for index, line in enumerate(data.removesuffix(b"\n").split(b"\n")):
        try:
            if len(line) > limit:
                raise Rejected("too long")
            if not line.strip(BLANK):
                blank += 1
            else:
                document = parse(line, spec)
                values = read(line, document, kinds)
                for name in targets:
                    if (member := document.last(name)) is not None:
                        spans[name].append((len(rows), start + member.start, start + member.end))
                places.append((index, start + document.close, not document.members))
                rows.append(values)
        except Rejected as rejected:
            check_reject(next(rejects), index, start, line, str(rejected), spec)
        start += len(line) + 1
    assert (list(rejects), decoded.blank) == ([], blank)
    found, rows_of = decoded.found, decoded.lines.tolist()
    assert [(line, int(found.closes[line]), bool(found.empty[line])) for line in rows_of] == places
    assert decoded.frame.height == len(rows)
    assert not kinds or decoded.frame.to_dicts() == rows
    assert dict(decoded.frame.schema) == {name: Column(TYPES[kind]).evaluated for name, kind in kinds.items()}
    for name in targets:
        starts, ends = (places[decoded.lines].tolist() for places in decoded.places((name,)))
        there = [(row, *span) for row, span in enumerate(zip(starts, ends, strict=True)) if span[0] != MISSING]
        assert there == spans[name]
    return decoded


def check_reject(reject: Reject, index: int, start: int, line: bytes, kind: str, spec: Spec) -> None:
    raw = line[:LONG_LINE_HEAD_BYTES] if kind == "too long" else line
    length = len(line) if len(raw) < len(line) else None
    assert (reject.line, reject.offset, reject.raw, reject.length) == (index, OFFSET + start, raw, length)
    assert reject.reason.startswith(reject.kind)
    check_reason(reject.reason, kind, line, spec)


def check_reason(reason: str, kind: str, line: bytes, spec: Spec) -> None:
    if kind in REASONS:
        assert reason.startswith(REASONS[kind])
        return
    found = faults(line, parse(line, spec), spec.columns)
    # a float beyond all doubles in a column of integers is both of the wrong type and out of range
    words = {"type": ("expected", "out of range"), "range": ("out of range",), "surrogate": ("holds a lone surrogate",)}
    accepted = [f"column `{name}`: {word}" for name, fault in found.items() for word in words[fault]]
    assert reason.startswith(tuple(accepted))


ALL = {"stars": "float", "count": "integer", "name": "string", "open": "boolean"}
READS: list[tuple[dict[str, str], tuple[str, ...]]] = [
    (ALL, ("new",)),
    (ALL, ("count", "id", "stars")),
    ({"count": "Int64", "name": "string"}, ()),
    ({}, ("name", "count")),
    ({AWKWARD: "string", "count": "UInt8"}, (AWKWARD, "open")),
    ({"count": "integer"}, (AWKWARD, "count")),
]


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=120, deadline=None)
@given(
    bodies=st.lists(lines(), min_size=1, max_size=8),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    reads=st.sampled_from(READS),
    limit=st.sampled_from([SMALL_LIMIT_BYTES, MAX_LINE_BYTES]),
)
def test_lines_of_any_sort_are_judged_as_the_reference_judges_them(
    bodies: list[bytes], end: bytes, last: bool, reads: tuple[dict[str, str], tuple[str, ...]], limit: int
) -> None:
    data = end.join(bodies) + (end if last or not bodies[-1] else b"")
    check(data, *reads, limit)


FRAGMENTS = (
    *('{"a":1}', '{"a":2}', "{}", '{"b":{}}', '{"b":', "{", "}", '{"a":{', '"a":1}}', "", " ", '{"b":"', '"}', "["),
    *("]", ",", '{"a":1}{"b":', '{"a":1}}', '{"b":{}', ',"c":1}{"a":1}', '{"a":[', "]}", '{"a":1}{"a":2}', "1}"),
)


@settings(max_examples=250, deadline=None)
@given(fragments=st.lists(st.sampled_from(FRAGMENTS), min_size=2, max_size=6), reads_a=st.booleans())
@example(fragments=['{"a":1}{"b":', '{"a":1}}'], reads_a=True)  # both open, and the last closes
@example(fragments=['{"b":', '{"a":1}}{"a":2}'], reads_a=True)
@example(fragments=['{"b":{}', ',"c":1}{"a":1}'], reads_a=False)  # both close, and the first opens
@example(fragments=['{"a":1}{"a":2}', "{}", '{"b":', '{"a":1}}', '{"a":2}'], reads_a=True)
@example(fragments=['{"a":1}', '{"a":2}{"b":', '{"a":1}}', '{"a":1}'], reads_a=False)
def test_objects_do_not_hide_that_lines_beside_them_are_none(fragments: list[str], reads_a: bool) -> None:
    check("\n".join(fragments).encode() + b"\n", {"a": "integer"} if reads_a else {}, ["b"])


OPENERS = {"[": "]", '{"a":': "}", '[{"]":': "}]"}


@settings(max_examples=40, deadline=None)
@given(
    depths=st.lists(st.tuples(st.integers(MAX_DEPTH - 2, MAX_DEPTH + 3), st.sampled_from(list(OPENERS))), max_size=4),
    reads=st.sampled_from([({}, ()), ({}, ("",)), ({"id": "integer"}, ("id",)), ({AWKWARD: "string"}, ())]),
)
@example(depths=[(MAX_DEPTH + 1, "[")], reads=({}, ()))
@example(depths=[(MAX_DEPTH, "["), (MAX_DEPTH, '{"a":'), (MAX_DEPTH, "[")], reads=({}, ("",)))
def test_depth_is_limited_alike_for_lines_alone_and_side_by_side(
    depths: list[tuple[int, str]], reads: tuple[dict[str, str], tuple[str, ...]]
) -> None:
    # the shortest such lines are the hardest to tell from others
    nested = ['{"id":7}', '{"":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}"]
    for depth, opener in depths:
        times, rest = divmod(depth - 1, len(opener.strip('"a]:')))
        inner = "" if opener == "[" else "1"
        nested.append('{"":' + "[" * rest + opener * times + inner + OPENERS[opener] * times + "]" * rest + "}")
    check("\n".join(nested).encode(), *reads)
    side_by_side = decode("\n".join(nested).encode(), {}, [""])
    assert [r.line for r in side_by_side.rejects] == [i for i, (d, _) in enumerate(depths, 2) if d > MAX_DEPTH]


def test_brackets_side_by_side_or_in_strings_are_not_nested() -> None:
    beside = '{"a":[' + ",".join(["[]"] * 600) + "]}"
    text = '{"a":"\\"' + "[{" * 600 + '", "b":' + "[" * 511 + "]" * 511 + "}"
    assert len(check("\n".join([beside, text, beside, "{}"]).encode(), {"id": "integer"}, ["a"]).lines) == 4
    too_long = check("\n".join(["{}", beside, "{}"]).encode(), {}, ["a"], len(beside) - 1)
    assert [reject.line for reject in too_long.rejects] == [1]
    unclosed = '{"a":' + "[" * 511
    rejects = check("\n".join([unclosed, unclosed + "[" * 600, "{}"]).encode(), {}).rejects
    assert [r.kind for r in rejects] == [CUT_KIND, f"nested deeper than {MAX_DEPTH} levels"]


HIGH = (r"\ud83d", r"\uD83D", r"\ud900", r"\uda00", r"\uDA00", r"\udbff", r"\uDBFF")
LOW = (r"\ude00", r"\uDE00", r"\udc00", r"\uDC00", r"\udd00", r"\uDD00", r"\udfff", r"\uDFFF")
UNITS = st.lists(st.sampled_from((*HIGH, *LOW, "a", r"\\", r"\n", "u", "d83d", r"\u0041")), min_size=1, max_size=5)
TEXTS = st.tuples(st.sampled_from(HIGH), st.sampled_from(LOW)).map("".join) | UNITS.map("".join)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    other=TEXTS,
    where=st.sampled_from(["read", "replaced", "neither", "within", "a name"]),
    company=st.integers(0, 2),
)
@example(text=r"\udc00\udc00", other="", where="neither", company=2)
@example(text=r"\ud83d\ud83d", other="", where="neither", company=2)
@example(text=r"\ude00\ud83d", other=r"\uDBFF\uDFFF", where="neither", company=2)
@example(text=r"\ud83d", other=r"\ud83d", where="read", company=0)
def test_lone_surrogates_pass_in_any_order_unless_a_column_read_holds_them(
    text: str, other: str, where: str, company: int
) -> None:
    read_text = text if where == "read" else other
    line = {
        "read": f'{{"r":"{text}","t":1,"x":"{other}"}}',
        "replaced": f'{{"t":"{text}","r":"{other}"}}',
        "neither": f'{{"x":"{text}","t":2,"r":"{other}"}}',
        "within": f'{{"x":[{{"y":"{text}"}}],"t":{{}},"r":"{other}"}}',
        "a name": f'{{"{text}":1,"t":[],"r":"{other}"}}',
    }[where]
    good = ['{"r":"r","t":0}'] * company
    decoded = check("\n".join([*good, line, *good]).encode(), {"r": "string"}, ["t"])
    lone = any("\ud800" <= character <= "\udfff" for character in json.loads(f'"{read_text}"'))
    assert [reject.line for reject in decoded.rejects] == [company] * lone


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 70), bad=st.sets(st.integers(0, 69), max_size=4), text=st.sampled_from([b"\xc3", b"\xff"]))
@example(count=17, bad={16}, text=b"\xc3")
@example(count=40, bad={19}, text=b"\xff")
@example(count=40, bad={20}, text=b"\xff")
@example(count=70, bad={0, 34, 35, 69}, text=b"\xc3")
def test_just_the_lines_that_are_not_utf8_are_rejected(count: int, bad: set[int], text: bytes) -> None:
    body = [b'{"s":"%b","id":%d}' % (text if index in bad else "é".encode(), index) for index in range(count)]
    decoded = check(b"\n".join(body), {"id": "integer"}, ["id"])
    assert [reject.line for reject in decoded.rejects] == sorted(index for index in bad if index < count)


SPACES = st.text(" \t\r", max_size=3) | st.text(" \t\r", min_size=5, max_size=9)


@settings(max_examples=60, deadline=None)
@given(
    spaces=st.lists(st.tuples(SPACES, SPACES, SPACES), min_size=1, max_size=5),
    members=st.lists(st.sampled_from(["", '"a":1', '"a": 2 ,"b":"}" ', '"b":[{}]', None]), min_size=5, max_size=5),
)
def test_white_space_around_and_within_objects_moves_nothing(
    spaces: list[tuple[str, str, str]], members: list[str | None]
) -> None:
    data = "\n".join(
        before + ("" if inner is None else "{" + within + inner + "}") + after
        for (before, within, after), inner in zip(spaces, members, strict=False)
    )
    check(data.encode() + b"\n", {"a": "integer"}, ["a", "b"])


BIG = (2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**127 - 1, 2**127, 10**60, 0, -1, -(2**63) - 1, -(2**127), -(2**127) - 1)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([1, 2, *BIG]), st.sampled_from([*BIG, "x", None]), st.booleans()),
        min_size=1,
        max_size=7,
    ),
    kind=st.sampled_from(["integer", "UInt64", "Int64", "Int8"]),
    targets=st.sampled_from([(), ("t",), ("a", "t"), (AWKWARD, "b")]),
)
def test_rows_out_of_range_leave_the_others_values_and_spans_right(
    rows: list[tuple[int, object, bool]], kind: str, targets: tuple[str, ...]
) -> None:
    texts = []
    for a, b, has_target in rows:
        texts.append(f'{{"a":{a},"b":{json.dumps(b)}' + (',"t":[1, 2]}' if has_target else "}"))
        texts += ["", "nope"] if has_target else []
    check("\n".join(texts).encode() + b"\n", {"a": kind, "b": "integer"}, targets)


REASON_TABLE: list[tuple[pl.DataType, str, str]] = [
    (pl.Int8(), "1.5", "expected an integer, found a float: 1.5"),
    (pl.Int64(), "[]", "expected an integer, found an array: []"),
    (pl.UInt8(), "256", "out of range for UInt8: 256"),
    (pl.UInt8(), "-1", "out of range for UInt8: -1"),
    (pl.UInt64(), str(2**64), f"out of range for UInt64: {2**64}"),
    (pl.Int128(), str(2**127), f"out of range for Int128: {2**127}"),
    (pl.Float64(), "1e999", "out of range for Float64: 1e999"),
    (pl.Float64(), "true", "expected a number, found a boolean: true"),
    (pl.String(), "17", "expected a string, found an integer: 17"),
    (pl.String(), '{"a":"' + "x" * 32 + '"}', 'expected a string, found an object: {"a":"' + "x" * 32 + '"}'),
    (pl.String(), '{"a":"' + "x" * 33 + '"}', 'expected a string, found an object: {"a":"' + "x" * 33 + "…"),
    (pl.Boolean(), '"true"', 'expected a boolean, found a string: "true"'),
    (pl.List(pl.Int64()), "{}", "not of type List(Int64): Expected `array | null`, got `object`"),
    (pl.List(pl.Int8()), "[1,128]", "out of range for List(Int8): [1,128]"),
    (pl.List(pl.UInt64()), f"[{2**64}]", f"out of range for List(UInt64): [{2**64}]"),
    (pl.List(pl.Int128()), "[-1" + "0" * 39 + "]", "out of range for List(Int128): [-1" + "0" * 36 + "…"),
    (
        pl.Struct({"x": pl.Int128()}),
        f'{{"x":{2**127}}}',
        f"out of range for Struct({{'x': Int128}}): {{\"x\":{2**127!s:.34}…",
    ),
    (pl.Struct({"x": pl.UInt64()}), '{"x":-1}', "out of range for Struct({'x': UInt64}): {\"x\":-1}"),
]


@pytest.mark.parametrize(("dtype", "value", "reason"), REASON_TABLE, ids=lambda value: str(value)[:30])
def test_reason_tells_what_was_expected_and_found_alone_and_in_company(
    dtype: pl.DataType, value: str, reason: str
) -> None:
    bad, good = f'{{"a":{value}}}', '{"a":null}'
    for texts in ([bad], [good, bad, good], [bad, bad]):
        for targets in ([], ["a"]):
            decoded = decode("\n".join(texts).encode(), {"a": Column(dtype)}, targets)
            expected = [(index, f"column `a`: {reason}") for index, text in enumerate(texts) if text == bad]
            assert [(reject.line, reject.reason) for reject in decoded.rejects] == expected
            assert decoded.frame["a"].to_list() == [None] * texts.count(good)


INT64S = st.sampled_from([0, -1, 7, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**100, -(2**127), 2**127 - 1, None])
NESTED_TYPES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "list": (pl.List(pl.Int128()), st.lists(INT64S, max_size=3)),
    "object": (
        pl.Struct({"m": pl.Int128(), "n": pl.List(pl.String())}),
        st.fixed_dictionaries({"m": INT64S, "n": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=2)}),
    ),
    "objects": (
        pl.List(pl.Struct({"m": pl.Int128(), "n": pl.Float64()})),
        st.lists(st.none() | st.fixed_dictionaries({"m": INT64S, "n": st.none() | st.floats(-9, 9)}), max_size=3),
    ),
}


@pytest.mark.parametrize("case", NESTED_TYPES)
@pytest.mark.parametrize("targets", [(), ("v",), (AWKWARD,)])
@settings(max_examples=30, deadline=None)
@given(source=st.data())
def test_nested_values_are_those_of_json(case: str, targets: tuple[str, ...], source: st.DataObject) -> None:
    dtype, values = NESTED_TYPES[case]
    expected = source.draw(st.lists(st.none() | values, min_size=1, max_size=5))
    data = "\n".join(json.dumps({"w": 1, "v": value}) for value in expected).encode()
    decoded = decode(data, {"v": Column(dtype)}, targets)
    assert not len(decoded.rejects)
    assert decoded.frame["v"].to_list() == expected
    assert decoded.frame["v"].dtype == dtype


def test_members_that_an_object_lacks_are_null_and_others_have_the_line_rejected() -> None:
    column = Column(pl.Struct({"x": pl.Int64(), "y": pl.String()}), inferred=False)
    data = b'{"s":{"y":"b"}}\n{"s":{}}\n{"s":null}\n{"s":{"x":1,"z":[1e999]}}\n{"s":{"x":1,"x":2}}\n'
    expected = [{"x": None, "y": "b"}, {"x": None, "y": None}, None, {"x": 2, "y": None}]
    decoded = decode(data, {"s": column})
    assert decoded.frame["s"].to_list() == expected
    reason = "column `s`: a member that its type does not have, and that would be lost: `z`"
    assert [(reject.line, reject.reason) for reject in decoded.rejects] == [(3, reason)]


def test_members_of_elements_that_are_not_used_are_not_read() -> None:
    read = Read(("s",), elements=frozenset([("x",), ("y",)]))
    column = Column(pl.List(pl.Struct({"x": pl.Int64(), "y": pl.String()})), read=read)
    data = b'{"s":[{"y":"b","z":[1e999]},null]}\n{"s":[{}]}\n{"s":null}\n{"s":[{"x":1,"x":2}]}\n'
    expected = [[{"x": None, "y": "b"}, None], [{"x": None, "y": None}], None, [{"x": 2, "y": None}]]
    assert decode(data, {"s": column}).frame["s"].to_list() == expected


@pytest.mark.parametrize(
    ("dtype", "value", "wider"),
    [
        (pl.Int128(), "2.5", pl.Float64()),
        (pl.Int128(), "1e2", pl.Float64()),
        (pl.List(pl.Int128()), "[1,2.5]", pl.List(pl.Float64())),
        (
            pl.Struct({"x": pl.Int128(), "y": pl.Int128()}),
            '{"x":1.5,"y":1}',
            pl.Struct({"x": pl.Float64(), "y": pl.Int128()}),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("targets", [(), ("v",)])
def test_first_float_in_a_column_inferred_as_integer_is_told_with_its_line(
    dtype: pl.DataType, value: str, wider: pl.DataType, targets: tuple[str, ...]
) -> None:
    before = b'{"v":null}\n\nnope\n{"v":"x"}\n{"v":1.5}}\n'
    data = before + f'{{"v":{value}}}\n{{"v":null}}\n{{"v":{value}}}\n'.encode()
    with pytest.raises(WidenError) as caught:
        decode(data, {"v": Column(dtype, inferred=True)}, targets)
    assert (caught.value.name, caught.value.dtype, caught.value.offset) == ("v", wider, OFFSET + len(before))
    declared = decode(data, {"v": Column(dtype)}, targets)
    assert [reject.line for reject in declared.rejects] == [2, 3, 4, 5, 7]


@pytest.mark.parametrize("company", [[], ["{}"], ["{}", "{}"]])
def test_limit_of_a_line_is_its_bytes_without_the_newline(company: list[str]) -> None:
    limit = LONG_LINE_HEAD_BYTES + 10
    for length in (limit - 1, limit, limit + 1):
        line = '{"a":"' + "x" * (length - 8) + '"}'
        decoded = check("\n".join([*company, line, *company, " " * length, ""]).encode(), {}, ["a"], limit)
        expected = (f"longer than {limit} bytes: {length} bytes", LONG_LINE_HEAD_BYTES)
        assert [(r.reason, len(r.raw)) for r in decoded.rejects] == [expected] * (2 if length > limit else 0)
