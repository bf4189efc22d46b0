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

from transform.decode.line_errors import LineError
from transform.decode.members import (
    BLOCK_BYTES,
    MAX_DEPTH,
    count_openers,
    depth_steps,
    find_marks,
    first_invalid_utf8,
    scan_line,
)
from transform.decode.rejects import Reject
from transform.io.chunks import Chunk

Positions = npt.NDArray[np.int64]

OPEN, CLOSE, NEWLINE = 0x7B, 0x7D, 0x0A
_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[[0x20, 0x09, 0x0D]] = True
_SPACES = b" \t\r"
_FEW_NAMES = 40  # up to this number, looking for one after the other in all members takes less time
_FEW_LINES = 16  # up to this number, checking one by one is faster
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
        return bytes(self.text(index))

    def text(self, index: int) -> memoryview:
        r"""Return a view of the bytes of a line, without its `\n`."""
        return self.view[self.bounds[index] : self.stops[index]]

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
    found = np.empty(BLOCK_BYTES, dtype=bool)
    words = found.view("<u8")
    hits = [np.empty(0, np.int64)]
    for start in range(0, len(data), BLOCK_BYTES):
        block = data[start : start + BLOCK_BYTES]
        found[len(block) :] = False
        np.equal(block, byte, out=found[: len(block)])
        there = np.flatnonzero(words != 0)
        value = words[there]
        if (value & (value - 1)).any():  # two in one word
            hits.append(np.flatnonzero(found) + start)
        else:  # A word whose nth byte is 1 has the value 256 ** n, so its exponent gives n.
            hits.append(8 * there + (np.frexp(value.astype(np.float64))[1] - 1) // 8 + start)
    positions: Positions = np.concatenate(hits)
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
    found = [int(line) for line in np.flatnonzero(lengths > BLOCK_BYTES)]
    long = set(found)
    found = [line for line in found if count_openers(line_index.text(line)) > MAX_DEPTH]
    if not (lengths > 2 * MAX_DEPTH).any():
        return found
    for start, stop in _blocks(line_index):
        if stop - start == 1 and start in long:
            continue
        bounds = line_index.bounds[start : stop + 1]
        folded = np.bitwise_and(line_index.data[bounds[0] : bounds[-1]], 0xDF)
        np.equal(folded, 0x5B, out=folded.view(bool))  # `[` and `{` differ in that one bit
        openers = np.flatnonzero(folded.view(bool))
        counts = np.diff(np.searchsorted(openers, bounds - bounds[0]))
        found += [int(line) + start for line in np.flatnonzero(counts > MAX_DEPTH)]
    return found


def invalid_utf8(line_index: LineIndex) -> list[int]:
    """Return the lines that are not UTF-8, which msgspec does not check in the strings that it skips."""
    return _invalid_utf8(line_index, 0, len(line_index.stops))


def _invalid_utf8(line_index: LineIndex, start: int, stop: int) -> list[int]:
    if stop - start <= _FEW_LINES:
        return [line for line in range(start, stop) if first_invalid_utf8(line_index.text(line)) is not None]
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


_QUOTE, _COMMA, _COLON, _BACKSLASH = 0x22, 0x2C, 0x3A, 0x5C
_ONE_LINE = np.zeros(1, np.int64)
_OPEN_MARKS = 8  # a member that has no end yet has six marks at most: `{"name":"value"`
_CLOSING, _CASE_BIT = 0x7D, 0x20  # `}` and `]` differ in that one bit


@dataclass(frozen=True, slots=True)
class MemberTable:
    """The members of the lines of a chunk, in order.

    Attributes:
        lines: For each member, the index of its line.
        starts: The position of the opening quote of its name.
        names: The position of the closing quote of its name.
        stops: Where its value ends.
        escaped: Whether its name may have an escape.
    """

    lines: Positions
    starts: Positions
    names: Positions
    stops: Positions
    escaped: npt.NDArray[np.bool_]

    def __getitem__(self, some: slice | Positions) -> "MemberTable":
        """Return some of the members."""
        return MemberTable(self.lines[some], self.starts[some], self.names[some], self.stops[some], self.escaped[some])

    @classmethod
    def join(cls, tables: Sequence["MemberTable"]) -> "MemberTable":
        """Return the members of several tables, in order."""
        return cls(
            np.concatenate([table.lines for table in tables]),
            np.concatenate([table.starts for table in tables]),
            np.concatenate([table.names for table in tables]),
            np.concatenate([table.stops for table in tables]),
            np.concatenate([table.escaped for table in tables]),
        )


_NONE = np.empty(0, np.int64)
NO_MEMBERS = MemberTable(_NONE, _NONE, _NONE, _NONE, np.empty(0, np.bool_))


def long_lines(line_index: LineIndex, block_bytes: int = BLOCK_BYTES) -> list[int]:
    """Return the lines that are longer than a block; a table of all members of one could take many times its size."""
    return [int(line) for line in np.flatnonzero(np.diff(line_index.bounds) > block_bytes)]


def scan_members(line_index: LineIndex, block_bytes: int = BLOCK_BYTES) -> MemberTable:
    """Return the top-level members of all lines but the long ones; for invalid lines the result is arbitrary.

    Args:
        line_index: The lines of a chunk.
        block_bytes: How much to look at at a time. `scan_long` finds the members of a longer line.
    """
    long = set(long_lines(line_index, block_bytes))
    blocks = _blocks(line_index, block_bytes)
    return MemberTable.join(
        [NO_MEMBERS, *(_scan_block(line_index, *block) for block in blocks if block[0] not in long)]
    )


def _blocks(line_index: LineIndex, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Yield ranges of lines that are small enough for intermediate results to stay in the processor's cache.

    A line that is longer than a block is a range of its own.
    """
    cuts = np.searchsorted(line_index.bounds, np.arange(0, len(line_index.data), block_bytes))
    long = np.array(long_lines(line_index, block_bytes), np.int64)
    for start, stop in itertools.pairwise(np.unique(np.concatenate([cuts, long, long + 1, [len(line_index.stops)]]))):
        yield int(start), int(stop)


def _scan_block(line_index: LineIndex, start: int, stop: int) -> MemberTable:
    bounds = line_index.bounds[start : stop + 1] - line_index.bounds[start]
    data = line_index.data[line_index.bounds[start] : line_index.bounds[stop]]
    marks, backslashes = find_marks(data)
    kinds = data[marks]
    quotes = kinds == _QUOTE
    first = np.searchsorted(marks, bounds)  # the first mark of each line
    within = _since(quotes, first) & 1
    outside = np.flatnonzero((within == 0) & ~quotes)  # marks that are not in a string
    kinds = kinds[outside]
    depth = _since(depth_steps(kinds), np.searchsorted(outside, first))
    table = _members(bounds, marks[outside], kinds, depth, marks[quotes], backslashes)
    return _moved(line_index, table, start)


def _members(
    bounds: Positions,
    marks: Positions,
    kinds: npt.NDArray[np.uint8],
    depths: npt.NDArray[np.int32],
    quotes: Positions,
    backslashes: Positions,
) -> MemberTable:
    """Return the members that end at one of the marks, which are outside strings; lines start at `bounds`."""
    top = depths == 1
    colons = np.flatnonzero(top & (kinds == _COLON))
    closing = (kinds | _CASE_BIT) == _CLOSING
    ends = np.flatnonzero((top & (kinds == _COMMA)) | (closing & (depths == 0)))
    after = np.searchsorted(ends, colons)  # a value ends before the first end after its colon
    before = np.searchsorted(quotes, marks[colons])  # the number of quotes; the last two enclose the name
    there = (after < len(ends)) & (before >= 2)
    lines = np.searchsorted(bounds, marks[colons[there]], side="right") - 1
    before, stops = before[there], marks[ends[after[there]]]
    starts, names = quotes[before - 2], quotes[before - 1]
    escaped = np.searchsorted(backslashes, names) > np.searchsorted(backslashes, starts)
    return MemberTable(lines, starts, names, stops, escaped)


def _moved(line_index: LineIndex, table: MemberTable, first: int) -> MemberTable:
    """Return the members of the lines from `first` on with their positions in the chunk, and without white space."""
    base = line_index.bounds[first]
    names = table.names + base
    stops = line_index.trim(names + 1, table.stops + base)
    return MemberTable(table.lines + first, table.starts + base, names, stops, table.escaped)


def scan_long(line_index: LineIndex, line: int, block_bytes: int = BLOCK_BYTES) -> Iterator[MemberTable]:
    """Yield the top-level members of one line in pieces; for an invalid line the result is arbitrary.

    Args:
        line_index: The lines of a chunk.
        line: The index of the line.
        block_bytes: How much of the line to look at at a time.
    """
    text = line_index.text(line)
    data = np.frombuffer(text, np.uint8)
    positions, kinds, depths = np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int32)
    for marks in scan_line(text, block_bytes):
        top = (marks.depths == 1) | ((marks.depths == 0) & (marks.kinds != _QUOTE))
        # Marks since the last comma belong to a member that goes on: four or fewer, if the line is valid.
        positions = np.concatenate([positions[-_OPEN_MARKS:], marks.positions[top]])
        kinds = np.concatenate([kinds[-_OPEN_MARKS:], marks.kinds[top]])
        depths = np.concatenate([depths[-_OPEN_MARKS:], marks.depths[top]])
        quotes = kinds == _QUOTE
        outside = ~quotes
        table = _members(
            _ONE_LINE, positions[outside], kinds[outside], depths[outside], positions[quotes], marks.backslashes
        )
        ends = np.flatnonzero(~quotes & (kinds != _COLON) & ((depths == 0) | (kinds == _COMMA)))
        rest = int(ends[-1]) + 1 if len(ends) else 0
        positions, kinds, depths = positions[rest:], kinds[rest:], depths[rest:]
        # The first name may have started in an earlier block.
        table.escaped[:1] = [
            (data[a:b] == _BACKSLASH).any() for a, b in zip(table.starts[:1], table.names[:1], strict=True)
        ]
        yield _moved(line_index, table, line)


def match_names(line_index: LineIndex, members: MemberTable, names: Sequence[str]) -> Positions:
    """Return for each of the members which of the names it has, as an index, and -1 if none."""
    found = np.full(len(members.lines), -1, dtype=np.int64)
    texts = [name.encode("utf-8", "surrogatepass") for name in names]
    if len(texts) > _FEW_NAMES:
        known, view = {text: index for index, text in enumerate(texts)}, line_index.view
        spans = zip((members.starts + 1).tolist(), members.names.tolist(), strict=True)
        found[:] = [known.get(bytes(view[start:stop]), -1) for start, stop in spans]
    else:
        lengths = members.names - members.starts - 1
        for index, text in enumerate(texts):
            candidates = np.flatnonzero(lengths == len(text))
            for place, byte in enumerate(text):
                candidates = candidates[line_index.data[members.starts[candidates] + 1 + place] == byte]
            found[candidates] = index
    escaped = np.flatnonzero(members.escaped).tolist()
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


def _since(steps: npt.NDArray[np.int8] | npt.NDArray[np.bool_], first: Positions) -> npt.NDArray[np.int32]:
    """Return for each step the sum of the steps of its line up to and including it."""
    totals = np.cumsum(steps, dtype=np.int32)
    before = np.append(totals, 0)[first[:-1] - 1]  # the sum over the lines before: 0 if all are valid
    before[first[:-1] == 0] = 0
    if before.any():
        totals -= np.repeat(before, np.diff(first))
    return totals
