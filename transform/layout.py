"""Where the lines of a chunk stand: all at once, with numpy and polars, not line by line."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transform.lines import Chunk
from transform.members import MAX_DEPTH, LineError
from transform.rejects import Reject

Positions = npt.NDArray[np.int64]

OPEN, CLOSE, NEWLINE = 0x7B, 0x7D, 0x0A
_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[[0x20, 0x09, 0x0D]] = True
_SPACES = b" \t\r"
_FEW_LINES = 16  # so few are sooner checked one by one
_BLOCK_BYTES = 256 << 10
_TRIM_STEPS = 4  # beyond so many white-space bytes at an end, a line is trimmed on its own


@dataclass(frozen=True, slots=True)
class LineIndex:
    """Where the lines of a chunk start and end, without and with the white space around them.

    Attributes:
        braced: Whether every line is known to start with `{` and end with `}`, without white space around it.
    """

    view: memoryview
    data: npt.NDArray[np.uint8]
    offset: int
    bounds: Positions
    stops: Positions
    firsts: Positions
    lasts: Positions
    braced: bool

    def line(self, index: int) -> bytes:
        r"""Return the bytes of a line, without its `\n`."""
        return bytes(self.view[self.bounds[index] : self.stops[index]])

    def trim(self, starts: Positions, stops: Positions) -> Positions:
        """Return where the texts between end, without the white space after them."""
        return _trim(self.view, self.data, starts, stops)[1] if _IS_SPACE[self.data[stops - 1]].any() else stops

    def reject(self, index: int, error: LineError) -> Reject:
        """Return the reject of a line."""
        return Reject(index, self.offset + int(self.bounds[index]), error.kind, str(error), self.line(index))


def index_lines(chunk: Chunk) -> LineIndex:
    """Find the lines of a chunk."""
    data = np.frombuffer(chunk.data, np.uint8)
    ends = _positions_of(NEWLINE, data)
    unterminated = not len(ends) or ends[-1] != len(data) - 1
    stops = np.append(ends, len(data)) if unterminated else ends
    bounds = np.concatenate(([0], ends + 1, [len(data)] if unterminated else []), dtype=np.int64, casting="unsafe")
    firsts, lasts = bounds[:-1], stops
    # Most input has no white space around its lines; where it has, only those lines are looked at again.
    braced = bool((data[np.minimum(firsts, len(data) - 1)] == OPEN).all() and (data[lasts - 1] == CLOSE).all())
    if not braced:
        firsts, lasts = _trim(chunk.data, data, firsts, lasts)
    return LineIndex(chunk.data, data, chunk.offset, bounds, stops, firsts, lasts, braced)


def _positions_of(byte: int, data: npt.NDArray[np.uint8]) -> Positions:
    """Return where a byte stands; where it is rare, in less time than `np.flatnonzero(data == byte)` takes.

    That is done block by block, so that what is found stays in the cache: processes that work side by side share the
    way to memory, which is what they wait for.
    """
    found = np.empty(_BLOCK_BYTES, dtype=bool)
    words = found.view("<u8")
    hits, values = [np.empty(0, np.int64)], [np.empty(0, "<u8")]
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        found[len(block) :] = False
        np.equal(block, byte, out=found[: len(block)])
        there = np.flatnonzero(words != 0)
        values.append(words[there])
        hits.append(there + start // 8)
    value = np.concatenate(values)
    if (value & (value - 1)).any():  # two in one word
        return np.flatnonzero(data == byte)
    # Of a word whose nth byte is 1, which is 256 ** n, the exponent tells n.
    positions: Positions = 8 * np.concatenate(hits) + (np.frexp(value.astype(np.float64))[1] - 1) // 8
    return positions


def _trim(
    view: memoryview, data: npt.NDArray[np.uint8], firsts: Positions, lasts: Positions
) -> tuple[Positions, Positions]:
    firsts, lasts = firsts.copy(), lasts.copy()
    for step in range(_TRIM_STEPS + 1):
        at_first = (firsts < lasts) & _IS_SPACE[data[np.minimum(firsts, len(data) - 1)]]
        at_last = (firsts < lasts) & _IS_SPACE[data[lasts - 1]]
        if step == _TRIM_STEPS:
            break
        if not at_first.any() and not at_last.any():
            return firsts, lasts
        firsts += at_first
        lasts -= at_last & (firsts < lasts)
    for line in np.flatnonzero(at_first | at_last):
        text = bytes(view[firsts[line] : lasts[line]])
        firsts[line] += len(text) - len(text.lstrip(_SPACES))
        lasts[line] -= len(text) - len(text.rstrip(_SPACES))
        lasts[line] = max(firsts[line], lasts[line])
    return firsts, lasts


def end_in(line_index: LineIndex, byte: int, starts: Positions, stops: Positions) -> npt.NDArray[np.bool_]:
    """Return which of the texts from `starts` to `stops` end in a byte, white space aside."""
    ends = line_index.data[stops - 1]
    if _IS_SPACE[ends].any():
        ends = line_index.data[_trim(line_index.view, line_index.data, starts, stops)[1] - 1]
    found: npt.NDArray[np.bool_] = ends == byte
    return found


def many_openers(line_index: LineIndex, lengths: Positions) -> list[int]:
    """Return the lines that have more than `MAX_DEPTH` opening brackets: only those can be nested deeper."""
    if not (lengths > 2 * MAX_DEPTH).any():
        return []
    found = np.bitwise_and(line_index.data, 0xDF)
    np.equal(found, 0x5B, out=found.view(bool))  # `[` and `{` differ in that one bit
    openers = np.flatnonzero(found.view(bool))
    counts = np.diff(np.searchsorted(openers, line_index.bounds))
    return [int(line) for line in np.flatnonzero(counts > MAX_DEPTH)]


def invalid_utf8(line_index: LineIndex) -> list[int]:
    """Return the lines that are not UTF-8; msgspec does not look into the strings it skips."""
    return _invalid_utf8(line_index, 0, len(line_index.stops))


def _invalid_utf8(line_index: LineIndex, start: int, stop: int) -> list[int]:
    if stop - start <= _FEW_LINES:
        return [line for line in range(start, stop) if not _is_utf8(line_index.line(line))]
    if _are_utf8(line_index, start, stop):
        return []
    middle = (start + stop) // 2
    return _invalid_utf8(line_index, start, middle) + _invalid_utf8(line_index, middle, stop)


def _are_utf8(line_index: LineIndex, start: int, stop: int) -> bool:
    """Check lines together, by polars: it takes a fifteenth of the time that decoding to str does, and no memory."""
    cuts = line_index.bounds[[start, stop]]
    piece = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, pa.py_buffer(cuts), pa.py_buffer(line_index.data)]
    )
    try:
        pl.Series(piece).cast(pl.String)
    except pl.exceptions.ComputeError:
        return False
    return True


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
