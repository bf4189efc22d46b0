"""Inputs for property tests: JSON lines as the world writes them, well-formed or not.

Lines are built as text, piece by piece, so that what a JSON library would write is one spelling among many. About seven
lines in ten are valid objects whose columns have the types below; the rest are every kind of trouble known to us.

| column    | type    |
|-----------|---------|
| `stars`   | float   |
| `count`   | integer |
| `name`    | string  |
| `open`    | boolean |
| `AWKWARD` | string  |
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

AWKWARD = 'né"w\n'
COLUMNS = ("stars", "count", "name", "open", AWKWARD)
OTHERS = ("id", "nested", "", "Stars", "stars ", "x.y", "$", "名", "😀", "é", "a/b", "back\\slash", "\x00", "columns")
BOM = b"\xef\xbb\xbf"
# Padded lines have just about this length, and none but the deepest and the longest of the others come near it.
SMALL_LIMIT_BYTES = 1_500
# Lines are nested up to here, just past it, and far past it.
MAX_DEPTH = 512

T = TypeVar("T")


def weighted(*choices: tuple[int, SearchStrategy[T]]) -> SearchStrategy[T]:
    """Draw from one of the strategies, each as often as its weight says. The first is the simplest."""
    table = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(range(len(table))).flatmap(lambda index: table[index])


# --- spellings -----------------------------------------------------------------------------------------------------

SHORT_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\", "/": "/"}


def escaped(character: str, *, upper: bool) -> str:
    """Spell a character as one \\u escape, or as two if it lies beyond the first plane."""
    units = character.encode("utf-16-be")
    spelling = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{unit.upper() if upper else unit}" for unit in spelling)


def plain(text: str) -> str:
    """Spell a string with no more escapes than it needs."""
    return json.dumps(text, ensure_ascii=False)


def escape_all(text: str) -> str:
    return '"' + "".join(escaped(character, upper=False) for character in text) + '"'


def escape_some(text: str) -> str:
    """Escape every third character, so `stars` becomes `st\\u0061rs`, and use the short escapes, even `\\/`."""

    def spell(at: int, character: str) -> str:
        if character in SHORT_ESCAPES:
            return "\\" + SHORT_ESCAPES[character]
        return escaped(character, upper=True) if at % 3 == 2 or character < " " else character

    return '"' + "".join(spell(at, character) for at, character in enumerate(text)) + '"'


def ascii_only(text: str) -> str:
    return json.dumps(text)


SPELLINGS: Sequence[Callable[[str], str]] = (plain, plain, plain, escape_some, ascii_only, escape_all)


def spelled(*texts: str) -> SearchStrategy[str]:
    """Draw one of the texts in one of the spellings."""
    return st.sampled_from([spell(text) for text in texts for spell in SPELLINGS])


def any_text(max_size: int) -> SearchStrategy[str]:
    texts = st.text(max_size=max_size).filter(lambda text: text not in COLUMNS)  # Hypothesis tries words of this file
    return st.builds(lambda spell, text: spell(text), st.sampled_from(SPELLINGS), texts)


TEXTS = (
    *("", "a", "Straße", "true", "1.5", "null", "[{", "]}", '"},{"', "\\", "\\\\", 'say "no"', "a\nb", "\x00\x1f\x7f"),
    *("\u2028", "e\u0301", "名前", "\ufeff", "\ufffd", "\uffff", "\U0001f469\u200d\U0001f467", "\U0010ffff", "x" * 200),
)
strings = st.one_of(spelled(*TEXTS), any_text(12))

# --- values, as JSON -----------------------------------------------------------------------------------------------

INTEGERS = (0, 1, -1, 3, 12, 127, 128, 255, 256, -129, 65_535, 2**31, 2**32, 2**53 + 1, 10**15)
BIG_INTEGERS = tuple(sign * (2**bits + step) for bits in (63, 64) for step in (-1, 0, 1) for sign in (1, -1))
HUGE_INTEGERS = (*(sign * (2**127 + step) for step in (-2, -1, 0, 1) for sign in (1, -1)), 10**39, 10**40, 10**300)
small_integers = st.one_of(st.sampled_from(INTEGERS), st.integers(-(2**40), 2**40)).map(str) | st.just("-0")
# The last ones have more digits than a double can hold, and than Python converts to an int.
huge_integers = st.sampled_from([*map(str, HUGE_INTEGERS), "9" * 308, "1" + "0" * 309, "-" + "7" * 5_000])

FLOATS = (
    *("1.50", "4.5", "0.1", "-0", "-0.0", "0e0", "0E-0", "1E2", "1e+2", "2.50e-1", "1e-7", "3.0", "5", "100"),
    *("1e16", "1e22", "123456789012345678901234567890", "9007199254740993", "9007199254740992.9"),
    *("0.30000000000000004", "0.1e1", "1e23", "8.5e-5"),
    *("1.7976931348623157e308", "-1.7976931348623157E+308", "1e200", "5e-324", "2.4703282292062327e-324", "1e-400"),
    *("2.2250738585072011e-308", "0." + "0" * 330 + "1", "0." + "123456789" * 20, "1" + "0" * 300, "1E0000000000002"),
)
floats = st.one_of(st.sampled_from(FLOATS), st.floats(allow_nan=False, allow_infinity=False).map(repr), small_integers)
INFINITE = ("1E400", "1e999", "-1e999", "1.7976931348623159e308", "9" * 400, "1e99999999999999999999", "1" * 5_000)
infinite = st.sampled_from(INFINITE)

booleans = st.sampled_from(["true", "false"])
nulls = st.just("null")

LONE_SURROGATES = (
    *(r'"\ud83d"', r'"\uDE00"', r'"caf\u00e9 \ud83d"', r'"\ud83d\ud83d\ude00"', r'"\ude00\ud83d"', r'"\ud83dx\ude00"'),
    *(r'"\ud83d\n"', r'"\udfff\\"', r'"\ud83d\u0041"'),
)
lone_surrogates = st.sampled_from(LONE_SURROGATES)

# What looks like structure stands in strings, and brackets are empty, nested or spaced.
NESTED = (
    *("[]", "{}", "[ ]", "{ }", "[[],{}]", '{"stars":"inner"}', '{"a":{"name":1,"name":[2]}}', '["}","]","{","["]'),
    *('[1,"2",null,true,{"count":-0.0}]', '{"":{"":{"":[]}}}', '[{"stars":1},\t{"stars" : 2}]', r'{"\u0061":"\\\""}'),
    *('{"a":1,"a":2}', '["\\\\"]', "[1E400,123456789012345678901234567890]", '"\\\\"', r'["\ud83d"]'),
)
nested = st.sampled_from(NESTED)


def mostly(pool: Sequence[str], otherwise: SearchStrategy[str]) -> SearchStrategy[str]:
    """Draw from the pool, or null, or now and then something random. Mostly one draw, where one_of takes two."""
    table = (*pool, *["null", ""] * (1 + len(pool) // 12))
    return st.sampled_from(table).flatmap(lambda value: st.just(value) if value else otherwise)


GOOD_INTEGERS = [*map(str, (*INTEGERS, *BIG_INTEGERS)), "-0"]
GOOD_STRINGS = [spell(text) for text in TEXTS for spell in SPELLINGS]
GOOD_VALUES = {
    "stars": mostly([*FLOATS, *GOOD_INTEGERS[:9]], floats),
    "count": mostly(GOOD_INTEGERS, small_integers),
    "name": mostly(GOOD_STRINGS, strings),
    "open": st.sampled_from(["true", "false"] * 4 + ["null"]),
    AWKWARD: mostly(GOOD_STRINGS, strings),
}
whole_floats = st.sampled_from(["3.0", "-0.0", "1e2", "2.50"])
bad_strings = weighted((2, lone_surrogates), (1, st.one_of(floats, booleans, nested)))
BAD_VALUES = {
    "stars": st.one_of(infinite, strings, booleans, nested, lone_surrogates),
    "count": weighted((3, whole_floats), (3, huge_integers), (1, infinite), (1, strings), (1, booleans), (1, nested)),
    "name": bad_strings,
    "open": st.one_of(floats, strings, nested, lone_surrogates),
    AWKWARD: bad_strings,
}
any_value = weighted(
    (4, strings),
    (3, floats),
    (2, nested),
    (1, booleans),
    (1, nulls),
    (1, lone_surrogates),
    (1, huge_integers),
    (1, infinite),
)

# --- lines, as JSON ------------------------------------------------------------------------------------------------

names = st.one_of(spelled(*OTHERS), any_text(6))
column_names = {column: spelled(column) for column in COLUMNS}
any_name = st.one_of(names, *column_names.values())

# White space: before the object, after its brace, before a colon, after it, after a value, after a comma, at the end.
PLACES = 7
STYLES = (
    ("",) * PLACES,
    ("", "", "", " ", "", " ", ""),
    ("", " ", "", " ", " ", " ", ""),
    ("  ", "", " ", " ", "", "", " "),
    ("\t", "\t", "\t", "\t", "\t", "\t", "\t"),
    ("", "", "", "", "", "", "\r"),
    ("\r", "\r", " ", "\r", "\r\t", " \r ", " \t"),
)
styles = weighted(
    (3, st.just(STYLES[0])),
    (6, st.sampled_from(STYLES)),
    (1, st.tuples(*[st.text(" \t\r", max_size=3)] * PLACES)),
)


def assembled(members: Sequence[tuple[str, str]], style: Sequence[str]) -> str:
    """Put the spelled members together in a style of white space."""
    before, opened, name_end, colon_end, value_end, comma_end, closed = style
    body = ("," + comma_end).join(f"{name}{name_end}:{colon_end}{value}{value_end}" for name, value in members)
    return before + "{" + opened + body + "}" + closed


orders = st.sampled_from(list(itertools.permutations(COLUMNS[:4])))


@st.composite
def members_of(draw: DrawFn) -> list[tuple[str, str]]:
    """Draw members that are all right: any of the columns, in any order, some twice, among others of any value."""
    chosen = draw(st.lists(st.sampled_from((*COLUMNS, *COLUMNS, None, None, None)), max_size=7))
    if draw(st.booleans()):  # random choice alone would seldom have both columns of a product
        chosen = [*draw(orders), *chosen[:2]]
    return [
        (draw(names), draw(any_value)) if name is None else (draw(column_names[name]), draw(GOOD_VALUES[name]))
        for name in chosen
    ]


@st.composite
def objects(draw: DrawFn) -> str:
    """Draw a line whose columns have their types."""
    return assembled(draw(members_of()), draw(styles))


@st.composite
def wrong_values(draw: DrawFn) -> str:
    """Draw an object with one column of another type, out of range, or not to be read; unless a duplicate covers it."""
    members = draw(members_of())
    column = draw(st.sampled_from((*COLUMNS, "count", "name")))  # twice, as these have more ways to be wrong
    wrong = (draw(column_names[column]), draw(BAD_VALUES[column]))
    members.insert(draw(st.sampled_from([len(members), 0])), wrong)
    return assembled(members, draw(styles))


@st.composite
def odd_names(draw: DrawFn) -> str:
    """Draw an object with a name that is half a character, or that is nearly a column's."""
    members = draw(members_of())
    name = draw(lone_surrogates | st.sampled_from([r'"stars\ud83d"', r'"\u0000stars"', r'"stars\u0000"', '"STARS"']))
    members.insert(draw(st.integers(0, len(members))), (name, draw(any_value)))
    return assembled(members, draw(styles))


BAD_TOKENS = (
    *("nul", "nulll", "Null", "True", "truefalse", "undefined", "NaN", "-NaN", "Infinity", "-Infinity", "", " "),
    *("01", "-01", "00", "1.", ".5", "+1", "-", "--1", "1e", "1e+", "1.e5", "1.5.5", "0x1F", "1_000", "1 2", "1,", "٣"),
    *("'a'", "a", '"\x01"', '"\t"', '"\x1f"', '"\\q"', '"\\u12"', '"\\u12G4"', '"\\u+123"', '"\\', '"\\"', '"open'),
    *('"\\x41"', '"\\U0041"', '"\\\'"', '"a""b"', '"a" "b"', '"\r"', "/* c */ 1", "1 // c", "1 # c", "\x00", "\xa01"),
    *("\u2028", "\ufeff1", "[", "[1,]", "[,1]", "[1 2]", "[1}", "]", "{", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1]'),
    *("{1:1}", "{'a':1}", "{a:1}"),
)
BAD_NAMES = ("stars", "'stars'", "1", "null", "", '"a', "[]", '"\\q"', '"a" "b"', '"a":"b"', '"\x01"')
# What is wrong before, after and between the members.
BAD_STARTS = ("{,", "", "(", "{{", "x{", "\x00{", "\xa0{", "\ufeff{", "/**/{", "\x0c{", "[{", '"{')
BAD_ENDS = (
    *(",}", "", "]", "}}", "};", "} x", "} // c", "}\x00", "}\x0b", "}\xa0", "}\x1a", "},", "}1", '}"a"', "}{}", "}{"),
    *("} {}", "}[]", "}null", "}, {}", "}\x85", "}/**/", "}]"),
)
BAD_MARKS = ((":", ""), (":", "::"), (":", "="), (":", " "), (",", ""), (",", ",,"), (",", ";"), ('"', ""), ('"', "'"))


@st.composite
def malformed(draw: DrawFn) -> str:
    """Draw what is almost an object."""
    members, style = draw(members_of()), draw(styles)
    what = draw(st.sampled_from(["value", "value", "value", "name", "around", "around", "between"]))
    if what == "around":
        start, end = draw(st.sampled_from([(start, "}") for start in BAD_STARTS] + [("{", end) for end in BAD_ENDS]))
        before, body, after = re.split(r"\{(.*)\}", assembled(members, style), maxsplit=1, flags=re.DOTALL)
        return before + start + body + end + after
    if what == "between":
        return assembled(members, style).replace(*draw(st.sampled_from(BAD_MARKS)), 1)
    member = (draw(any_name), draw(st.sampled_from(BAD_TOKENS)))
    if what == "name":
        member = (draw(st.sampled_from(BAD_NAMES)), draw(any_value))
    members.insert(draw(st.integers(0, len(members))), member)
    return assembled(members, style)


arrays = st.sampled_from(['[{"stars":1}]', "[", "[1]", "[]", '[{"stars":1},'])


@st.composite
def non_objects(draw: DrawFn) -> str:
    """Draw JSON that is no object. As the first line of an input an array fails the input."""
    before, *_, after = draw(styles)
    value = draw(weighted((2, arrays), (1, strings), (1, floats), (1, booleans), (1, nulls), (1, huge_integers)))
    return f"{before}{value}{after}"


BRACKETS = (("[", "]"), ('{"a":', "}"), ('[{"stars":', "}]"), ('{"]":[1,', "]}"), ("[ ", " ]"))
# How deep the value goes, with the object around it counted in.
DEPTHS = (MAX_DEPTH, MAX_DEPTH, MAX_DEPTH + 1, MAX_DEPTH + 1, MAX_DEPTH - 1, MAX_DEPTH + 88, 3, 60, 3_000, 20_000)


@st.composite
def deep(draw: DrawFn) -> str:
    """Draw an object that holds something nested on one side of the limit or the other, closed or not."""
    members = draw(members_of())
    levels = draw(st.sampled_from(DEPTHS))
    opening, closing = draw(st.sampled_from(BRACKETS))
    times = (levels - 1) // (opening.count("[") + opening.count("{"))  # the object around it is a level, too
    closed = draw(st.sampled_from([times, times, times, times, times - 1, times + 1, 0]))
    inner = draw(st.sampled_from(["1", '"' + "[" * 600 + '"', '"\\"[{"', "[]", "nul"]))
    name = draw(weighted((3, names), (1, any_name)))
    members.insert(draw(st.integers(0, len(members))), (name, opening * times + inner + closing * closed))
    return assembled(members, draw(styles))


@st.composite
def padded(draw: DrawFn) -> str:
    """Draw a line of a length just under, at, or past the small limit, of an object or of nothing at all."""
    line = draw(weighted((4, objects()), (1, malformed()), (1, st.sampled_from(["", " "]))))
    length = SMALL_LIMIT_BYTES + draw(st.sampled_from([0, 1, 0, 1, -1, 2, 700]))
    missing = max(0, length - len(line.encode()))
    where = draw(st.sampled_from(["before", "after", "inside", "carriage return"]))
    if where == "inside" and line.startswith("{"):
        comma = "" if re.fullmatch(r"\{\s*\}\s*", line) else ","
        return '{"' + "x" * (missing - 5 - len(comma)) + '":1' + comma + line[1:] if missing > 8 else line
    if where == "carriage return":
        return line + " " * (missing - 1) + "\r" * min(missing, 1)
    return " " * missing + line if where == "before" else line + " " * missing


# --- lines, as bytes -----------------------------------------------------------------------------------------------

NOT_UTF8 = (
    *(b"\xff", b"\xfe", b"\x80", b"\xbf\xbf"),  # bytes that begin nothing
    *(b"\xc0\xaf", b"\xc1\x81", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"),  # overlong
    *(b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xed\xa0\xbd\xed\xb8\x80"),  # surrogates, alone and as a pair
    *(b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"),  # beyond the last plane, and five bytes
    *(b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xe9"),  # cut short; Latin-1
)


@st.composite
def not_utf8(draw: DrawFn) -> bytes:
    """Draw a line with bytes that are not UTF-8: in a string that is read or not, in a name, or anywhere."""
    bad = draw(st.sampled_from(NOT_UTF8))
    where = draw(st.sampled_from(["value", "name", "anywhere", "end"]))
    if where == "value":
        name = draw(any_name)
        members = [*draw(members_of()), (name, '"a\u0001b"'), *draw(members_of())]
        return assembled(members, draw(styles)).encode().replace(b"\x01", bad)
    if where == "name":
        return assembled([('"na\u0001me"', "1"), *draw(members_of())], draw(styles)).encode().replace(b"\x01", bad)
    line = draw(objects()).encode()
    at = len(line) if where == "end" else draw(st.integers(0, len(line)))
    return line[:at] + bad + line[at:]


def encoded(text: SearchStrategy[str]) -> SearchStrategy[bytes]:
    return text.map(lambda line: line.encode())


def clean_lines() -> SearchStrategy[bytes]:
    """Draw one line that is a valid object, all of its columns of their types."""
    return encoded(objects())


def blank_lines() -> SearchStrategy[bytes]:
    return st.sampled_from([b"", b" ", b"\r", b"\t", b" \t\r \r", b"   "])


def lines() -> SearchStrategy[bytes]:
    """Draw one line of any sort, without its end."""
    return weighted(
        (66, clean_lines()),
        (4, encoded(odd_names())),
        (8, encoded(wrong_values())),
        (8, encoded(malformed())),
        (3, not_utf8()),
        (2, encoded(non_objects())),
        (4, encoded(deep())),
        (3, encoded(padded())),
        (4, blank_lines()),
        (1, clean_lines().map(lambda line: BOM + line)),
        (1, st.builds(lambda one, two: one + two, clean_lines(), clean_lines())),
    )


def broken_lines() -> SearchStrategy[bytes]:
    """Draw one object that stands on two lines."""
    return clean_lines().map(lambda line: re.sub(rb"([,:{])", rb"\1\n", line, count=1))


LF, CRLF = b"\n", b"\r\n"
LINE_ENDS = ([LF], [LF], [CRLF], [LF, CRLF])


@st.composite
def inputs(draw: DrawFn) -> bytes:
    """Draw a whole input: any lines, any line ends, perhaps a byte order mark or two, perhaps no last newline."""
    bodies = draw(st.lists(weighted((30, lines()), (1, broken_lines())), max_size=12))
    ends = draw(st.sampled_from(LINE_ENDS))
    if draw(st.integers(0, 40)) == 40:
        bodies.insert(0, draw(encoded(arrays)))
    data = b"".join(body + draw(st.sampled_from(ends)) for body in bodies)
    if draw(st.integers(0, 2)) == 2:
        data = data[:-1]  # a CRLF leaves its CR, which then is white space
    return draw(weighted((16, st.just(b"")), (3, st.just(BOM)), (1, st.just(BOM + BOM)))) + data
