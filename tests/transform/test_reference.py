"""Holds the reference to examples worked out by hand, and the strategies to what they promise to draw."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support import strategies
from tests.support.reference import (
    Expected,
    JsonArray,
    NotJson,
    Number,
    Reject,
    Rejected,
    Spec,
    Text,
    depth,
    match,
    parse,
    scan,
    transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypothesis.strategies import SearchStrategy

ALL_COLUMNS = {"stars": "float", "count": "integer", "name": "string", "open": "boolean"}


def product(values: dict[str, object]) -> object:
    stars, count = values["stars"], values["count"]
    return stars * count if isinstance(stars, float) and isinstance(count, int) else None


def constant(value: object, name: str = "x") -> Spec:
    return Spec({}, ((name, lambda _: value),))


def copied(column: str, kind: str) -> Spec:
    return Spec({column: kind}, (("copy", lambda values: values[column]),))


def is_open(values: dict[str, object]) -> bool | None:
    value = values["open"]
    return value if isinstance(value, bool) else None


PRODUCT = Spec({"stars": "float", "count": "integer"}, (("score", product),))
REPLACED = Spec({"stars": "float"}, (("stars", lambda values: values["stars"]), ("y", lambda _: True)))
KEPT = Spec({"open": "boolean"}, (("x", lambda _: 1),), keep=is_open)
NOTHING = Spec({})

GOOD = {
    "product": (PRODUCT, b'{"stars":1.50,"count":3}\n', b'{"stars":1.50,"count":3,"score":4.5}\n'),
    "number spelled otherwise": (PRODUCT, b'{"stars":1e2,"count":1}', b'{"stars":1e2,"count":1,"score":1.0E+2}'),
    "missing is null": (PRODUCT, b'{"count":3}', b'{"count":3,"score":null}'),
    "null is null": (PRODUCT, b'{"count":3,"stars":null}', b'{"count":3,"stars":null,"score":null}'),
    "last duplicate is read": (
        PRODUCT,
        b'{"stars":"a","count":3,"stars":2}',
        b'{"stars":"a","count":3,"stars":2,"score":6}',
    ),
    "escaped name is read": (PRODUCT, b'{"st\\u0061rs":2,"count":3}', b'{"st\\u0061rs":2,"count":3,"score":6.0}'),
    "inner members are not read": (PRODUCT, b'{"a":{"stars":1,"b":[2]}}', b'{"a":{"stars":1,"b":[2]},"score":null}'),
    "empty object": (PRODUCT, b"{}\n", b'{"score":null}\n'),
    "empty object with white space": (PRODUCT, b" { \t} \n", b' { \t"score":null} \n'),
    "white space before the brace": (PRODUCT, b'{"a":1 \t}', b'{"a":1 \t,"score":null}'),
    "two results in an empty object": (REPLACED, b"{}", b'{"stars":null,"y":true}'),
    "carriage return": (PRODUCT, b'{"a":1}\r\n{}\r\n', b'{"a":1,"score":null}\r\n{"score":null}\r\n'),
    "replaced": (REPLACED, b'{ "stars" : 1.50 , "b":2}', b'{ "stars" : 1.5 , "b":2,"y":true}'),
    "replaced by null": (constant(None), b'{"x":[1,{"x":2}],"y":0}', b'{"x":null,"y":0}'),
    "last duplicate is replaced": (constant("é"), b'{"x":1,"x":{},"y":[]}', b'{"x":1,"x":"\\u00E9","y":[]}'),
    "escaped name is replaced": (constant(7), b'{"\\u0078":1}', b'{"\\u0078":7}'),
    "replaced out of order": (
        Spec({}, (("b", lambda _: 1), ("c", lambda _: 2), ("a", lambda _: 3))),
        b'{"a":0,"b":0}',
        b'{"a":3,"b":1,"c":2}',
    ),
    "awkward name": (constant(1, strategies.AWKWARD), b'{"a":1}', '{"a":1,"né\\"w\\n":1}'.encode()),
    "awkward name is replaced": (
        constant(1, strategies.AWKWARD),
        b'{"n\\u00e9\\"w\\u000A":0}',
        b'{"n\\u00e9\\"w\\u000A":1}',
    ),
    "blank lines": (PRODUCT, b"\n  \t\r\n{}\n\n", b'{"score":null}\n'),
    "no last newline": (NOTHING, b"{}\n{}", b"{}\n{}"),
    "nothing": (NOTHING, b"", b""),
    "byte order mark": (NOTHING, b"\xef\xbb\xbf{}\n", b"{}\n"),
    "byte order mark only": (NOTHING, b"\xef\xbb\xbf", b""),
    "byte order mark in a string": (NOTHING, b'{"\xef\xbb\xbf":1}', b'{"\xef\xbb\xbf":1}'),
    "filter": (KEPT, b'{"open":true}\n{"open":false}\n{"open":null}\n{}', b'{"open":true,"x":1}\n'),
    "filter that drops the end": (KEPT, b'{"open":true}\r\n{}', b'{"open":true,"x":1}\r\n'),
    "huge integer nobody reads": (NOTHING, b'{"a":' + b"9" * 5000 + b"}", b'{"a":' + b"9" * 5000 + b"}"),
    "huge float nobody reads": (constant(1), b'{"a":1E400}', b'{"a":1E400,"x":1}'),
    "half a pair nobody reads": (NOTHING, rb'{"\ud83d":"\ud83d"}', rb'{"\ud83d":"\ud83d"}'),
    "a pair": (
        copied("name", "string"),
        rb'{"name":"\ud83d\ude00"}',
        rb'{"name":"\ud83d\ude00","copy":"' + "😀".encode() + b'"}',
    ),
    "negative zero": (copied("count", "integer"), b'{"count":-0}', b'{"count":-0,"copy":0}'),
    "Int128": (
        copied("count", "integer"),
        b'{"count":-170141183460469231731687303715884105728}',
        b'{"count":-170141183460469231731687303715884105728,"copy":-170141183460469231731687303715884105728}',
    ),
    "integer in a float column": (
        copied("stars", "float"),
        b'{"stars":9007199254740993}',
        b'{"stars":9007199254740993,"copy":9007199254740992}',
    ),
    "too small for a double": (copied("stars", "float"), b'{"stars":1e-999}', b'{"stars":1e-999,"copy":0.0}'),
    "not finite": (constant(float("inf")), b"{}\n{}", b'{"x":null}\n{"x":null}'),
    "not a number": (constant(float("nan")), b'{"x":5}', b'{"x":null}'),
    "brackets in strings": (constant(1), b'{"a":"]}\\"}","b":["{"]}', b'{"a":"]}\\"}","b":["{"],"x":1}'),
    "deep enough": (NOTHING, b'{"a":' * 512 + b"1" + b"}" * 512, b'{"a":' * 512 + b"1" + b"}" * 512),
    "long enough": (Spec({}, max_line_bytes=8), b'{"a":1}\r\n', b'{"a":1}\r\n'),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_lines_that_go_out(case: str) -> None:
    spec, data, output = GOOD[case]
    expected = transform(data, spec)
    match(expected, output)
    assert not expected.rejects
    assert expected.lines_out + expected.filtered + expected.blank == expected.lines_in


REJECTED = {
    "too long": (b'{"aaaa":1}' + b" " * 3000, b" " * 3001, b"[" * 3001, b"\xff" * 3001),
    "utf8": (
        *(b"\xff", b'{"a":"\xc3"}', b'{"a":"\xed\xa0\xbd"}', b'{"a":"\xc0\xaf"}', b'{"\xe9":1}', b"{}\xe2\x82"),
        b"[" * 600 + b"\xff",
    ),
    "depth": (b'{"a":' + b"[" * 512, b'{"a":' + b"[" * 512 + b"]" * 512 + b"}", b"[" * 3000, b'{"x":' * 513),
    "json": (
        *(b"{", b"}", b"nul", b'{"a":1,}', b'{"a":01}', b'{"a":1.}', b'{"a":+1}', b'{"a":.5}', b'{"a":-}', b'{"a":1e}'),
        *(b'{"a":NaN}', b'{"a":Infinity}', b"{'a':1}", b"{a:1}", b'{"a" 1}', b'{"a":1 "b":2}', b'{"a":1,,"b":2}'),
        *(b'{"a":"\t"}', b'{"a":"\x00"}', b'{"a":"\\q"}', b'{"a":"\\u12"}', b'{"a":"\\u00g0"}', b'{"a":"open}', b'{"a'),
        *(b"{}{}", b"{}\r{}", b'{"a":1} x', b'{"a":1}/**/', b'{"a":1}\x00', b",{}", b"{},", b"1 2", b"- 1"),
        *(b"\xef\xbb\xbf{}", b"\x0b", b"\x0c{}", b"\xc2\xa0", b"[1,]", b"[1}", b'{"a"}', b'{"a":}', b"{,}", b"{1:1}"),
        *(b'{"a":tru}', b'{"a":[}', b'{"a":{"b"}}', '{"a":٣}'.encode()),
    ),
    "object": (b"[]", b"5", b'"{}"', b"null", b"true", b"1E400", b" [{}] ", b"9" * 2000, rb'"\ud83d"'),
    "type": (
        *(b'{"stars":"1"}', b'{"stars":true}', b'{"stars":[]}', b'{"count":1.0}', b'{"count":1e2}', b'{"count":1E400}'),
        *(b'{"count":"1"}', b'{"count":false}', b'{"name":1}', b'{"name":null,"name":{}}', b'{"open":0}'),
        *(b'{"count":1e999,"stars":1e999}', rb'{"name":"\ud83d","open":1}', rb'{"open":"\ud83d"}', b'{"\\u006fpen":1}'),
        b'{"open":"true"}',
    ),
    "range": (
        *(b'{"stars":1e999}', b'{"stars":-1E400}', b'{"stars":' + b"9" * 400 + b"}", b'{"count":' + b"1" * 2500 + b"}"),
        *(b'{"count":170141183460469231731687303715884105728}', b'{"count":-170141183460469231731687303715884105729}'),
        rb'{"name":"\ud83d","stars":1e999}',
    ),
    "surrogate": (rb'{"name":"\ud83d"}', rb'{"name":"a\uDE00\uD83D"}', rb'{"name":"","name":"\ud83d\ud83d\ude00"}'),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in REJECTED.items() for line in lines])
def test_lines_that_are_rejected(kind: str, line: bytes) -> None:
    spec = Spec(ALL_COLUMNS, max_line_bytes=3000)
    data = b"{}\n\n" + line + b"\n{}\n"
    expected = transform(data, spec)
    assert expected.rejects == [Reject(4, 3, kind, line)]
    assert (expected.lines_in, expected.lines_out, expected.rejected, expected.blank) == (4, 2, 1, 1)
    match(expected, b"{}\n{}\n")


@pytest.mark.parametrize(
    ("kind", "fits", "does_not"),
    [
        ("Int8", ("-128", "127"), ("-129", "128")),
        ("UInt8", ("0", "255"), ("-1", "256")),
        ("Int64", ("-9223372036854775808", "9223372036854775807"), ("-9223372036854775809", "9223372036854775808")),
        ("UInt64", ("-0", "18446744073709551615"), ("-1", "18446744073709551616")),
    ],
)
def test_narrower_integers_have_their_range(kind: str, fits: tuple[str, ...], does_not: tuple[str, ...]) -> None:
    data = b"".join(f'{{"count":{number}}}\n'.encode() for number in (*fits, *does_not))
    expected = transform(data, copied("count", kind))
    assert [reject.line for reject in expected.rejects] == [3, 4]
    assert {reject.kind for reject in expected.rejects} == {"range"}
    match(expected, b"".join(f'{{"count":{number},"copy":{int(number)}}}\n'.encode() for number in fits))


def test_offsets_count_a_byte_order_mark_and_lines_count_blank_ones() -> None:
    expected = transform(b"\xef\xbb\xbfx\r\n\n{}\ny", NOTHING)
    assert expected.rejects == [Reject(3, 1, "json", b"x\r"), Reject(10, 4, "json", b"y")]
    match(expected, b"{}\n")


def test_a_second_byte_order_mark_is_not_json() -> None:
    expected = transform(b"\xef\xbb\xbf\xef\xbb\xbf{}\n", NOTHING)
    assert expected.rejects == [Reject(3, 1, "json", b"\xef\xbb\xbf{}")]


@pytest.mark.parametrize("data", [b"[", b"[1]\n", b"\n \t\r\n [{}]", b"\xef\xbb\xbf[", b"[" * 100_000])
def test_an_array_fails_the_input(data: bytes) -> None:
    with pytest.raises(JsonArray):
        transform(data, NOTHING)


def test_what_was_not_finite_is_counted_where_it_goes_out() -> None:
    spec = Spec({"stars": "float", "open": "boolean"}, (("x", lambda values: values["stars"]),), keep=is_open)
    infinite = Spec(spec.columns, (("x", lambda _: float("-inf")),), keep=is_open)
    data = b'{"open":true}\n{"open":false}\n{"open":true,"stars":"a"}\n'
    assert transform(data, spec).nonfinite == {}
    assert transform(data, infinite).nonfinite == {"x": 1}


@pytest.mark.parametrize(
    ("line", "levels"),
    [
        (b"1", 0),
        (b"{}", 1),
        (b"[[]{}]", 2),
        (b'{"[[":"\\"["}', 1),
        (b'["[[', 1),
        (b"[[[", 3),
        (b"[" * 200_000, 200_000),
    ],
)
def test_depth(line: bytes, levels: int) -> None:
    assert depth(line) == levels


@pytest.mark.parametrize(
    ("output", "actual"),
    [
        ([b"{}\n"], b"{}"),
        ([b"{}"], b"{}\n"),
        ([b'{"a":1}'], b'{"a": 1}'),
        ([Number(1)], b"1.0"),
        ([Number(1)], b"2"),
        ([Number(10)], b"1"),
        ([Number(1.5)], b"1.50x"),
        ([Number(1.5)], b"1.4999"),
        ([Number(0.5)], b".5"),
        ([Number(2**64 + 1)], str(2**64).encode()),
        ([Text("a")], b"a"),
        ([Text("a")], b'"b"'),
        ([Text("a")], b'"a'),
        ([Text("\t")], b'"\t"'),
        ([Text("\ufffd")], b'"\xff"'),
    ],
)
def test_match_sees_what_differs(output: list[bytes | Number | Text], actual: bytes) -> None:
    with pytest.raises(AssertionError, match="output differs at byte"):
        match(Expected(output=output), actual)


def test_match_says_where() -> None:
    with pytest.raises(AssertionError, match=re.escape("byte 8 (line 2, byte 5 of it)")):
        match(transform(b'{}\n{"a":1}\n', NOTHING), b'{}\n{"a":2}\n')


def accepts_json(line: bytes) -> bool:
    """Ask the standard library, told to forget what it adds to the grammar and what it cannot convert."""

    def refuse(word: str) -> object:
        raise ValueError(word)

    try:
        json.loads(line.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None, derandomize=True)
@given(strategies.lines())
def test_the_scanner_agrees_with_the_standard_library(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError:
        return
    if depth(line) > 512:
        return  # the standard library's scanner is recursive
    try:
        document = scan(line)
    except NotJson:
        assert not accepts_json(line)
        return
    assert accepts_json(line)
    if document.is_object:
        pairs = json.loads(line, object_pairs_hook=lambda pairs: pairs, parse_int=str, parse_float=str)
        assert [member.name for member in document.members] == [name for name, _ in pairs]
        values = [line[member.start : member.end] for member in document.members]
        loaded = [
            json.loads(value, object_pairs_hook=lambda pairs: pairs, parse_int=str, parse_float=str) for value in values
        ]
        assert loaded == [value for _, value in pairs]


# --- what the strategies draw ---------------------------------------------------------------------------------------

FEATURES = {
    "byte order mark": rb"\A\xef\xbb\xbf(?!\xef)",
    "two byte order marks": rb"\A\xef\xbb\xbf\xef\xbb\xbf",
    "byte order mark in the middle": rb"\n\xef\xbb\xbf",
    "CRLF": rb"\r\n",
    "CR inside": rb"\r[^\n]",
    "LF": rb"[^\r]\n",
    "no last newline": rb"[^\n]\Z",
    "escaped column name": rb'"st\\u0061rs"',
    "awkward name": re.escape('"né\\"w\\n"'.encode()),
    "half a pair in a value": rb':\s*"\\ud83d',
    "half a pair in a name": rb'[,{]\s*"\\ud83d[^"]*"\s*:',
    "character past the first plane": rb"[\xf0-\xf4]",
    "integer of thousands of digits": rb":\s*-?[0-9]{1000}",
    "negative zero": rb":\s*-0[,}]",
    "trailing zero": rb":\s*1\.50",
    "beyond a double": rb":\s*1E400",
    "array as a line": rb"\n\s*\[",
    "two objects on a line": rb"\}\{",
    "object over two lines": rb"[{,]\n",
    "thousands deep": rb"(\[ ?){2000}",
}
MALFORMED = {
    "trailing comma": rb",\}",
    "raw control character": rb'"\x01"',
    "single quotes": rb"'a'",
    "not a number": rb"NaN",
    "infinity": rb"Infinity",
    "leading zero": rb":\s*01",
    "plus": rb"\+1\s*[,}]",
    "nothing after the point": rb"1\.[^0-9]",
    "half a word": rb":\s*nul\s*[,}]",
    "comment": rb"/\*",
    "bad escape": rb"\\q",
    "string that does not end": rb'"open[^"]|"\\"?\s*[,}]',
    "trailing garbage": rb"\} ?[x1n;]",
    "white space that is none": rb"[\x0b\x0c\x85\xa0]",
}
NOT_UTF8 = {
    "in a string": rb'"a[\x80-\xff]+b"',
    "in a name": rb'"na[\x80-\xff]+me"',
    "encoded surrogate": rb"\xed\xa0\xbd",
    "overlong": rb"\xc0\xaf",
    "beyond the last plane": rb"\xf4\x90",
    "cut short at the end": rb"(\xc3|\xe2\x82|\xf0\x9f\x98)\Z",
}


def matching(patterns: dict[str, bytes], data: bytes) -> set[str]:
    return {name for name, pattern in patterns.items() if re.search(pattern, data)}


def features(data: bytes) -> set[str]:
    found = matching(FEATURES, data)
    for line in data.removeprefix(strategies.BOM).split(b"\n"):
        try:
            document = parse(line, Spec({}))
        except Rejected:
            continue
        names = [member.name for member in document.members]
        levels = depth(line)
        if len(set(names)) < len(names):
            found.add("duplicates")
        if levels == strategies.MAX_DEPTH:
            found.add("valid, as deep as may be")
        if len(line) == strategies.SMALL_LIMIT_BYTES:
            found.add("valid, as long as may be")
        if len(line) == strategies.SMALL_LIMIT_BYTES + 1:
            found.add("valid, a byte too long")
        found.add("members: none" if not names else "members: some")
    return found


EXPECTED_FEATURES = {
    *FEATURES,
    *("duplicates", "members: none", "members: some"),
    *("valid, as deep as may be", "valid, as long as may be", "valid, a byte too long"),
}


def outcomes(data: bytes) -> Counter[str]:
    try:
        expected = transform(data, Spec(ALL_COLUMNS, max_line_bytes=20_000))
    except JsonArray:
        return Counter(["array"])
    kinds = Counter(reject.kind for reject in expected.rejects)
    kinds.update({"out": expected.lines_out, "blank": expected.blank, "lines": expected.lines_in})
    return kinds


def count_until(
    wanted: set[str], strategy: SearchStrategy[bytes], count: Callable[[bytes], Iterable[str] | Counter[str]]
) -> Counter[str]:
    """Draw until everything wanted was seen, and say what was."""
    drawn: Counter[str] = Counter()

    # In rounds, as Hypothesis varies what it drew before: a hundred rounds of 40 show more than one of 4,000.
    @settings(max_examples=40, database=None, deadline=None, phases=[Phase.generate])
    @given(strategy)
    def draw(data: bytes) -> None:
        drawn.update(count(data))

    for number in range(100):
        seed(number)(draw)()
        if wanted <= (+drawn).keys():
            break
    assert not wanted - (+drawn).keys()
    return drawn


@pytest.mark.slow
def test_the_inputs_have_everything() -> None:
    wanted = {*EXPECTED_FEATURES, *REJECTED, "array", "blank"}
    drawn = count_until(wanted, strategies.inputs(), lambda data: outcomes(data) + Counter(features(data)))
    assert 0.5 < drawn["out"] / (drawn["lines"] - drawn["blank"]) < 0.85


def test_the_malformed_lines_have_everything() -> None:
    malformed = strategies.malformed().map(str.encode)
    count_until(set(MALFORMED), malformed, lambda line: matching(MALFORMED, line))


def test_the_lines_that_are_not_utf8_have_everything() -> None:
    count_until(set(NOT_UTF8), strategies.not_utf8(), lambda line: matching(NOT_UTF8, line))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(strategies.clean_lines(), st.sampled_from([b"", b"\n"]))
def test_clean_lines_go_out(line: bytes, end: bytes) -> None:
    expected = transform(line + end, Spec({**ALL_COLUMNS, strategies.AWKWARD: "string"}))
    assert not expected.rejects
    assert expected.lines_out == 1
    match(expected, line + end)
