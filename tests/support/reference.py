"""What a calculation means, written a second time: slowly, plainly, one line after the other.

The property tests compare the package with this. It uses the standard library only and shares no code, no parser and
no idea with the package (there is a scanner of its own below), so the two agree by being right or not at all.

A result may be spelled in more than one way (`1e-7`, `1e-07`; `"é"`, `"\\u00e9"`). The expected output is therefore a
list of pieces: bytes that must stand as they are, and the `Number`s and `Text`s that `match` compares by value.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r"
INTEGER_RANGES = {
    "integer": (-(2**127), 2**127 - 1),
    **{f"Int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UInt{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
# Int128 has 39 digits. JSON forbids leading zeros, so more digits are out of every range, and need no conversion, which
# Python refuses past 4,300 digits.
MAX_INTEGER_DIGITS = 39
# A line with several faults is rejected for the first of these.
COLUMN_FAULTS = ("type", "range", "surrogate")

STRING = rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
TOKEN = re.compile(
    rb"(?P<string>" + STRING + rb")|(?P<number>" + NUMBER + rb")|(?P<word>true|false|null)|(?P<mark>[{}\[\]:,])"
)
WHITE_SPACE = re.compile(rb"[ \t\r\n]*")
# A string that does not end hides everything after it; what a backslash precedes cannot end a string.
STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)


class JsonArray(Exception):  # noqa: N818 - an outcome of the input that tests compare, not an error of the reference
    """The input's first byte that is not white space is `[`."""


class NotJson(Exception):  # noqa: N818 - see above
    """The line is not JSON by the grammar of RFC 8259."""


class Rejected(Exception):  # noqa: N818 - see above
    """The line is set aside; the argument says what kind of fault it has."""


@dataclass(frozen=True)
class Spec:
    """A calculation: the columns it reads with their types, its results by name, its filter, and the limits."""

    columns: dict[str, str]
    results: tuple[tuple[str, Callable[[dict[str, object]], object] | Unchanged], ...] = ()
    keep: Callable[[dict[str, object]], bool | None] | None = None
    max_line_bytes: int = 1 << 28
    max_depth: int = 512
    drop: frozenset[str] = frozenset()
    select: frozenset[str] | None = None
    rules: tuple[tuple[Callable[[dict[str, object]], object], str], ...] = ()

    def stays(self, name: str) -> bool:
        """Tell whether members of that name stay in the line."""
        return name not in self.drop and (self.select is None or name in self.select)


@dataclass(frozen=True)
class Unchanged:
    """A result that is the member at a path as it is: its bytes, or `null` if it is missing."""

    path: tuple[str, ...]

    def text(self, line: bytes, document: Document) -> bytes:
        """Give the bytes. Raises `Rejected` where something else than an object is on the way."""
        for at, name in enumerate(self.path):
            member = document.last(name)
            if member is None:
                return b"null"
            line = line[member.start : member.end]
            if at == len(self.path) - 1 or line == b"null":
                return line
            document = scan(line)
            if not document.is_object:
                raise Rejected("type")
        raise ValueError(self.path)


@dataclass(frozen=True)
class Number:
    """A result that must be spelled as a JSON number of this value; as an integer if it is one."""

    value: int | float


@dataclass(frozen=True)
class Text:
    """A result that must be spelled as a JSON string of this value."""

    value: str


Piece = bytes | Number | Text


class Reject(NamedTuple):
    """A line set aside: where it starts, its number from 1, the kind of fault, and its bytes without the `\\n`."""

    offset: int
    line: int
    kind: str
    raw: bytes


@dataclass
class Expected:
    """What must come out. `nonfinite` has the results that were NaN or infinite, by name, in lines that went out."""

    lines_in: int = 0
    lines_out: int = 0
    filtered: int = 0
    rejected: int = 0
    blank: int = 0
    nonfinite: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    output: list[Piece] = field(default_factory=list)


class Member(NamedTuple):
    """A member of the object that is the line: its name, where that stands, and where its value starts and ends."""

    name: str
    key: int
    start: int
    end: int


class Document(NamedTuple):
    """A line that is JSON. `close` is where the last token stands: in an object, its closing brace."""

    is_object: bool
    members: list[Member]
    close: int

    def last(self, name: str) -> Member | None:
        """Give the member of that name; of duplicates the last."""
        return next((member for member in reversed(self.members) if member.name == name), None)


class Token(NamedTuple):
    """`kind` is the mark itself, or `s` for a string, `n` for a number, `w` for one of the three words."""

    kind: str
    start: int
    end: int


def transform(data: bytes, spec: Spec) -> Expected:
    """Do the calculation. Raises `JsonArray` where the whole input is refused."""
    if is_wide(data):
        raise JsonArray
    if data.removeprefix(BOM).lstrip(BLANK + b"\n").startswith(b"["):
        raise JsonArray
    expected = Expected()
    for number, (offset, line, end) in enumerate(split(data), start=1):
        expected.lines_in = number
        try:
            if len(line) > spec.max_line_bytes:
                raise Rejected("too long")  # even a blank one: nobody knows that it is blank without reading it
            if not line.strip(BLANK):
                expected.blank += 1
                continue
            document = parse(line, spec)
            values = read(line, document, spec.columns)
            texts = {name: of.text(line, document) for name, of in spec.results if isinstance(of, Unchanged)}
            for broken, reason in spec.rules:
                if broken(values) is True:
                    raise Rejected(reason)
        except Rejected as rejected:
            expected.rejected += 1
            expected.rejects.append(Reject(offset, number, str(rejected), line))
            continue
        if spec.keep is not None and spec.keep(values) is not True:
            expected.filtered += 1
            continue
        expected.lines_out += 1
        emit(
            expected,
            line,
            document,
            [(name, texts[name] if isinstance(of, Unchanged) else of(values)) for name, of in spec.results],
            spec,
        )
        expected.output.append(end)
    expected.output = joined(expected.output)
    return expected


def is_wide(data: bytes) -> bool:
    """Tell whether the first 64 bytes show text in UTF-16 or UTF-32: by a mark, or by ASCII that starts as JSON."""
    head = data[:64]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return True
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        text = head.decode(codec, "replace").lstrip(" \t\r\n")[:2]
        if len(text) == 2 and text[0] in "{[" and (" " <= text[1] <= "~" or text[1] in "\t\r\n"):
            return True
    return False


def split(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each line's offset, its bytes without the `\\n`, and the `\\n` or nothing."""
    offset = len(BOM) if data.startswith(BOM) else 0
    while offset < len(data):
        found = data.find(b"\n", offset)
        end = len(data) if found < 0 else found
        yield offset, data[offset:end], data[end : end + 1]
        offset = end + 1


def parse(line: bytes, spec: Spec) -> Document:
    """Find the members of the line, an object. Raises `Rejected` for a line that is none."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("utf8") from error
    if depth(line) > spec.max_depth:
        raise Rejected("depth")
    try:
        document = scan(line)
    except NotJson as error:
        raise Rejected("json") from error
    if not document.is_object:
        raise Rejected("object")
    return document


def depth(line: bytes) -> int:
    """Count how many brackets and braces are open at once, at most. Works on what is not JSON, too."""
    deepest = now = 0
    for token in STRING_OR_BRACKET.findall(line):
        if token in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif token in b"]}":
            now -= 1
    return deepest


def tokens(line: bytes) -> Iterator[Token]:
    """Cut the line into tokens. White space may stand between any two, so it needs no place in the grammar."""
    at = skip(line, 0)
    while at < len(line):
        found = TOKEN.match(line, at)
        if found is None:
            raise NotJson(at)
        group = str(found.lastgroup)
        yield Token(found.group().decode() if group == "mark" else group[0], at, found.end())
        at = skip(line, found.end())


def skip(line: bytes, at: int) -> int:
    """Give the place of the next byte that is not white space."""
    found = WHITE_SPACE.match(line, at)
    return at if found is None else found.end()


# Which tokens may come next. The state after a value depends on what the value stands in: see `after`.
GRAMMAR = {
    "value": "snw{[",
    "first item": "snw{[]",
    "first name": "s}",
    "name": "s",
    "colon": ":",
    "after item": ",]",
    "after member": ",}",
    "end": "",
}


def scan(line: bytes) -> Document:
    """Check the grammar and find the top level's members. Keeps its own stack, so no nesting is too deep for it."""
    stack: list[str] = []
    members: list[Member] = []
    state, name, key, start, token = "value", "", 0, 0, Token("", 0, 0)
    for token in tokens(line):
        if token.kind not in GRAMMAR[state]:
            raise NotJson(token.start)
        if stack == ["{"] and state in ("first name", "name") and token.kind == "s":
            name, key = json.loads(line[token.start : token.end]), token.start
        if stack == ["{"] and state == "value":
            start = token.start
        state = following(state, token.kind, stack)
        if stack == ["{"] and state == "after member":
            members.append(Member(name, key, start, token.end))
    if state != "end":
        raise NotJson(len(line))
    return Document(token.kind == "}", members, token.start)


def following(state: str, token: str, stack: list[str]) -> str:
    """Give the state after a token that the grammar allows. Opens and closes what stands on the stack."""
    if token in "{[":
        stack.append(token)
        return "first name" if token == "{" else "first item"
    if token == ",":
        return "name" if stack[-1] == "{" else "value"
    if token == ":":
        return "value"
    if token == "s" and state in ("first name", "name"):
        return "colon"
    if token in "}]":
        stack.pop()
    return after(stack)


def after(stack: Sequence[str]) -> str:
    """Give the state after a value that stands in the innermost of these."""
    if not stack:
        return "end"
    return "after member" if stack[-1] == "{" else "after item"


def read(line: bytes, document: Document, columns: Mapping[str, str]) -> dict[str, object]:
    """Read the columns. A member that is missing is None, like one that is null."""
    found = faults(line, document, columns)
    for kind in COLUMN_FAULTS:
        if kind in found.values():
            raise Rejected(kind)
    members = {name: document.last(name) for name in columns}
    return {
        name: None if member is None else value_of(line[member.start : member.end], columns[name])
        for name, member in members.items()
    }


def faults(line: bytes, document: Document, columns: Mapping[str, str]) -> dict[str, str]:
    """Give the columns that hold something else than their type, with the kind of fault each has."""
    found = {}
    for name, kind in columns.items():
        member = document.last(name)
        try:
            if member is not None:
                value_of(line[member.start : member.end], kind)
        except Rejected as rejected:
            found[name] = str(rejected)
    return found


def value_of(text: bytes, kind: str) -> object:
    """Read a value of the column's type."""
    if text == b"null":
        return None
    if kind == "json":
        return text.decode()
    if kind == "string" and text.startswith(b'"'):
        return string_of(text)
    if kind == "boolean" and text in (b"true", b"false"):
        return text == b"true"
    if kind == "float" and re.fullmatch(NUMBER, text):
        return float_of(text)
    if kind in INTEGER_RANGES and re.fullmatch(rb"-?[0-9]+", text):
        return integer_of(text, *INTEGER_RANGES[kind])
    if kind not in {"string", "boolean", "float", *INTEGER_RANGES}:
        raise ValueError(kind)
    raise Rejected("type")


def string_of(text: bytes) -> str:
    """Read a string. Two escapes that are a surrogate pair are one character; half a pair cannot be computed with."""
    value = str(json.loads(text))
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Rejected("surrogate")
    return value


def float_of(text: bytes) -> float:
    """Read a number as an IEEE double; one that is too small becomes zero, one that is too large does not exist."""
    value = float(text) if text != b"-0" else 0.0  # an integer, of which zero has no sign
    if math.isinf(value):
        raise Rejected("range")
    return value


def integer_of(text: bytes, lowest: int, highest: int) -> int:
    """Read an integer in a range, both ends included."""
    if len(text.lstrip(b"-")) > MAX_INTEGER_DIGITS or not lowest <= int(text) <= highest:
        raise Rejected("range")
    return int(text)


def emit(expected: Expected, line: bytes, document: Document, results: list[tuple[str, object]], spec: Spec) -> None:
    """Splice the results into the line: in the place of a member's value that stays, or else before the closing brace.

    Of the members that stay, each has the separator before it that it had, but for the first, which has none.
    """
    staying = [member for member in document.members if spec.stays(member.name)]
    replaced: dict[Member, Piece] = {}
    appended: list[Piece] = []
    for name, value in results:
        if isinstance(value, float) and not math.isfinite(value):
            expected.nonfinite[name] = expected.nonfinite.get(name, 0) + 1
        member = document.last(name)
        if member is not None and member in staying:
            replaced[member] = spelled(value)
        else:
            comma = b"," if staying or appended else b""
            appended += [comma + json.dumps(name, ensure_ascii=False).encode() + b":", spelled(value)]
    expected.output.append(line[: document.members[0].key] if document.members else line[: document.close])
    for before, member in zip([None, *document.members], document.members, strict=False):
        if member in staying:
            if before is not None and member != staying[0]:
                expected.output.append(line[before.end : member.key])
            expected.output += [line[member.key : member.start], replaced.get(member, line[member.start : member.end])]
    if document.members:
        expected.output.append(line[document.members[-1].end : document.close])
    expected.output += [*appended, line[document.close :]]


def spelled(value: object) -> Piece:
    """Turn a result into what must be written for it; bytes stay as they are."""
    if isinstance(value, bytes):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return Number(value)
    if isinstance(value, str):
        return Text(value)
    raise TypeError(f"no result of type {type(value)}")


def joined(pieces: list[Piece]) -> list[Piece]:
    """Join the bytes that stand beside each other."""
    output: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, bytes) and output and isinstance(output[-1], bytes):
            output[-1] += piece
        elif piece:
            output.append(piece)
    return output


def match(expected: Expected, actual: bytes) -> None:
    """Raise AssertionError, saying where, unless `actual` is the expected output."""
    at = 0
    for piece in expected.output:
        if isinstance(piece, bytes):
            if actual[at : at + len(piece)] != piece:
                same = common(piece, actual[at:])
                raise AssertionError(difference(actual, at + same, repr(piece[same : same + 60])))
            at += len(piece)
            continue
        found = re.compile(STRING if isinstance(piece, Text) else NUMBER).match(actual, at)
        if found is None or not says(piece, found.group()):
            raise AssertionError(difference(actual, at, repr(piece)))
        at = found.end()
    if at != len(actual):
        raise AssertionError(difference(actual, at, "the end of the output"))


def says(piece: Number | Text, spelling: bytes) -> bool:
    """Tell whether the JSON is the value."""
    if isinstance(piece, Text):
        # What is not UTF-8 becomes surrogates, which no result holds.
        return bool(json.loads(spelling.decode("utf-8", "surrogateescape")) == piece.value)
    if isinstance(piece.value, int):
        return spelling.decode() == str(piece.value)
    return float(spelling) == piece.value


def common(left: bytes, right: bytes) -> int:
    """Count the bytes that two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def difference(actual: bytes, at: int, wanted: str) -> str:
    """Say where the output differs, and how."""
    line = actual.count(b"\n", 0, at) + 1
    column = at - (actual.rfind(b"\n", 0, at) + 1)
    return (
        f"output differs at byte {at} (line {line}, byte {column} of it), after {actual[max(0, at - 60) : at]!r}:\n"
        f"  expected {wanted}\n  found    {actual[at : at + 60]!r}"
    )
