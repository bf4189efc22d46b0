"""However the bytes arrive and however they are cut: the lines are those that a split at every newline gives."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from transform.errors import InputError
from transform.io.chunks import (
    BOM,
    CHUNK_LINES,
    LONG_LINE_HEAD_BYTES,
    Chunk,
    ChunkReader,
    LongLine,
    copy_chunk,
    fill,
    read_chunks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transform.io.chunks import ReadInto

NO_LIMIT_BYTES = 1 << 20
PIECES = (
    b"\n",
    b"\n",
    b"\r\n",
    b"{}",
    b"{",
    b"a",
    b" ",
    b"\t",
    b"[",
    b"\0",
    b"\xff",
    b"x" * 9,
    b"y" * 40,
    BOM,
    BOM[:2],
)
datas = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
read_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=5)
every_chunk_size = st.sampled_from([1, 2, 3, 7, 64, 4096])
every_limit = st.sampled_from([0, 1, 5, 8, 30, NO_LIMIT_BYTES])


def reader(data: bytes, sizes: Iterable[int] = (1 << 30,)) -> ReadInto:
    """Return a reader that gives no more at a time than the sizes say, over and over."""
    rest, limits = memoryview(data), itertools.cycle(sizes)

    def read_into(view: memoryview) -> int:
        nonlocal rest
        assert len(view), "a read of nothing would be taken for the end"
        count = min(len(view), len(rest), next(limits))
        view[:count] = rest[:count]
        rest = rest[count:]
        return count

    return read_into


def copied(items: Iterable[Chunk | LongLine]) -> list[Chunk | LongLine]:
    """Return the items, with the chunks' bytes as they were when they came."""
    return [item if isinstance(item, LongLine) else Chunk(memoryview(bytes(item.data)), item.offset) for item in items]


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Return the lines with their newlines, and where each starts, by the book."""
    content = data.removeprefix(BOM)
    lines = [line + b"\n" for line in content.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    starts = itertools.accumulate((len(line) for line in lines), initial=len(data) - len(content))
    return [(start, line) for start, line in zip(starts, lines, strict=False) if line]


def starts_as_array(data: bytes) -> bool:
    return data.removeprefix(BOM).lstrip(b" \t\r\n").startswith(b"[")


def starts_as_wide_text(data: bytes) -> bool:
    """Return whether data start as JSON in UTF-16 or UTF-32 may, which is refused."""
    start = data[:64].lstrip(b" \t\r\n\0")
    return b"\0" in data[:64] and start[:1] in (b"{", b"[")


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64, 4096])
@settings(max_examples=100, deadline=None)
@given(data=datas, sizes=read_sizes)
@example(data=b"", sizes=[1])
@example(data=b"\n", sizes=[1])
@example(data=BOM, sizes=[1])
@example(data=BOM + BOM + b"\n" + BOM, sizes=[2])
@example(data=b"x" * 64, sizes=[64])
@example(data=b"x" * 63 + b"\n" + b"y" * 64 + b"\n", sizes=[64])
def test_the_lines_are_those_of_a_split_at_every_newline(chunk_bytes: int, data: bytes, sizes: list[int]) -> None:
    assume(not starts_as_wide_text(data))
    if starts_as_array(data):
        with pytest.raises(InputError, match="JSON array"):
            list(read_chunks(reader(data, sizes), chunk_bytes, NO_LIMIT_BYTES))
        return
    stop = len(BOM) if data.startswith(BOM) else 0
    lines = split(data)
    for item in copied(read_chunks(reader(data, sizes), chunk_bytes, NO_LIMIT_BYTES)):
        assert isinstance(item, Chunk)
        assert item.offset == stop, "the chunks follow one another without a gap"
        chunk = bytes(item.data)
        assert chunk == data[stop : stop + len(chunk)]
        assert chunk.endswith(b"\n") or stop + len(chunk) == len(data), "only the input's last line has no newline"
        stop += len(chunk)
        while lines and lines[0][0] < stop:
            start, line = lines.pop(0)
            assert start + len(line) <= stop, "no line is in two chunks"
    assert stop == len(data)


@settings(max_examples=400, deadline=None)
@given(
    data=datas,
    sizes=read_sizes,
    chunk_bytes=st.sampled_from([1, 2, 3, 7, 64, 4096]),
    max_line_bytes=st.sampled_from([0, 1, 5, 8, 30]),
)
def test_only_lines_over_the_limit_are_skipped_over(
    data: bytes, sizes: list[int], chunk_bytes: int, max_line_bytes: int
) -> None:
    data = b"{}\n" + data  # what looks like an array has its own tests
    lines = split(data)
    most = 2 * max(chunk_bytes, max_line_bytes + 2)
    for item in copied(read_chunks(reader(data, sizes), chunk_bytes, max_line_bytes)):
        if isinstance(item, LongLine):
            start, line = lines.pop(0)
            assert (item.offset, item.stop) == (start, start + len(line))
            content = line.removesuffix(b"\n")
            assert (item.head, item.length) == (content, len(content))
            assert item.length > max_line_bytes
        else:
            assert len(item.data) <= most, "what a chunk may take is bounded by its size and the limit"
            rest = bytes(item.data)
            offset = item.offset
            while rest:
                start, line = lines.pop(0)
                assert (start, rest[: len(line)]) == (offset, line)
                rest, offset = rest[len(line) :], offset + len(line)
    assert not lines


@pytest.mark.parametrize("chunk_bytes", [100, LONG_LINE_HEAD_BYTES - 1, LONG_LINE_HEAD_BYTES, 1 << 20])
@pytest.mark.parametrize("length", [LONG_LINE_HEAD_BYTES - 1, LONG_LINE_HEAD_BYTES + 1, 3 * LONG_LINE_HEAD_BYTES + 5])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\nnext", b"\n\n"])
def test_of_a_line_that_is_skipped_over_only_the_head_is_kept(chunk_bytes: int, length: int, tail: bytes) -> None:
    line = bytes(ord("a") + i % 26 for i in range(length))
    first, rest = b"{}\n", tail[1:]
    found = copied(read_chunks(reader(first + line + tail, [50_000]), chunk_bytes, 1000))
    long_lines = [item for item in found if isinstance(item, LongLine)]
    chunks = b"".join(bytes(item.data) for item in found if isinstance(item, Chunk))
    if long_lines:
        assert long_lines == [
            LongLine(line[:LONG_LINE_HEAD_BYTES], length, len(first), len(first) + length + len(tail[:1]))
        ]
        assert chunks == first + rest
    else:  # what the buffer holds is not skipped
        assert 2 * chunk_bytes > length
        assert chunks == first + line + tail


BEFORE_ARRAYS = [
    *(b"", b" ", b"\n", b"\r\n\t \n", BOM, BOM + b"\n ", b" " * 5000, b"\n" * 5000, b" " * 4095),
    BOM + b" \n" * 4096,
]
ARRAYS = [b"[", b"[\n", b"[]", b'[{"a":1},\n{"a":2}]\n', b'[\n  {"a": 1}\n]\n']


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64, 2 << 20])
def test_a_json_array_is_refused(chunk_bytes: int) -> None:
    for data in (before + array for before in BEFORE_ARRAYS for array in ARRAYS):
        blank = bytearray()

        def drain(data: bytes, blank: bytearray) -> None:
            for item in read_chunks(reader(data, [3]), chunk_bytes):
                assert isinstance(item, Chunk)
                blank.extend(item.data)

        with pytest.raises(InputError, match=r"JSON array, not JSON lines .*--format json"):
            drain(data, blank)
        assert not blank.strip(), f"of {data!r} something comes out before it is refused"


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "data", [b"{}\n[1]\n", b"x[", b"\n {}\n[", b"\x0b[1]\n", b"\0[", BOM + BOM + b"[1]\n", b" \n]["]
)
def test_a_bracket_that_is_not_the_first_thing_makes_no_array(chunk_bytes: int, data: bytes) -> None:
    chunks = copied(read_chunks(reader(data, [2]), chunk_bytes))
    content = b"".join(bytes(chunk.data) for chunk in chunks if isinstance(chunk, Chunk))
    assert content == data.removeprefix(BOM)


def test_a_json_array_is_refused_after_a_blank_line_over_the_limit() -> None:
    with pytest.raises(InputError, match="JSON array"):
        list(read_chunks(reader(b" " * 50 + b"\n[1]\n"), 8, 16))
    with pytest.raises(InputError, match="JSON array"):
        list(read_chunks(reader(b" " * 50 + b"[1]\n"), 8, 16))


def test_a_line_over_the_limit_that_starts_with_white_space_is_not_taken_for_nothing() -> None:
    found = copied(read_chunks(reader(b" " * 50 + b"{}\n[1]\n"), 8, 16))
    assert found == [LongLine(b" " * 50 + b"{}", 52, 0, 53), Chunk(memoryview(b"[1]\n"), 53)]


@pytest.mark.parametrize("line", [b"\n", b"x\n", b'{"a":1}\n'])
def test_a_chunk_of_short_lines_is_several(line: bytes) -> None:
    """However many lines there are, as many are rejected at a time as memory allows."""
    long = b"y" * 5000 + b"\n"
    data = line * (3 * CHUNK_LINES + 5) + long + b"end"
    found = copied(read_chunks(io.BytesIO(data).readinto))
    assert b"".join(chunk.data for chunk in found if isinstance(chunk, Chunk)) == data
    position = 0
    for chunk in found:
        assert isinstance(chunk, Chunk)
        assert chunk.offset == position
        assert bytes(chunk.data).count(b"\n") <= CHUNK_LINES
        position += len(chunk.data)


# --- however it is read ----------------------------------------------------------------------------------------------


def test_nothing_is_read_before_the_first_chunk_is_asked_for() -> None:
    asked: list[int] = []

    def read_into(view: memoryview) -> int:
        asked.append(len(view))
        return 0

    chunks = ChunkReader(read_into)
    iterator, others = iter(chunks), read_chunks(read_into)
    assert asked == []
    assert list(iterator) == list(others) == []
    assert asked != []


def outcome(data: bytes, sizes: Iterable[int], *args: int, only_blank: bool = False) -> list[Chunk | LongLine | str]:
    """Return what comes, and how it fails if it does."""
    found: list[Chunk | LongLine | str] = []
    try:
        for item in ChunkReader(reader(data, sizes), *args, only_blank=only_blank):
            found += copied([item])
    except InputError as error:
        found.append(str(error))
    return found


@settings(max_examples=400, deadline=None)
@given(data=datas, sizes=read_sizes, chunk_bytes=every_chunk_size, max_line_bytes=every_limit, start=st.integers(0, 9))
@example(data=BOM + b"[1]", sizes=[1, 2], chunk_bytes=1, max_line_bytes=0, start=0)
def test_how_much_a_read_gives_never_shows(
    data: bytes, sizes: list[int], chunk_bytes: int, max_line_bytes: int, start: int
) -> None:
    args = (chunk_bytes, max_line_bytes, start)
    assert outcome(data, sizes, *args) == outcome(data, [1 << 30], *args)


@settings(max_examples=400, deadline=None)
@given(
    before=st.lists(st.sampled_from(PIECES), max_size=9).map(b"".join),
    data=datas,
    sizes=read_sizes,
    chunk_bytes=every_chunk_size,
)
@example(before=b"", data=b"{}\n[1]", sizes=[9], chunk_bytes=4)
@example(before=b" ", data=b"[1]", sizes=[9], chunk_bytes=4)
@example(before=b" ", data=b"\n {}\n[1]", sizes=[9], chunk_bytes=4)
@example(before=b" ", data=BOM + b"[1]", sizes=[9], chunk_bytes=4)
@example(before=b"{}", data=b"[1]", sizes=[9], chunk_bytes=4)
def test_it_is_gone_on_with_from_any_line(before: bytes, data: bytes, sizes: list[int], chunk_bytes: int) -> None:
    """What was read before shows only in offsets, in a BOM that is none, and in whether an array may begin."""
    before += b"\n"
    only_blank = not before.strip(b" \t\r\n")
    args = (chunk_bytes, NO_LIMIT_BYTES, len(before))
    found = outcome(data, sizes, *args, only_blank=only_blank)
    if only_blank and data.lstrip(b" \t\r\n").startswith(b"["):
        assert isinstance(found.pop(), str)
        assert not b"".join(bytes(chunk.data) for chunk in found if isinstance(chunk, Chunk)).strip()
        return
    offset = len(before)
    for chunk in found:
        assert isinstance(chunk, Chunk)
        assert chunk.offset == offset
        assert bytes(chunk.data) == data[offset - len(before) : offset - len(before) + len(chunk.data)]
        offset += len(chunk.data)
    assert offset == len(before) + len(data)


@settings(max_examples=400, deadline=None)
@given(lengths=st.lists(st.integers(0, 70), max_size=20), chunk_bytes=every_chunk_size)
@example(lengths=[4, 3, 2], chunk_bytes=4)
def test_a_chunk_is_larger_only_where_its_first_line_needs_it(lengths: list[int], chunk_bytes: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    for item in copied(ChunkReader(reader(data), chunk_bytes)):
        assert isinstance(item, Chunk)
        first_line = bytes(item.data).index(b"\n")
        start_bytes = 4 if item.offset == 0 else 0  # what was read to look for a BOM, and a byte
        assert len(item.data) <= max(chunk_bytes, 2 * first_line + 1, start_bytes)


def test_a_copy_of_a_chunk_stays_as_it_was() -> None:
    copies = [copy_chunk(chunk) for chunk in ChunkReader(reader(b"ab\ncd\nef\n" + b"x" * 20), 3, 8)]
    assert copies == [
        *(Chunk(memoryview(line), 3 * number) for number, line in enumerate((b"ab\n", b"cd\n", b"ef\n"))),
        LongLine(b"x" * 20, 20, 9, 29),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64])
def test_a_view_is_filled_until_the_input_ends(count: int) -> None:
    view = memoryview(bytearray(5))
    assert fill(reader(b"y" * count, [2]), view) == min(count, 5)
    assert view == (b"y" * count)[:5].ljust(5, b"\0")
    assert fill(reader(b"y", [2]), view[:0]) == 0
