"""Rows of a sequence of JSON texts: against a slow reference, for every cut of the input into chunks."""

from __future__ import annotations

import io
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import json_texts
from tests.support.kernels import levels
from tests.support.rows_reference import Row, rows_of
from transform.decode.json_rows import JsonRowReader
from transform.errors import InputError
from transform.io.chunks import BOM, LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES, Chunk, copy_chunk
from transform.io.object_checksum import checksum_of
from transform.native.rows import BEFORE_BYTES, RowFinder, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transform.native.binding import Kernel

GAPS = ("", "", " ", "\n", "\r\n", "\n\n  ", "\t\n", "  ", "\r")
JUNK = (
    *('{"a": 1,', '{"a" 1}', '{"a": "x', '{"a": [1, 2}', '"a": 1}', "}", "]", ",", "[", "nope", "[[{}]", '{"a": tru}'),
    *('{"a": "\\"}', "{'a': 1}", '{"b": {"a": 1}', "1 2", '{"a": 1},', "{", "[{"),
    '{"a":\n{"b":[\n{"x":1}\n],\n{"y":2}\n',
)


class Pieces(io.RawIOBase):
    """A stream that returns its content in pieces of given sizes, again and again."""

    def __init__(self, data: bytes, sizes: Sequence[int]) -> None:
        self._data = memoryview(data)
        self._sizes = sizes
        self._reads = 0

    def readinto(self, view: Any) -> int:
        size = min(self._sizes[self._reads % len(self._sizes)], len(view), len(self._data))
        self._reads += 1
        view[:size] = self._data[:size]
        self._data = self._data[size:]
        return size


def read(data: bytes, chunk_bytes: int = 1 << 20, sizes: Sequence[int] = (1 << 20,), **options: Any) -> list[Chunk]:
    reader = JsonRowReader(Pieces(data, sizes).readinto, chunk_bytes, **options)
    chunks = [copy_chunk(chunk) for chunk in reader]
    return [chunk for chunk in chunks if isinstance(chunk, Chunk)]


def rows_in(chunks: Iterable[Chunk]) -> Iterator[Row]:
    """Yield the rows of chunks as the reference has them."""
    for chunk in chunks:
        assert chunk.places is not None
        lines = bytes(chunk.data).splitlines(keepends=True)
        assert b"".join(lines).count(b"\n") == len(lines) == len(chunk.places.offsets)
        unfit = {one.row: one for one in chunk.places.unfit}
        for index, (line, offset) in enumerate(zip(lines, chunk.places.offsets.tolist(), strict=True)):
            if index in unfit:
                assert line == b"!\n"
                yield Row(offset, unfit[index].raw, None)
            else:
                yield Row(offset, b"", line[:-1])


def expected_of(data: bytes) -> list[Row]:
    start = len(BOM) if data.startswith(BOM) else 0
    found = rows_of(data[start:])
    return [Row(row.start + start, b"" if row.line is not None else row.raw, row.line) for row in found]


@st.composite
def _spelled(draw: st.DrawFn) -> str:
    """Draw a JSON value, indented or not, with any white space."""
    text = draw(json_texts.values())
    how = draw(st.integers(0, 3))
    try:
        if how == 0:
            indent = draw(st.sampled_from((0, 1, 2)) | st.just("\t"))
            return json.dumps(json.loads(text), indent=indent, ensure_ascii=False)
    except (ValueError, UnicodeError):
        pass
    if how == 1:  # line breaks wherever there is white space outside of strings
        return text.replace(": ", ":\n ") if '"' not in text else text
    return text


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    """Draw a sequence of JSON texts, some of them broken, with anything between them."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        gap = draw(st.sampled_from(GAPS))
        kind = draw(st.integers(0, 9))
        if kind < 4:
            parts.append('{"a":' + gap + draw(_spelled()) + "}")
        elif kind < 7:
            elements = draw(st.lists(_spelled() | st.sampled_from(["{}", '{"a": 1}', "7", '"x"']), max_size=4))
            comma = draw(st.sampled_from([",", ",\n", ",\n  ", " ,\r\n\t", ",\n\n"]))
            parts.append("[" + gap + comma.join(elements) + gap + "]")
        elif kind < 9:
            parts.append(draw(st.sampled_from(JUNK)))
        else:
            parts.append(draw(_spelled()))
        parts.append(draw(st.sampled_from(GAPS)))
    text = "".join(parts).encode("utf-8", "surrogatepass")
    if text and draw(st.booleans()):  # a byte goes, or another one comes
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(st.sampled_from([b"", b'"', b"{", b"}", b",", b"\n", b"\\", b"\n{"])) + text[at + 1 :]
    return draw(st.sampled_from([b"", b"", BOM])) + text


@given(_texts(), st.integers(1, 90), st.lists(st.integers(1, 40), min_size=1, max_size=5))
@example(b'{"a": 1,\n{"b":2}\n{"c":3}', 3, [1])
@example(b'[\n{"a":1}\n{"b":2},\n{"c":3}\n]', 1, [1])
@example(b'[\n  {"a" 1},\n  {"b":[\n    {"c":1}\n  ]},\n  {"d":1}\n]', 2, [3])
def test_rows_are_those_of_the_reference_however_the_input_is_cut(
    data: bytes, chunk_bytes: int, sizes: list[int]
) -> None:
    expected = expected_of(data)
    assert list(rows_in(read(data))) == expected
    chunks = read(data, chunk_bytes, sizes)
    assert list(rows_in(chunks)) == expected
    stop = len(BOM) if data.startswith(BOM) else 0
    for chunk in chunks:
        assert chunk.offset == stop
        stop = chunk.stop
    assert stop == len(data)


@given(_texts(), st.integers(1, 60), st.data())
def test_reading_goes_on_where_a_chunk_stopped(data: bytes, chunk_bytes: int, draw: st.DataObject) -> None:
    chunks = read(data, chunk_bytes)
    if not chunks:
        return
    count = draw.draw(st.integers(1, len(chunks)))
    last = chunks[count - 1]
    rest = read(data[last.stop :], 1 << 20, start=last.stop, after=last.after)
    assert [*rows_in(chunks[:count]), *rows_in(rest)] == expected_of(data)


@pytest.mark.parametrize("kernel", levels(), ids=lambda kernel: kernel.level)
@given(_texts())
def test_every_level_of_the_processor_finds_the_same_rows(kernel: Kernel, data: bytes) -> None:
    data = data.removeprefix(BOM)
    room = memoryview(bytearray(b"\n" * BEFORE_BYTES + data + b"\n" + b'"' * 63))[: BEFORE_BYTES + len(data)]
    finder = RowFinder(BEFORE_BYTES, room=3, kernel=kernel)
    found = []
    while len(rows := finder.find(room, at_end=True)):
        assert len(rows) <= 3
        lines = bytes(write_rows(room, rows, kernel)).splitlines()
        for line, start, fault in zip(lines, rows.starts.tolist(), rows.faults.tolist(), strict=True):
            found.append((start - BEFORE_BYTES, None if fault else line))
    assert found == [(row.start, row.line) for row in expected_of(data)]


@given(_texts(), st.integers(1, 40))
def test_checksums_of_all_chunks_are_those_of_the_input(data: bytes, chunk_bytes: int) -> None:
    for chunk in read(data, chunk_bytes, max_row_bytes=20, with_checksums=True):
        assert chunk.places is not None
        assert chunk.places.checksums is not None
        assert chunk.places.checksums["CRC32"] == checksum_of("CRC32", data[chunk.offset : chunk.stop])


def test_long_rows_are_rejected_with_their_first_bytes() -> None:
    text = b'{"a": "' + b"x" * 200_000 + b'"}'
    data = b'{"b":1}' + text + b' {"c":2}\n[' + text + b"\n,{}]"
    for chunk_bytes in (50_000, 1 << 20):
        chunks = read(data, chunk_bytes, max_row_bytes=100_000)
        found = list(rows_in(chunks))
        head = text[:LONG_LINE_HEAD_BYTES]
        assert found == [
            Row(0, b"", b'{"b":1}'),
            Row(7, head, None),
            Row(8 + len(text) + 7 - 7 + 0, b"", b'{"c":2}'),
            Row(8 + len(text) + 7 + 2, head, None),
            Row(8 + 2 * len(text) + 7 + 4, b"", b"{}"),
        ]
        lengths = [one.length for chunk in chunks if chunk.places for one in chunk.places.unfit]
        assert lengths == [len(text) + 1, len(text) + 1]


@pytest.mark.parametrize("size", [99, 100, 101, 102])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000])
def test_limit_of_a_row(size: int, chunk_bytes: int) -> None:
    row = b'{"a":"' + b"x" * (size - 8) + b'"}'
    lines = [row.line for row in rows_in(read(row + b"{}", chunk_bytes, max_row_bytes=100))]
    assert lines == [row if size <= 100 else None, b"{}"]


def test_memory_is_that_of_a_row_and_not_of_its_array() -> None:
    buffers = set()
    reader = JsonRowReader(Endless(b"[", b'{"a": [1,\n 2]},\n', 300_000).readinto, 1 << 16)
    count = 0
    for chunk in reader:
        assert chunk.places is not None
        count += len(chunk.places.offsets)
        buffers.add(len(reader._buffer))
    assert count == 300_000 + 1  # the array is not closed
    assert max(buffers) <= 2 << 16


class Endless(io.RawIOBase):
    """A stream that repeats a text."""

    def __init__(self, first: bytes, text: bytes, times: int) -> None:
        self._left = len(first) + len(text) * times
        self._first, self._text, self._at = first, text * 5000, 0

    def readinto(self, view: Any) -> int:
        if self._first:
            view[: len(self._first)] = self._first
            count, self._first = len(self._first), b""
        else:
            count = min(len(view), self._left, len(self._text) - self._at)
            view[:count] = self._text[self._at : self._at + count]
            self._at = (self._at + count) % len(self._text)
        self._left -= count
        return count


def test_broken_rows_between_good_ones_are_never_passed_off_as_good() -> None:
    """Good rows have a member `good` with their number; whatever else is accepted is not one of them."""
    rng = random.Random(5)
    for indent in (None, 1, 2, 4):
        for in_array in (False, True):
            rows, broken = [], set()
            for number in range(300):
                value = {"good": number, "items": [{"x": number}, {"y": [{}, {"z": 1}]}], "end": {"e": number}}
                text = json.dumps(value, indent=indent)
                if rng.random() < 0.2:
                    broken.add(number)
                    at = rng.choice([at for at, mark in enumerate(text) if mark in '{}[]",:'][1:])
                    text = text[:at] + text[at + 1 :]
                if in_array and indent:
                    text = "\n".join(" " * indent + line for line in text.split("\n"))
                rows.append(text)
            data = ("[\n" + ",\n".join(rows) + "\n]\n") if in_array else "\n".join(rows) + "\n"
            accepted = [row.line for row in rows_in(read(data.encode(), 1000)) if row.line is not None]
            numbers = []
            for line in accepted:
                found = json.loads(line)
                assert set(found) == {"good", "items", "end"}, line
                numbers.append(found["good"])
            assert numbers == sorted(set(numbers) - broken)
            assert len(numbers) > 150


def test_text_in_utf_16_is_refused() -> None:
    with pytest.raises(InputError, match="UTF-16"):
        read('{"a":1}'.encode("utf-16"))


def test_default_limit_is_that_of_lines() -> None:
    assert JsonRowReader(io.BytesIO(b"{}").readinto)._max_row_bytes == MAX_LINE_BYTES
