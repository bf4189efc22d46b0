"""Lines are rejected for the same reasons whether they are decoded one by one, or many are looked at at once."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hostile import NO_NUMBERS, NUMBERS, Lines
from tests.support.kernels import levels
from transform.decode.decoder import Decoder
from transform.decode.line_decoder import LineDecoder
from transform.decode.line_errors import LineError, full_reason, reason_of_fault
from transform.decode.members import read_members
from transform.decode.schema import Column, Read, Use
from transform.errors import WidenError
from transform.io.chunks import Chunk
from transform.native.binding import Fault, find_faults
from transform.native.wanted import SLACK

OFFSET = 1000
COLUMNS = {
    "numbers": {"a": Column(pl.Float64()), "b": Column(pl.Int64())},
    "small": {"a": Column(pl.Int8()), "b": Column(pl.UInt64())},
    "texts": {"a": Column(pl.String()), "b": Column(pl.Boolean())},
    "wide": {"b": Column(pl.Int128()), "a": Column(pl.String())},
    "inferred": {"b": Column(pl.String(), inferred=True), "a": Column(pl.Int128(), inferred=True)},
    "inferred lists": {"b": Column(pl.Boolean()), "a": Column(pl.List(pl.Int128()), inferred=True)},
    "paths": {"customer.a": Column(pl.Float64(), read=Read(("customer", "a"))), "b": Column(pl.Int64())},
    "lists": {"a": Column(pl.Float64()), "b": Column(pl.List(pl.Int64()))},
    "any list": {
        "a": Column(pl.List(pl.Null()), inferred=True, read=Read(("a",), elements=frozenset())),
        "b": Column(pl.Int64()),
    },
    "any": {"a": Column(pl.Boolean(), inferred=True, read=Read(("a",), Use.PRESENCE)), "b": Column(pl.Int64())},
}
UNCHANGED = {"c": ("customer", "n")}
VALUES = st.sampled_from(
    [
        *(
            "null",
            "1",
            "-7",
            "1.5",
            "1.0",
            "2e3",
            "1e400",
            "-1e400",
            "1e5",
            "300",
            "-0",
            "9" * 19,
            "9" * 20,
            "9" * 40,
            "9" * 5000,
        ),
        *('"x"', '"' + "é" * 50 + '"', r'"\u00e9"', r'"\ud83d"', "true", "false", "[]", "[1]", '["x"]', "[1.5]", "{}"),
        *('{"a":1}', '{"a":"x","n":2}', '{"a":1.5,"a":true}', '"1"'),
    ]
)
MEMBERS = st.lists(st.tuples(st.sampled_from(["a", "b", "customer", "x"]), VALUES), max_size=4)


def compare(lines: list[bytes], columns: dict[str, Column]) -> None:
    """Decode lines as a chunk, and one by one."""
    single = LineDecoder(columns, UNCHANGED)
    expected, offset = [], OFFSET
    wider = None
    for index, line in enumerate(lines):
        try:
            if line.strip(b" \t\r"):
                single.decode(line, offset)
        except LineError as error:
            expected.append((index, offset, error.kind, str(error), line))
        except WidenError as error:
            wider = str(error)
            break
        offset += len(line) + 1
    decoder = Decoder(columns, unchanged=UNCHANGED)
    chunk = Chunk(memoryview(bytearray(b"\n".join([*lines, b""]))), OFFSET)
    if wider is not None:
        with pytest.raises(WidenError) as raised:
            decoder.decode(chunk)
        assert str(raised.value) == wider
        return
    found = [
        (reject.line, reject.offset, reject.kind, reject.reason, reject.raw) for reject in decoder.decode(chunk).rejects
    ]
    assert found == expected


@pytest.mark.parametrize("name", COLUMNS)
@settings(deadline=None)
@given(members=st.lists(MEMBERS, min_size=1, max_size=8))
def test_a_misfit_has_the_reason_that_the_line_alone_has(name: str, members: list[list[tuple[str, str]]]) -> None:
    lines = ["{" + ",".join(f'"{name}":{value}' for name, value in line) + "}" for line in members]
    compare([line.encode() for line in lines], COLUMNS[name])


@pytest.mark.parametrize("name", COLUMNS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32))
def test_a_hostile_line_has_the_reason_that_it_has_alone(name: str, seed: int) -> None:
    compare(Lines(seed).lines(20), COLUMNS[name])


_WORDS = [
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "None",
    "nul",
    "nulls",
    "truth",
    "falsely",
    "undefined",
    "x",
    "abc9",
    "é",
]
_PARTS = st.text("Nnaultrefs+-._$9é,:]} '\"#/\x07", max_size=14)
_IN_PLACE_OF_VALUES = st.sampled_from(_WORDS) | st.tuples(st.sampled_from(_WORDS), _PARTS).map("".join) | _PARTS


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.tuples(st.sampled_from(['{"a":', '{"a": ', '{"b":[1,', '{"x":"', "{", '{"a":1 ']), _IN_PLACE_OF_VALUES),
        min_size=1,
        max_size=12,
    ),
    end=st.sampled_from(["}", ',"a":1}', ' ,"b":[NaN]}', ""]),
)
def test_a_word_in_the_place_of_a_value_has_the_reason_that_it_has_alone(
    lines: list[tuple[str, str]], end: str
) -> None:
    compare([f"{start}{word}{end}".encode() for start, word in lines], COLUMNS["numbers"])


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), names=st.sampled_from([(), ("a",), ("a", "b"), ("a", 'a"b')]))
def test_the_kernel_finds_the_fault_at_which_msgspec_stops(seed: int, names: tuple[str, ...]) -> None:
    made = Lines(seed)
    lines = [line for line in made.lines(40) if line.strip(b" \t\r")]
    lines += [number.encode() + made.random.choice((b"", b" ", b" 1", b",")) for number in (*NUMBERS, *NO_NUMBERS)]
    data = np.frombuffer(b"\n".join(lines) + b"\n" + bytes(SLACK), np.uint8)
    stops = np.cumsum([len(line) + 1 for line in lines]) - 1
    starts = stops - [len(line) for line in lines]
    for kernel in levels():
        faults, places = find_faults(data, starts, stops, kernel)
        for line, fault, place in zip(lines, faults.tolist(), places.tolist(), strict=True):
            reason = None
            try:
                read_members(line, names)
            except LineError as error:
                reason = str(error)
            if fault == Fault.NONE:
                assert reason is None, line
            elif fault != Fault.UNSURE:
                assert full_reason(*(reason_of_fault(line, fault, place) or ("",) * 2)) == reason, line


@pytest.mark.parametrize(
    ("fault", "line", "place"),
    [
        (Fault.NONE, b' {"a":[1,{"b":"\\u00e9"}]} ', 26),
        (Fault.UNSURE, b'{"a":"\\ud83d"}', None),
        (Fault.UNSURE, b"{" + b"[" * 600, None),
        (Fault.UNSURE, b"1.0", None),
        (Fault.UNSURE, b"1234567890123456789", None),
        (Fault.IS_INTEGER, b" -12 ", 5),
        (Fault.TRAILING, b"12 34", 3),
        (Fault.NOT_UTF8, b'{"a":"\xe9"}', 6),
        (Fault.IS_ARRAY, b"[{}]", 4),
        (Fault.IS_STRING, b'"a"', 3),
        (Fault.TRUNCATED, b'{"a":"b', None),
        (Fault.TRAILING, b"{} {}", 3),
        (Fault.CHARACTER, b'{"a":nope}', 6),
        (Fault.UNICODE_ESCAPE, b'{"a":"\\u00x0"}', 11),
        (Fault.ESCAPE_IN_NAME, b'{"\\x":1}', 4),
        (Fault.ESCAPE, b'{"a":"\\x"}', 7),
        (Fault.COMMA_IN_ARRAY, b'{"a":[1 2]}', 8),
        (Fault.COMMA_IN_OBJECT, b'{"a":1 "b":2}', 7),
        (Fault.LAST_IN_ARRAY, b'{"a":[1,]}', 8),
        (Fault.LAST_IN_OBJECT, b'{"a":1,}', 7),
        (Fault.KEY, b"{a:1}", 1),
        (Fault.INNER_KEY, b'{"a":{b:1}}', 6),
        (Fault.COLON, b'{"a" 1}', 5),
        (Fault.NUMBER, b'{"a":01}', 6),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_each_fault_is_found_by_the_kernel(fault: Fault, line: bytes, place: int | None) -> None:
    data = np.frombuffer(line + bytes(SLACK), np.uint8)
    for kernel in levels():
        faults, places = find_faults(data, np.array([0]), np.array([len(line)]), kernel)
        assert faults[0] == fault
        assert place is None or places[0] == place
