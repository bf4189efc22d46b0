"""Ranges of an input with random access: each line is read in exactly one of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.transform.io.test_chunks import copied, datas, every_chunk_size, every_limit, read_sizes, split
from transform.io.chunks import Chunk, LongLine
from transform.io.ranges import Range, cut, prefetch_range, read_range

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Bytes:
    """Bytes that can be read from anywhere, no more at a time than the sizes say."""

    data: bytes
    sizes: Iterable[int] = (1 << 30,)
    read_from: list[int] = field(default_factory=list)
    read_to: int = 0
    prefetched: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._limits = itertools.cycle(self.sizes)

    def read_at(self, view: memoryview, offset: int) -> int:
        assert len(view), "a read of nothing would be taken for the end"
        found = self.data[offset : offset + min(len(view), next(self._limits))]
        view[: len(found)] = found
        self.read_from.append(offset)
        self.read_to = max(self.read_to, offset + len(view))
        return len(found)

    def prefetch(self, offset: int) -> None:
        self.prefetched.append(offset)


@given(start=st.integers(0, 200), size=st.integers(0, 200), sizes=st.lists(st.integers(1, 50), min_size=1))
def test_an_input_is_cut_into_ranges_of_the_sizes_that_are_wanted_then(start: int, size: int, sizes: list[int]) -> None:
    wanted = itertools.cycle(sizes)
    parts = list(cut(start, size, lambda: next(wanted)))
    covered = [offset for part in parts for offset in range(part.start, part.stop)]
    assert covered == list(range(start, size))
    found = [part.stop - part.start for part in parts]
    expected = list(itertools.islice(itertools.cycle(sizes), len(found)))
    assert found[:-1] == expected[:-1]
    assert not found or 0 < found[-1] <= expected[-1]


@settings(max_examples=400, deadline=None)
@given(
    data=datas,
    sizes=read_sizes,
    range_bytes=st.integers(1, 60),
    chunk_bytes=every_chunk_size,
    max_line_bytes=every_limit,
)
@example(data=b"a\nb\nc", sizes=[9], range_bytes=2, chunk_bytes=64, max_line_bytes=30)
@example(data=b"abc\nd\n", sizes=[9], range_bytes=4, chunk_bytes=64, max_line_bytes=30)
@example(data=b"abcdefghijkl\nd\n", sizes=[9], range_bytes=4, chunk_bytes=4, max_line_bytes=5)
def test_each_line_is_in_the_range_that_it_starts_in(
    data: bytes, sizes: list[int], range_bytes: int, chunk_bytes: int, max_line_bytes: int
) -> None:
    data = b"{}\n" + data
    lines = split(data)
    for part in cut(0, len(data), lambda: range_bytes):
        source = Bytes(data, sizes)
        found = copied(read_range(source, part, chunk_bytes, max_line_bytes))
        mine = [line for line in lines if part.start <= line[0] < part.stop]
        for item in found:
            if isinstance(item, LongLine):
                start, line = mine.pop(0)
                content = line.removesuffix(b"\n")
                assert item == LongLine(content, len(content), start, start + len(line))
                assert len(content) > max_line_bytes
            else:
                offset, rest = item.offset, bytes(item.data)
                while rest:
                    start, line = mine.pop(0)
                    assert (start, rest[: len(line)]) == (offset, line)
                    rest, offset = rest[len(line) :], offset + len(line)
        assert mine == []
        prefetch_range(source, part)
        assert source.prefetched == source.read_from[:1] or part.stop - part.start == 1, "what is read first"


@pytest.mark.parametrize("line", [b"abc\n", b"a\n", b"\n"])
def test_a_range_whose_last_byte_ends_a_line_is_not_read_beyond(line: bytes) -> None:
    source = Bytes(line * 8)
    assert list(read_range(source, Range(4, 8), 64, 100))
    assert source.read_to == 8


def test_a_line_that_is_open_where_a_range_stops_is_read_in_small_pieces() -> None:
    source = Bytes(b"a" * 300_000 + b"\n" + b"b" * (1 << 20))
    (chunk,) = copied(read_range(source, Range(0, 10), 1 << 20, 1 << 20))
    assert chunk == Chunk(memoryview(b"a" * 300_000 + b"\n"), 0)
    assert source.read_to < 300_000 + (64 << 10) + 10


@pytest.mark.parametrize(("part", "offset"), [(Range(0, 9), 0), (Range(1, 9), 0), (Range(16, 32), 15)])
def test_a_range_is_prefetched_from_the_byte_before_it_on(part: Range, offset: int) -> None:
    source = Bytes(b"abc\n" * 20)
    prefetch_range(source, part)
    assert source.prefetched == [offset]
    list(read_range(source, part, 64, 100))
    assert source.read_from[0] == offset
