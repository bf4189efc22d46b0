"""The positions of the lines of a chunk, and of their members: found for all lines at once, with numpy and polars.

`index_lines` finds the lines, `scan_members` their top-level members. The decoder does not know all of these: msgspec
gives the position of a value but not of its name, and only the last of duplicate members. So `scan_members` finds the
marks of JSON (quotes, brackets, commas, colons). The text between an odd and an even quote of a line is a string, and
the marks outside strings at depth one separate the members. The positions are correct only for valid lines.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transform.decode.members import MAX_DEPTH, LineError
from transform.decode.rejects import Reject
from transform.io.chunks import Chunk

Positions = npt.NDArray[np.int64]

OPEN, CLOSE, NEWLINE = 0x7B, 0x7D, 0x0A
_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[[0x20, 0x09, 0x0D]] = True
_SPACES = b" \t\r"
_FEW_LINES = 16  # up to this number, checking one by one is faster
_BLOCK_BYTES = 256 << 10
_TRIM_STEPS = 4  # a line with more white space than this at an end is trimmed by itself


@dataclass(frozen=True, slots=True)
class LineIndex:
    r"""The positions of the lines of a chunk, with and without the white space around them.

    Attributes:
        view: The bytes of the chunk.
        data: The same bytes as an array.
        offset: Where the chunk starts in the input.
        bounds: Where each line starts, and where the chunk ends.
        stops: Where each line ends, before its `\n`.
        firsts: Where the text of each line starts, after white space.
        lasts: Where the text of each line ends, before white space; equal to `firsts` if the line is blank.
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
        """Return where the texts from `starts` to `stops` end without the white space after them."""
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
    # Most inputs have no white space around their lines, so that nothing has to be trimmed.
    braced = bool((data[np.minimum(firsts, len(data) - 1)] == OPEN).all() and (data[lasts - 1] == CLOSE).all())
    if not braced:
        firsts, lasts = _trim(chunk.data, data, firsts, lasts)
    return LineIndex(chunk.data, data, chunk.offset, bounds, stops, firsts, lasts, braced)


def _positions_of(byte: int, data: npt.NDArray[np.uint8]) -> Positions:
    """Return the positions of a byte; if it is rare, faster than `np.flatnonzero(data == byte)`.

    The search goes block by block, so that intermediate results stay in the cache: processes that run side by side
    share the memory bandwidth, and would wait for it.
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
    # A word whose nth byte is 1 has the value 256 ** n, so its exponent gives n.
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
    """Return which of the texts from `starts` to `stops` end in a byte, apart from white space."""
    ends = line_index.data[stops - 1]
    if _IS_SPACE[ends].any():
        ends = line_index.data[_trim(line_index.view, line_index.data, starts, stops)[1] - 1]
    found: npt.NDArray[np.bool_] = ends == byte
    return found


def many_openers(line_index: LineIndex, lengths: Positions) -> list[int]:
    """Return the lines that have more than `MAX_DEPTH` opening brackets: only these can be nested too deeply."""
    if not (lengths > 2 * MAX_DEPTH).any():
        return []
    found = np.bitwise_and(line_index.data, 0xDF)
    np.equal(found, 0x5B, out=found.view(bool))  # `[` and `{` differ in that one bit
    openers = np.flatnonzero(found.view(bool))
    counts = np.diff(np.searchsorted(openers, line_index.bounds))
    return [int(line) for line in np.flatnonzero(counts > MAX_DEPTH)]


def invalid_utf8(line_index: LineIndex) -> list[int]:
    """Return the lines that are not UTF-8, which msgspec does not check in the strings that it skips."""
    return _invalid_utf8(line_index, 0, len(line_index.stops))


def _invalid_utf8(line_index: LineIndex, start: int, stop: int) -> list[int]:
    if stop - start <= _FEW_LINES:
        return [line for line in range(start, stop) if not _is_utf8(line_index.line(line))]
    if _are_utf8(line_index, start, stop):
        return []
    middle = (start + stop) // 2
    return _invalid_utf8(line_index, start, middle) + _invalid_utf8(line_index, middle, stop)


def _are_utf8(line_index: LineIndex, start: int, stop: int) -> bool:
    """Check lines together with polars, which takes a fifteenth of the time of decoding to str, and no memory."""
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


_QUOTE, _COMMA, _COLON, _BACKSLASH = 0x22, 0x2C, 0x3A, 0x5C
_OPENING, _CLOSING = 0x7B, 0x7D  # `{` and `}`; `[` and `]` are the same but for one bit
_CASE_BIT = 0x20


@dataclass(frozen=True, slots=True)
class MemberTable:
    """The members of the lines of a chunk, in order.

    Attributes:
        lines: For each member, the index of its line.
        starts: The position of the opening quote of its name.
        names: The position of the closing quote of its name.
        stops: Where its value ends.
    """

    lines: Positions
    starts: Positions
    names: Positions
    stops: Positions


def scan_members(line_index: LineIndex) -> MemberTable:
    """Return the top-level members of all lines; for invalid lines the result is arbitrary."""
    parts = [_scan_block(line_index, *lines) for lines in _blocks(line_index)]
    lines, starts, names, stops = (np.concatenate(column) for column in zip(*parts, strict=True))
    return MemberTable(lines, starts, names, line_index.trim(names + 1, stops))


def _blocks(line_index: LineIndex) -> Iterator[tuple[int, int]]:
    """Yield ranges of lines that are small enough for intermediate results to stay in the processor's cache."""
    cuts = np.searchsorted(line_index.bounds, np.arange(0, len(line_index.data), _BLOCK_BYTES))
    for start, stop in itertools.pairwise(np.unique(np.append(cuts, len(line_index.stops)))):
        yield int(start), int(stop)


def _scan_block(line_index: LineIndex, start: int, stop: int) -> tuple[Positions, Positions, Positions, Positions]:
    bounds = line_index.bounds[start : stop + 1] - line_index.bounds[start]
    data = line_index.data[line_index.bounds[start] : line_index.bounds[stop]]
    marks = _marks(data)
    kinds = data[marks]
    quotes = kinds == _QUOTE
    first = np.searchsorted(marks, bounds)  # the first mark of each line
    within = _since(quotes, first) & 1
    outside = np.flatnonzero((within == 0) & ~quotes)  # marks that are not in a string
    kinds = kinds[outside]
    folded = kinds | _CASE_BIT
    closing = folded == _CLOSING
    depth = _since((folded == _OPENING).view(np.int8) - closing.view(np.int8), np.searchsorted(outside, first))
    top = depth == 1
    colons = np.flatnonzero(top & (kinds == _COLON))
    ends = np.flatnonzero((top & (kinds == _COMMA)) | (closing & (depth == 0)))
    after = np.searchsorted(ends, colons)  # a value ends before the first end after its colon
    strings = marks[quotes]
    before = np.searchsorted(strings, marks[outside[colons]])  # the number of quotes; the last two enclose the name
    there = (after < len(ends)) & (before >= 2)
    colons, after, before = outside[colons[there]], marks[outside[ends[after[there]]]], before[there]
    line = np.searchsorted(first, colons, side="right") - 1
    base = line_index.bounds[start]
    return line + start, strings[before - 2] + base, strings[before - 1] + base, after + base


def match_names(line_index: LineIndex, members: MemberTable, names: Sequence[str]) -> Positions:
    """Return for each of the members which of the names it has, as an index, and -1 if none."""
    found = np.full(len(members.lines), -1, dtype=np.int64)
    lengths = members.names - members.starts - 1
    for index, name in enumerate(names):
        text = np.frombuffer(name.encode("utf-8", "surrogatepass"), np.uint8)
        candidates = np.flatnonzero(lengths == len(text))
        for place, byte in enumerate(text):
            candidates = candidates[line_index.data[members.starts[candidates] + 1 + place] == byte]
        found[candidates] = index
    escaped = _escaped(line_index, members)
    indexes: dict[str | None, int] = {name: index for index, name in enumerate(names)} if escaped else {}
    for member in escaped:
        found[member] = indexes.get(name_of(line_index, members, member), -1)
    return found


def name_of(line_index: LineIndex, members: MemberTable, member: int) -> str | None:
    """Return the name of a member; None if it has a lone surrogate, or if its line is not valid."""
    try:
        name: str = msgspec.json.decode(line_index.view[members.starts[member] : members.names[member] + 1], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return name


def _escaped(line_index: LineIndex, members: MemberTable) -> list[int]:
    backslashes = np.flatnonzero(line_index.data == _BACKSLASH)
    if not len(backslashes):
        return []
    within = np.searchsorted(backslashes, members.names) - np.searchsorted(backslashes, members.starts)
    return [int(member) for member in np.flatnonzero(within)]


def _marks(data: npt.NDArray[np.uint8]) -> Positions:
    """Return the positions of quotes that begin or end a string, and of brackets, commas and colons."""
    folded = data | _CASE_BIT
    found = (folded == _OPENING) | (folded == _CLOSING)
    found |= data == _COMMA
    found |= data == _COLON
    quotes = data == _QUOTE
    if (backslashes := np.flatnonzero(data == _BACKSLASH)).size:
        quotes[_after_odd_runs(backslashes, len(data))] = False
    found |= quotes
    marks: Positions = np.flatnonzero(found)
    return marks


def _after_odd_runs(backslashes: Positions, size: int) -> Positions:
    """Return the positions that a backslash escapes: those after a run of backslashes of odd length."""
    run_starts = np.flatnonzero(np.diff(backslashes, prepend=-2) != 1)
    lengths = np.diff(run_starts, append=len(backslashes))
    after = backslashes[run_starts] + lengths
    escaped: Positions = after[(lengths % 2 == 1) & (after < size)]
    return escaped


def _since(steps: npt.NDArray[np.int8] | npt.NDArray[np.bool_], first: Positions) -> npt.NDArray[np.int32]:
    """Return for each step the sum of the steps of its line up to and including it."""
    totals = np.cumsum(steps, dtype=np.int32)
    before = np.append(totals, 0)[first[:-1] - 1]  # the sum over the lines before: 0 if all are valid
    before[first[:-1] == 0] = 0
    if before.any():
        totals -= np.repeat(before, np.diff(first))
    return totals
