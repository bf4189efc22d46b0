"""Splices the results of a chunk into the original bytes of its lines, and cuts out the members that do not stay.

`plan_edits` collects insertions, replacements and removals in one sorted list. `splice` applies them to the bytes of
the chunk with one call of Arrow, which copies everything between the edits unchanged.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from transform.decode.decoder import Decoded
from transform.decode.line_index import (
    NO_MEMBERS,
    LineIndex,
    MemberTable,
    Positions,
    long_lines,
    match_names,
    scan_long,
    scan_members,
)
from transform.decode.members import BLOCK_BYTES
from transform.engine.named_members import MAX_MEMBERS
from transform.engine.projection import Projection
from transform.expressions.evaluate import Evaluated, member_prefix


@dataclass(frozen=True, slots=True)
class Cuts:
    """Bytes to cut out of the lines of a chunk.

    Attributes:
        lines: Of which line, for each cut.
        starts: Where the cut starts.
        stops: Where it stops.
        emptied: By line, whether it has no members left.
        members: The members of the lines.
        names: Which of the names to drop or select each member has, as an index, and -1 if none.
        long: By long line, where its cuts start and stop; these lines have no cuts in `starts` and `stops`, and in
            `members` only the first ones, and the first one of each name.
    """

    lines: Positions
    starts: Positions
    stops: Positions
    emptied: npt.NDArray[np.bool_]
    members: MemberTable
    names: Positions
    long: Mapping[int, "Gaps"]


class Gaps(NamedTuple):
    """Bytes to cut out: where the cuts start and stop, in order."""

    starts: Positions
    stops: Positions


def plan_cuts(line_index: LineIndex, projection: Projection, block_bytes: int = BLOCK_BYTES) -> Cuts:
    """Return the cuts that take members out of the lines of a chunk.

    A member is cut out with the comma before it and the white space around that comma. The first member that stays
    begins the object, so those before it are cut out with the comma after them. White space after the opening brace and
    before the closing brace stays.

    Args:
        line_index: The lines.
        projection: Which members stay.
        block_bytes: How much to look at at a time.
    """
    members = scan_members(line_index, block_bytes)
    names = match_names(line_index, members, projection.names)
    stays = _stays(projection)[names]
    bounds = np.searchsorted(members.lines, np.arange(len(line_index.stops) + 1))
    kept = np.concatenate([[0], np.cumsum(stays)])
    kept_before = kept[:-1] - kept[bounds[:-1]][members.lines]
    is_last = np.append(members.lines[1:] != members.lines[:-1], True)[: len(members.lines)]
    gone = np.flatnonzero(~stays)
    follows = kept_before[gone] > 0
    starts = np.where(follows, members.stops[gone - 1], members.starts[gone])
    next_start = members.starts[np.minimum(gone + 1, len(members.starts) - 1)]
    stops = np.where(follows | is_last[gone], members.stops[gone], next_start)
    emptied = (kept[bounds[1:]] == kept[bounds[:-1]]) & (bounds[1:] > bounds[:-1])
    cuts = Cuts(members.lines[gone], starts, stops, emptied, members, names, {})
    for line in long_lines(line_index, block_bytes):
        cuts = _with_long(cuts, line, _cut_long(line_index, line, projection, block_bytes))
    return cuts


def _stays(projection: Projection) -> npt.NDArray[np.bool_]:
    """Return by the index of a name whether members of that name stay; the last is for other names, with index -1."""
    return np.array([*map(projection.keeps, projection.names), projection.select is None])


@dataclass(frozen=True, slots=True)
class _LongLine:
    """The cuts of a long line, and the members that `find_names` needs; see `Cuts`."""

    gaps: Gaps
    emptied: bool
    members: MemberTable
    names: Positions


def _cut_long(line_index: LineIndex, line: int, projection: Projection, block_bytes: int) -> _LongLine:
    """Return the cuts of a long line, which is looked at in blocks: a table of all its members could take too much."""
    stays_by_name = _stays(projection)
    starts, stops, shown, shown_names = [_NOWHERE], [_NOWHERE], [NO_MEMBERS], [_NOWHERE]
    seen, count, any_stays, stop_before, pending = {-1}, 0, False, 0, NO_MEMBERS
    for table in itertools.chain(scan_long(line_index, line, block_bytes), [None]):
        members = pending if table is None else MemberTable.join([pending, table])
        if table is not None:  # of the last member, the one after it is not known yet
            members, pending = members[:-1], members[-1:]
        if not len(members.starts):
            continue
        names = match_names(line_index, members, projection.names)
        stays = stays_by_name[names]
        follows = (np.cumsum(stays) > stays) | any_stays
        stops_before = np.append(stop_before, members.stops[:-1])
        next_starts = np.append(members.starts[1:], members.stops[-1:] if table is None else pending.starts)
        if not stays.all():
            gone_starts = np.where(follows, stops_before, members.starts)[~stays]
            gone_stops = np.where(follows, members.stops, next_starts)[~stays]
            apart = gone_starts[1:] != gone_stops[:-1]
            starts.append(gone_starts[np.append(True, apart)])
            stops.append(gone_stops[np.append(apart, True)])
        any_stays, stop_before = any_stays or bool(stays.any()), int(members.stops[-1])
        new = [int(at) for name, at in zip(*np.unique(names, return_index=True), strict=True) if name not in seen]
        seen.update(names[new].tolist())
        show = np.union1d(np.arange(min(len(names), max(MAX_MEMBERS - count, 0))), new).astype(np.int64)
        shown.append(members[show])
        shown_names.append(names[show])
        count += len(names)
    found = Gaps(np.concatenate(starts), np.concatenate(stops))
    return _LongLine(found, bool(count) and not any_stays, MemberTable.join(shown), np.concatenate(shown_names))


def _with_long(cuts: Cuts, line: int, long: _LongLine) -> Cuts:
    cuts.emptied[line] = long.emptied
    at = int(np.searchsorted(cuts.members.lines, line))
    return replace(
        cuts,
        members=MemberTable.join([cuts.members[:at], long.members, cuts.members[at:]]),
        names=np.concatenate([cuts.names[:at], long.names, cuts.names[at:]]),
        long={**cuts.long, line: long.gaps},
    )


def _scalar(text: str) -> Any:
    return pa.scalar(text.encode(), pa.large_binary())


_NOTHING = _scalar("")
_NOWHERE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Edits:
    """Replacements of bytes, in order and without overlap; an insertion starts where it stops.

    Attributes:
        starts: Where the bytes to replace start.
        stops: Where they stop.
        texts: The new bytes, in parts to be joined: arrays with an element for each edit, and scalars.
        gaps: Of each long line with cuts, these cuts, which may be as many as its bytes allow; in order.
    """

    starts: Positions
    stops: Positions
    texts: Sequence[Any]
    gaps: Sequence[Gaps] = ()

    def __getitem__(self, some: slice) -> "Edits":
        """Return some of the edits, without gaps."""
        texts = [text if isinstance(text, pa.Scalar) else text[some] for text in self.texts]
        return Edits(self.starts[some], self.stops[some], texts)


def plan_edits(decoded: Decoded, evaluated: Evaluated, cuts: Cuts | None = None) -> Edits:
    """Return the edits that turn a chunk into its output.

    Lines without a row are cut out, and so are the members of other lines that do not stay, as `cuts` says. Each
    result replaces the value of the member of its name; if the line has no such member, it is appended before the
    closing brace.
    """
    kept = evaluated.kept
    stays = np.zeros(len(decoded.line_index.stops), dtype=bool)
    stays[decoded.lines[kept]] = True
    empties = decoded.empties[kept]
    edits = []
    if cuts is not None:
        edits.append(_cut_out(cuts.starts[stays[cuts.lines]], cuts.stops[stays[cuts.lines]]))
        empties |= cuts.emptied[decoded.lines[kept]]
    replaced = {name: _replacements(decoded, evaluated, name) for name in decoded.spans}
    edits += [found for _, found in replaced.values()]
    # A result that replaces a member in every row is appended nowhere.
    everywhere = [name for name, (rows, _) in replaced.items() if len(rows) == len(kept)]
    elsewhere = evaluated.texts.drop(everywhere) if everywhere else evaluated.texts
    if elsewhere.columns:
        rows_replaced = {name: rows for name, (rows, _) in replaced.items() if name in elsewhere.columns}
        appended = _appended(elsewhere, rows_replaced, empties)
        edits.append(Edits(decoded.closes[kept], decoded.closes[kept], appended))
    if not stays.all():
        lines = np.flatnonzero(~stays)
        edits.append(_cut_out(decoded.line_index.bounds[lines], decoded.line_index.bounds[lines + 1]))
    in_order = edits[0] if len(edits) == 1 else _in_order(edits)
    gaps = [found for line, found in cuts.long.items() if stays[line] and len(found.starts)] if cuts else []
    return replace(in_order, gaps=gaps) if gaps else in_order


def _cut_out(starts: Positions, stops: Positions) -> Edits:
    return Edits(starts, stops, [pa.array([b""] * len(starts), pa.large_binary())])


def _replacements(decoded: Decoded, evaluated: Evaluated, name: str) -> tuple[Positions, Edits]:
    """Return the edits that replace a member, and for each the index of its row among the rows kept."""
    spans = decoded.spans[name]
    place = np.full(decoded.frame.height, -1)
    place[evaluated.kept] = np.arange(len(evaluated.kept))
    rows = place[spans.rows]
    there = rows >= 0
    rows = rows[there]
    texts = _to_arrow(evaluated.texts[name].gather(rows))
    return rows, Edits(spans.starts[there], spans.stops[there], [texts])


def _appended(texts: pl.DataFrame, replaced: dict[str, Positions], empties: npt.NDArray[np.bool_]) -> list[Any]:
    """Return the texts to append to each row kept: `,"name":value` for each result that replaces nothing there."""
    if not replaced and not empties.any():
        return [part for name in texts.columns for part in (_scalar("," + member_prefix(name)), _to_arrow(texts[name]))]
    members = []
    for name in texts.columns:
        prefix = pl.lit("," + member_prefix(name))
        if name in replaced:
            absent = np.ones(texts.height, dtype=bool)
            absent[replaced[name]] = False
            members.append(pl.when(pl.lit(pl.Series(absent))).then(pl.concat_str(prefix, name)).otherwise(pl.lit("")))
        else:
            members += [prefix, pl.col(name)]
    appended = texts.select(pl.concat_str(members).alias("appended")).to_series()
    if empties.any():  # no comma after the opening brace of an empty object
        appended = appended.zip_with(~pl.Series(empties), appended.str.strip_prefix(","))
    return [_to_arrow(appended)]


def _in_order(edits: list[Edits]) -> Edits:
    if not edits:
        none = np.empty(0, np.int64)
        return Edits(none, none, [])
    starts = np.concatenate([e.starts for e in edits])
    order = np.argsort(starts, kind="stable")
    stops = np.concatenate([e.stops for e in edits])
    texts = [pc.binary_join_element_wise(*e.texts, _NOTHING) if len(e.texts) > 1 else e.texts[0] for e in edits]
    return Edits(starts[order], stops[order], [pa.concat_arrays(texts).take(pa.array(order))])


def _to_arrow(texts: pl.Series) -> pa.LargeBinaryArray:
    return texts.alias("").to_arrow().cast(pa.large_string()).view(pa.large_binary())


def splice(data: memoryview, edits: Edits) -> list[memoryview]:
    """Return the bytes after the edits, in pieces to be written one after the other."""
    output, position, done = [], 0, 0
    for gaps in edits.gaps:
        first, last = np.searchsorted(edits.starts, [gaps.starts[0], gaps.stops[-1]]).tolist()
        before = edits[done:first]
        output += _splice(data[position : gaps.starts[0]], _moved(before, -position))
        position = int(gaps.starts[0])
        for index in range(first, last):
            edit = edits[index : index + 1]
            start, stop = int(edit.starts[0]), int(edit.stops[0])
            output += _without(data, position, start, gaps)
            output += _splice(data[start:stop], _moved(edit, -start))
            position = stop
        output += _without(data, position, int(gaps.stops[-1]), gaps)
        position, done = int(gaps.stops[-1]), last
    rest = _moved(edits[done:], -position) if done or position else edits
    return output + _splice(data[position:], rest)


def _moved(edits: Edits, by: int) -> Edits:
    return replace(edits, starts=edits.starts + by, stops=edits.stops + by)


def _without(data: memoryview, start: int, stop: int, gaps: Gaps) -> Iterator[memoryview]:
    """Yield the bytes from `start` to `stop` that are not in gaps, block by block."""
    for begin in range(start, stop, BLOCK_BYTES):
        block = data[begin : min(begin + BLOCK_BYTES, stop)]
        first = np.searchsorted(gaps.stops, begin, side="right")
        last = np.searchsorted(gaps.starts, begin + len(block))
        if first >= last:
            yield block
            continue
        steps = np.zeros(len(block) + 1, np.int8)
        steps[np.maximum(gaps.starts[first:last] - begin, 0)] += 1  # gaps are not empty, so no two start at one place
        steps[np.minimum(gaps.stops[first:last] - begin, len(block))] -= 1
        kept = np.frombuffer(block, np.uint8)[np.cumsum(steps[:-1], dtype=np.int8) == 0]
        if len(kept):
            yield memoryview(kept)


def _splice(data: memoryview, edits: Edits) -> list[memoryview]:
    count = len(edits.starts)
    if not count:
        return [data]
    if (edits.starts == edits.stops).all():
        cuts = np.concatenate([[0], edits.starts])
    else:
        # Kept and replaced pieces alternate; below, only the kept ones are taken.
        cuts = np.empty(2 * count, np.int64)
        cuts[0] = 0
        cuts[1::2] = edits.starts
        cuts[2::2] = edits.stops[:-1]
    pieces = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(cuts) - 1, [None, pa.py_buffer(cuts), pa.py_buffer(data)]
    )
    if len(pieces) != count:
        pieces = pieces.take(pa.array(np.arange(0, len(pieces), 2)))
    joined = pc.binary_join_element_wise(pieces, *edits.texts, _NOTHING)
    rest = data[int(edits.stops[-1]) :]
    output = joined.buffers()[2]
    return [memoryview(output).cast("B"), rest] if output is not None and output.size else [rest]
