"""Cuts an input with random access into byte ranges, and reads the lines of one.

Ranges can be transformed by any thread and in any order. The lines of a range are those that start inside it: from the
first one that starts there to the one that is open where the range stops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from transform.io.chunks import Chunk, LongLine, read_chunks

RANGE_BYTES = 16 << 20
MIN_RANGES = 4  # an input of this many ranges or fewer is done before another process has started
LOOK_BYTES = 64 << 10  # read at a time where only the end of a line is searched for

ReadAt = Callable[[memoryview, int], int]
"""Fills a part of a view from an offset on; returns the number of bytes, 0 at the end."""


class RandomAccess(Protocol):
    """An input that can be read from any offset."""

    @property
    def read_at(self) -> ReadAt:
        """The function that reads it."""

    def prefetch(self, offset: int) -> None:
        """Start to read from an offset, if reading takes long; `read_at` will be called with it later."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` to before `stop`."""

    start: int
    stop: int


def cut(start: int, size: int, range_bytes: Callable[[], int]) -> Iterator[Range]:
    """Yield the ranges of an input from a line on.

    Args:
        start: Offset of the line.
        size: Of the input, in bytes.
        range_bytes: Returns the size of the next range; the last one may be smaller.
    """
    while start < size:
        stop = min(start + range_bytes(), size)
        yield Range(start, stop)
        start = stop


def prefetch_range(source: RandomAccess, byte_range: Range) -> None:
    """Start to read a range that `read_range` will read later."""
    source.prefetch(_first_byte_read(byte_range))


def read_range(
    source: RandomAccess,
    byte_range: Range,
    chunk_bytes: int,
    max_line_bytes: int,
    buffer: memoryview | None = None,
) -> Iterator[Chunk | LongLine]:
    """Yield the lines of a range, as `read_chunks` does those of a whole input."""
    first = _first_line(source.read_at, byte_range)
    if first is not None:
        reader = _RangeReader(source.read_at, first, byte_range.stop)
        yield from read_chunks(reader.read_into, chunk_bytes, max_line_bytes, start=first, buffer=buffer)


def _first_line(read_at: ReadAt, byte_range: Range) -> int | None:
    """Return the offset of the first line that starts inside the range, None if none does."""
    if byte_range.start == 0:
        return 0
    position, look = _first_byte_read(byte_range), memoryview(bytearray(LOOK_BYTES))
    while position < byte_range.stop - 1:
        count = read_at(look[: byte_range.stop - 1 - position], position)
        if not count:
            return None
        end = bytes(look[:count]).find(b"\n")
        if end >= 0:
            return position + end + 1
        position += count
    return None


def _first_byte_read(byte_range: Range) -> int:
    """Return the offset from which a range is read: that of the byte before it, which may end a line."""
    return max(byte_range.start - 1, 0)


class _RangeReader:
    """Reads from the start of a line to the end of the line that is open at `stop`."""

    def __init__(self, read_at: ReadAt, start: int, stop: int) -> None:
        self._read_at = read_at
        self._position = start
        self._stop = stop
        self._done = False

    def read_into(self, view: memoryview) -> int:
        if self._done:
            return 0
        inside = self._stop - self._position
        count = self._read_at(view[: inside if inside > 0 else LOOK_BYTES], self._position)
        self._position += count
        if inside > 0:
            self._done = count == inside and view[count - 1] == ord("\n")
            return count
        end = bytes(view[:count]).find(b"\n")
        self._done = end >= 0 or count == 0
        return end + 1 if end >= 0 else count
