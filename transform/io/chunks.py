r"""Object bytes to chunks of whole lines.

A line is what lies between two `\n`. The reader fills one buffer again and again (fresh buffers cost as much in page
faults as finding the line ends does) and yields views of it that end at a line's end, so a chunk must be used up before
the next is asked for. How the bytes are cut into chunks never shows in what a line is.

An input of known size, cut into byte ranges that can be transformed anywhere and in any order.

A range owns the lines that start inside it: it begins with the first line that starts in it, and ends with the line
that is open where it stops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from transform.errors import InputError

CHUNK_BYTES = 4 << 20
CHUNK_LINES = 128 << 10  # about as many at most, as each takes hundreds of bytes where it is rejected
_SAMPLES, _SAMPLE_BYTES = 8, 4 << 10
MAX_LINE_BYTES = 256 << 20
LONG_LINE_HEAD_BYTES = 64 << 10
BOM = b"\xef\xbb\xbf"

ReadInto = Callable[[memoryview], int]


@dataclass(frozen=True, slots=True)
class Chunk:
    r"""Whole lines, each with its `\n` but perhaps the input's last.

    Attributes:
        data: The bytes; valid until the next chunk is asked for.
        offset: Where `data` starts in the input, in bytes after decompression.
    """

    data: memoryview
    offset: int


@dataclass(frozen=True, slots=True)
class LongLine:
    r"""A line over the limit, which was skipped over and not kept.

    Attributes:
        head: Its first `LONG_LINE_HEAD_BYTES` bytes.
        length: Its length in bytes, without its `\n`.
        offset: Where it starts in the input, in bytes after decompression.
        stop: Where the next line starts.
    """

    head: bytes
    length: int
    offset: int
    stop: int


def copy_chunk(chunk: Chunk | LongLine) -> Chunk | LongLine:
    """Return a chunk that stays valid."""
    return chunk if isinstance(chunk, LongLine) else Chunk(memoryview(bytearray(chunk.data)), chunk.offset)


def read_chunks(
    read_into: ReadInto,
    chunk_bytes: int = CHUNK_BYTES,
    max_line_bytes: int = MAX_LINE_BYTES,
    start: int = 0,
    *,
    only_blank: bool = False,
) -> Iterator[Chunk | LongLine]:
    r"""Yield an input as chunks of lines, in order; a BOM at its very start is left out.

    Args:
        read_into: Fills a part of the view it is given and returns how many bytes; 0 at the end.
        chunk_bytes: How much to read at a time; a longer line makes its own chunk larger.
        max_line_bytes: A line longer than this (without its `\n`) may come as a `LongLine`.
        start: Where in the input the first byte to be read stands; only at 0 can there be a BOM or an array.
        only_blank: Whether there is nothing but white space before it, so that there can be an array all the same.

    Raises:
        InputError: The first thing in the input is a `[`: a JSON array, not JSON lines.
    """
    carry, offset = _read_start(read_into) if start == 0 else (memoryview(b""), start)
    searched = 0  # there is no line end in carry[:searched]
    buffer = memoryview(bytearray(chunk_bytes))
    size, may_be_array, at_end = chunk_bytes, start == 0 or only_blank, False
    while not at_end:
        size = max(size, len(carry) + 1)
        into = buffer if size == len(buffer) else memoryview(bytearray(size))
        into[: len(carry)] = carry
        filled, buffer = len(carry) + _fill(read_into, into[len(carry) :]), into
        at_end = filled < size
        if may_be_array:
            may_be_array = _refuse_array(buffer[:filled])
        stop = filled if at_end else _last_line_end(buffer, searched, filled)
        if stop:
            yield from _few_lines(buffer, stop, offset)
            carry, searched, offset = buffer[stop:filled], filled - stop, offset + stop
            size = max(chunk_bytes, 2 * len(carry))  # what a long line needed is not kept after it
        elif filled > max_line_bytes + 1:
            long_line, carry, may_be_array = _skip_line(read_into, buffer, filled, offset, may_be_array=may_be_array)
            yield long_line
            searched, offset, size = 0, long_line.stop, chunk_bytes
        else:
            carry, searched = buffer[:filled], filled
            size = max(min(2 * size, max_line_bytes + 2), filled + 1)


def _few_lines(buffer: memoryview, stop: int, offset: int) -> Iterator[Chunk]:
    """Yield lines as one chunk, or as several where they are so short that what becomes of each would take too much.

    To count them all would take a tenth of the time that everything else does, so only samples are looked at first.
    """
    data, start = cast("bytearray", buffer.obj), 0
    max_line_ends = _SAMPLE_BYTES * CHUNK_LINES // CHUNK_BYTES
    for sample in range(0, stop, max(stop // _SAMPLES, 1)):
        if data.count(b"\n", sample, min(sample + _SAMPLE_BYTES, stop)) > max_line_ends:
            import numpy as np  # noqa: PLC0415 - which takes longer than all else that the command needs to start

            ends = np.flatnonzero(np.frombuffer(buffer[:stop], np.uint8) == ord("\n"))[CHUNK_LINES - 1 :: CHUNK_LINES]
            for end in ends:
                yield Chunk(buffer[start : end + 1], offset + start)
                start = int(end) + 1
            break
    if start < stop:
        yield Chunk(buffer[start:stop], offset + start)


def _read_start(read_into: ReadInto) -> tuple[memoryview, int]:
    """Return the first bytes, or none of them where they are a BOM, and the offset of what follows."""
    start = memoryview(bytearray(len(BOM)))
    count = _fill(read_into, start)
    return (start[:0], len(BOM)) if start == BOM else (start[:count], 0)


def _fill(read_into: ReadInto, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := read_into(view[filled:])):
        filled += count
    return filled


def _last_line_end(buffer: memoryview, start: int, stop: int) -> int:
    """Return where the last whole line ends, 0 if there is none; nothing before `start` is a line's end."""
    return cast("bytearray", buffer.obj).rfind(b"\n", start, stop) + 1  # memoryview has no rfind


def _refuse_array(data: memoryview) -> bool:
    """Raise if the input is a JSON array; return whether that is still open, all being white space so far."""
    for start in range(0, len(data), 4096):
        text = bytes(data[start : start + 4096]).lstrip(b" \t\r\n")
        if text.startswith(b"["):
            raise InputError(
                "the input starts with `[`: that is a JSON array, not JSON lines (one object per line). "
                "Convert it first, for example with: jq -c '.[]'"
            )
        if text:
            return False
    return True


def _skip_line(
    read_into: ReadInto, buffer: memoryview, filled: int, offset: int, *, may_be_array: bool
) -> tuple[LongLine, memoryview, bool]:
    """Read on to the end of the line that fills the buffer.

    Return the line, what was read of the next, and whether the input may still be an array.
    """
    head, length = bytes(buffer[: min(filled, LONG_LINE_HEAD_BYTES)]), filled
    while count := _fill(read_into, buffer):
        may_be_array = may_be_array and _refuse_array(buffer[:count])
        end = _first_line_end(buffer, count)
        head += bytes(buffer[: max(min(end, LONG_LINE_HEAD_BYTES - len(head)), 0)])
        length += end
        if end < count:
            stop = offset + length + 1
            return LongLine(head, length, offset, stop), buffer[end + 1 : count], may_be_array
    return LongLine(head, length, offset, offset + length), buffer[:0], may_be_array


def _first_line_end(buffer: memoryview, count: int) -> int:
    """Return where the first line ends within the first `count` bytes, `count` if it does not."""
    end = cast("bytearray", buffer.obj).find(b"\n", 0, count)
    return count if end < 0 else end


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
