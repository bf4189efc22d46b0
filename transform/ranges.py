"""An input of known size, cut into byte ranges that can be transformed anywhere and in any order.

A range owns the lines that start inside it: it begins with the first line that starts in it, and ends with the line
that is open where it stops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from transform.lines import Chunk, LongLine, read_chunks

RANGE_BYTES = 16 << 20
MIN_RANGES = 4  # an input of fewer is done before another process has started
_LOOK_BYTES = 64 << 10  # how much is read at a time where only the end of a line is looked for

ReadAt = Callable[[memoryview, int], int]
"""Fills a part of a view from an offset on; returns how many bytes, 0 at the end."""


class RandomAccess(Protocol):
    """What can be read from anywhere."""

    @property
    def read_at(self) -> ReadAt:
        """What reads it."""

    def prefetch(self, offset: int) -> None:
        """Hear from where it will be read later, and begin to, if that takes long."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` to before `stop`."""

    start: int
    stop: int


def cut(size: int, range_bytes: int = RANGE_BYTES, start: int = 0) -> Iterator[Range]:
    """Yield the ranges that what an input of a size has from a line's start on is cut into.

    All but the first start where they would if it was read from its start.
    """
    while start < size:
        stop = min((start // range_bytes + 1) * range_bytes, size)
        yield Range(start, stop)
        start = stop


def prefetch_range(source: RandomAccess, byte_range: Range) -> None:
    """Tell that a range will be read, after those that were told before."""
    source.prefetch(_look_from(byte_range))


def read_range(
    source: RandomAccess, byte_range: Range, chunk_bytes: int, max_line_bytes: int
) -> Iterator[Chunk | LongLine]:
    """Yield the lines of a range, as `lines.read_chunks` does those of a whole input."""
    first = _first_line(source.read_at, byte_range)
    if first is not None:
        yield from read_chunks(
            _RangeReader(source.read_at, first, byte_range.stop), chunk_bytes, max_line_bytes, start=first
        )


def _first_line(read_at: ReadAt, byte_range: Range) -> int | None:
    """Return where the first line starts that starts inside the range, None if none does."""
    if byte_range.start == 0:
        return 0
    position, look = _look_from(byte_range), memoryview(bytearray(_LOOK_BYTES))
    while position < byte_range.stop - 1:
        count = read_at(look[: byte_range.stop - 1 - position], position)
        if not count:
            return None
        end = bytes(look[:count]).find(b"\n")
        if end >= 0:
            return position + end + 1
        position += count
    return None


def _look_from(byte_range: Range) -> int:
    """Return from where a range is read: from the byte before it, which may end a line."""
    return max(byte_range.start - 1, 0)


class _RangeReader:
    """Reads from a line's start to the end of the line that is open at `stop`."""

    def __init__(self, read_at: ReadAt, start: int, stop: int) -> None:
        self._read_at = read_at
        self._position = start
        self._stop = stop
        self._done = False

    def __call__(self, view: memoryview) -> int:
        if self._done:
            return 0
        inside = self._stop - self._position
        count = self._read_at(view[: inside if inside > 0 else _LOOK_BYTES], self._position)
        self._position += count
        if inside > 0:
            self._done = count == inside and view[count - 1] == ord("\n")
            return count
        end = bytes(view[:count]).find(b"\n")
        self._done = end >= 0 or count == 0
        return end + 1 if end >= 0 else count
