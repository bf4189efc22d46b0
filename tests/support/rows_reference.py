"""The rows of a sequence of JSON texts, found a second time: slowly and plainly, in the whole text at once.

It uses the standard library only, and shares no code and no table with the package. `rows_of` says what is a row and
what is not; whether a row is an object by the grammar of JSON is another question, which `is_object` answers.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

DEEPEST = 512
WHITE = re.compile(rb"[ \t\r\n]*")
WHITE_WITH_BREAK = re.compile(rb"[ \t]*[\r\n][ \t\r\n]*")
WHOLE_STRING = re.compile(rb'"(?:[^"\\\r\n]|\\[^\r\n])*+"')
OPEN_STRING = re.compile(rb'"(?:[^"\\\r\n]|\\[^\r\n])*+\\?')
BARE = re.compile(rb'[^ \t\r\n{}\[\],:"\\]+')
STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"')
SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


class Row(NamedTuple):
    """A row: where it starts, and its bytes; or what is no row.

    `line` is the row without line breaks. If it is None, `raw` is broken.
    """

    start: int
    raw: bytes
    line: bytes | None


class _Broken(Exception):  # noqa: N818 - an outcome
    def __init__(self, place: int) -> None:
        self.place = place


def rows_of(text: bytes) -> list[Row]:  # noqa: C901 - in one piece, it reads like the rule
    """Return all rows of a text, without a byte order mark, and what is in their place."""
    rows: list[Row] = []
    at, in_array, again = 0, False, False
    comma = False  # whether an element has to come
    while True:
        start = _after_white(text, at)
        try:
            if start == len(text):
                if in_array:
                    rows.append(Row(len(text), b"", None))
                return rows
            mark = text[start : start + 1]
            if mark == b"[" and not in_array:
                at, in_array, comma, again = start + 1, True, False, False
                continue
            if mark == b"]" and in_array and not comma:
                at, in_array = start + 1, False
                continue
            end = _end_of_value(text, start)
            follower = _after_white(text, end)
            following = text[follower : follower + 1]
            if in_array and again and following in (b"{", b"["):  # it was the sequence after the array
                in_array = False
            if in_array and following not in (b",", b"]", b""):
                raise _Broken(follower)
            if not in_array and following in (b",", b"]", b"}", b":", b"\\"):
                raise _Broken(follower)
            if following == b"" and in_array and again:
                raise _Broken(follower)
            of_word = mark not in b'{["'
            if of_word and (not SCALAR.fullmatch(text[start:end]) or text[end : end + 1] in (b"{", b"[", b'"')):
                raise _Broken(follower)
            raw = text[start:end]
            rows.append(Row(start, raw, _without_breaks(raw)))
            again = False
            at = end
            if in_array and following:
                at, in_array, comma = follower + 1, following == b",", following == b","
        except _Broken as broken:
            line, brace = _next_line(text, start, broken.place, in_array=in_array)
            rows.append(Row(start, text[start:line].rstrip(b" \t\r\n"), None))
            at, again, comma = brace, True, True
            if brace == len(text):
                return rows


def _after_white(text: bytes, at: int) -> int:
    found = WHITE.match(text, at)
    assert found
    return found.end()


def _end_of_token(text: bytes, at: int) -> int:
    """Return where a string or a word ends."""
    if text[at : at + 1] != b'"':
        bare = BARE.match(text, at)
        assert bare
        return bare.end()
    whole = WHOLE_STRING.match(text, at)
    if whole:
        return whole.end()
    part = OPEN_STRING.match(text, at)
    assert part
    raise _Broken(part.end())


def _end_of_value(text: bytes, start: int) -> int:  # noqa: C901 - likewise
    """Return where the value that starts at a place ends, looking at nothing but marks, strings and words."""
    at, awaited = start, "value"
    inside: list[bytes] = []  # the brackets that are open
    while True:
        at = _after_white(text, at)
        if at == len(text):
            raise _Broken(at)
        mark = text[at : at + 1]
        if mark == b"\\":
            raise _Broken(at)
        if len(inside) > DEEPEST:  # only brackets count
            if mark in b"{[":
                inside.append(mark)
            elif mark in b"]}":
                inside.pop()
                awaited = "after"
            at = at + 1 if mark in b"{}[],:" else _end_of_token(text, at)
            continue
        if mark in b"{[" and awaited in ("value", "first"):
            inside.append(mark)
            awaited = "first" if mark == b"[" else "first name"
            at += 1
        elif mark in b"]}" and inside and mark == {b"[": b"]", b"{": b"}"}[inside[-1]]:
            if awaited not in ("first", "first name", "after"):
                raise _Broken(at)
            inside.pop()
            at += 1
            if not inside:
                return at
            awaited = "after"
        elif mark == b"," and awaited == "after" and inside:
            awaited = "value" if inside[-1] == b"[" else "name"
            at += 1
        elif mark == b":" and awaited == "colon":
            awaited = "value"
            at += 1
        elif mark == b'"' and awaited in ("name", "first name"):
            at, awaited = _end_of_token(text, at), "colon"
        elif mark not in b"{}[],:" and awaited in ("value", "first"):
            at = _end_of_token(text, at)
            if not inside:
                return at
            awaited = "after"
        else:
            raise _Broken(at)


def _without_breaks(raw: bytes) -> bytes:
    """Return a row without the white space that has line breaks in it."""
    parts, at = list[bytes](), 0
    while at < len(raw):
        if raw[at : at + 1] == b'"':
            end = _end_of_token(raw, at)
            parts.append(raw[at:end])
        elif gap := WHITE_WITH_BREAK.match(raw, at):
            end = gap.end()
        else:
            end = at + 1
            parts.append(raw[at:end])
        at = end
    return b"".join(parts)


def _next_line(text: bytes, start: int, place: int, *, in_array: bool) -> tuple[int, int]:
    """Return where the line starts that the next row is in, and that row; the end of the text if there is none."""
    line = max(text.rfind(b"\n", 0, start), text.rfind(b"\r", 0, start)) + 1
    indent = text[line:start]
    if indent.strip(b" \t") or len(indent) >= 32:
        indent = b""
    pattern = rb"(?<=[\r\n])" + re.escape(indent) + (rb'(?={")' if in_array and not indent else rb"(?={)")
    for found in re.finditer(pattern, text):
        if found.end() > start and found.end() >= place:
            return found.start(), found.end()
    return len(text), len(text)


def is_object(line: bytes) -> bool:
    """Return whether a line is a JSON object, by the decoder of the standard library."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        text = line.decode()
        value, end = json.JSONDecoder(parse_constant=refuse, parse_int=str, parse_float=str).raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return end == len(text) and isinstance(value, dict)
