"""What is found in blocks of one line is what a reader of single characters finds, whatever the size of a block."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transform.decode.line_errors import LineError
from transform.decode.members import (
    MAX_DEPTH,
    count_openers,
    first_invalid_utf8,
    is_deep,
    lone_surrogates,
    read_members,
    scan_line,
)

PIECES = [b'"', b"\\", b"\\\\", b'\\"', b"{", b"}", b"[", b"]", b",", b":", b"1", b"\xc3\xa9", b"\\u0041", b"\\\\u"]
ESCAPES = [b"\\ud83d", b"\\uDE00", b"\\uD83D", b"\\udc00", b"\\ud8zz", b"\\\\ud83d", b"\\uda", b"x", b"\\n", b"\\u0041"]
TEXTS = st.lists(st.sampled_from([*PIECES, *ESCAPES]), max_size=20).map(b"".join)
BLOCKS = st.integers(1, 12)


def marks_of(text: bytes) -> list[tuple[int, int, int]]:
    """Return each mark's position, byte and depth, read one character after the other."""
    found, depth, in_string, escaped = [], 0, False, False
    for position, byte in enumerate(text):
        character = chr(byte)
        if escaped:
            escaped = False
            if character == '"' or in_string:
                continue
        elif character == "\\":
            escaped = True
            continue
        if character == '"':
            in_string = not in_string
            found.append((position, byte, depth))
        elif character in "{}[],:" and not in_string:
            depth += (character in "{[") - (character in "}]")
            found.append((position, byte, depth))
    return found


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, block_bytes=BLOCKS)
@example(text=b'{"a":"\\\\\\\\\\""}', block_bytes=1)
def test_marks_do_not_depend_on_the_size_of_a_block(text: bytes, block_bytes: int) -> None:
    found: list[tuple[int, int, int]] = []
    backslashes: list[int] = []
    for marks in scan_line(text, block_bytes):
        found += zip(marks.positions.tolist(), marks.kinds.tolist(), marks.depths.tolist(), strict=True)
        backslashes += marks.backslashes.tolist()
    assert found == marks_of(text)
    assert backslashes == [position for position, byte in enumerate(text) if byte == ord("\\")]


LONE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


@given(text=st.lists(st.sampled_from(ESCAPES), max_size=12).map(b"".join))
@example(text=b"\\\\ud83d\\udc00")
@example(text=b"\\ud83d\\udc00\\udc00")
def test_lone_surrogates_are_those_that_a_reader_of_all_escapes_finds(text: bytes) -> None:
    assert [*lone_surrogates(text)] == [match.start() for match in LONE.finditer(text) if match[1]]


@given(st.lists(st.sampled_from([b"a", b"\xc3", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\x9f", b"\xff"])).map(b"".join))
def test_the_first_byte_that_is_not_utf8_is_the_one_that_python_says(text: bytes) -> None:
    for data in (text, b"x" * 262_143 + text):
        try:
            data.decode()
            expected = None
        except UnicodeDecodeError as error:
            expected = error.start
        assert first_invalid_utf8(data) == expected


def test_members_are_those_asked_for_and_all_if_none_are() -> None:
    line = b'{"a":1,"b":[{"a":2}],"a":"x","q\\"":null}'
    assert {name: bytes(value) for name, value in read_members(line).values.items()} == {
        "a": b'"x"',
        "b": b'[{"a":2}]',
        'q"': b"null",
    }
    for names in (["a"], ["a", "zzz"], ['q"', "zzz"], []):
        expected = {name: value for name, value in read_members(line).values.items() if name in names}
        assert read_members(line, names).values == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from([b'"\\ud83d"', b'"\\ud83d\\ude00"', b'"x"', b'"\\\\ud83d"']), min_size=3, max_size=3))
def test_members_with_a_lone_surrogate_are_told_with_or_without_names(values: list[bytes]) -> None:
    line = b'{"a":%b,"b":[%b],"\\u0063":%b}' % tuple(values)
    expected = {name for name, value in zip("abc", values, strict=True) if value == b'"\\ud83d"'}
    for names in (None, ["a", "b", "c"]):
        assert read_members(line, names).lone_surrogates == expected


def test_openers_are_counted_in_strings_too_but_not_the_depth() -> None:
    assert count_openers(b'{"[":[{}]}') == 4
    assert not is_deep(b'{"a":"%b"}' % (b"[" * 5000))
    assert is_deep(b"[" * (MAX_DEPTH + 1))
    with pytest.raises(LineError, match=f"nested deeper than {MAX_DEPTH} levels"):
        read_members(b'{"a":' + b"[" * 5000)
