"""Where the top-level members of valid lines stand, for all lines of a chunk at once.

msgspec tells where a value stands but not its name, and of duplicates only the last. So the marks of JSON (quotes,
brackets, commas, colons) are found with numpy: what is between an odd and an even quote of a line is a string, and what
is left at depth one separates its members. Only lines that are known to be valid give good positions.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from transform.layout import LineIndex, Positions

_QUOTE, _COMMA, _COLON, _BACKSLASH = 0x22, 0x2C, 0x3A, 0x5C
_OPENING, _CLOSING = 0x7B, 0x7D  # `{` and `}`; `[` and `]` are the same but for one bit
_CASE_BIT = 0x20
_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class MemberTable:
    """The members of the lines of a chunk, in order.

    Attributes:
        lines: Which line each is in.
        starts: Where its name's opening quote stands.
        names: Where its name's closing quote stands.
        stops: Where its value ends.
    """

    lines: Positions
    starts: Positions
    names: Positions
    stops: Positions


def scan_members(line_index: LineIndex) -> MemberTable:
    """Return the top-level members of all lines; of lines that are not valid, anything."""
    parts = [_scan_block(line_index, *lines) for lines in _blocks(line_index)]
    lines, starts, names, stops = (np.concatenate(column) for column in zip(*parts, strict=True))
    return MemberTable(lines, starts, names, line_index.trim(names + 1, stops))


def _blocks(line_index: LineIndex) -> Iterator[tuple[int, int]]:
    """Yield runs of lines small enough for what is computed of them to stay in the processor's cache."""
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
    after = np.searchsorted(ends, colons)  # a value ends before the first of those after its colon
    strings = marks[quotes]
    before = np.searchsorted(strings, marks[outside[colons]])  # how many quotes: the last two are those of the name
    there = (after < len(ends)) & (before >= 2)
    colons, after, before = outside[colons[there]], marks[outside[ends[after[there]]]], before[there]
    line = np.searchsorted(first, colons, side="right") - 1
    base = line_index.bounds[start]
    return line + start, strings[before - 2] + base, strings[before - 1] + base, after + base


def named(line_index: LineIndex, members: MemberTable, names: Collection[str]) -> npt.NDArray[np.bool_]:
    """Return which of the members have one of the names."""
    found = np.zeros(len(members.lines), dtype=bool)
    lengths = members.names - members.starts - 1
    for name in names:
        text = np.frombuffer(name.encode("utf-8", "surrogatepass"), np.uint8)
        candidates = np.flatnonzero(lengths == len(text))
        for place, byte in enumerate(text):
            candidates = candidates[line_index.data[members.starts[candidates] + 1 + place] == byte]
        found[candidates] = True
    for escaped in _escaped(line_index, members):
        escapes = bytes(line_index.view[members.starts[escaped] : members.names[escaped] + 1])
        try:
            found[escaped] = msgspec.json.decode(escapes) in names
        except (msgspec.DecodeError, UnicodeDecodeError):  # a lone surrogate, which no name has; or a line that is none
            found[escaped] = False
    return found


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
    """Return the running total of the steps since the start of each one's line, its own included."""
    totals = np.cumsum(steps, dtype=np.int32)
    before = np.append(totals, 0)[first[:-1] - 1]  # what the lines before add up to: nothing, where all are valid
    before[first[:-1] == 0] = 0
    if before.any():
        totals -= np.repeat(before, np.diff(first))
    return totals
