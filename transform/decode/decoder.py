"""Decodes a chunk of lines into a frame of the columns read, and the positions that a splice needs.

`Decoder` is the fast way: one call of msgspec for many lines, into a struct of the members that are needed. All other
members are validated and skipped. The call alone does not prove that each line is one object: two objects on one line
would pass, and so would one object on two lines. It is proved if every line starts with `{` and ends with `}` and there
are as many objects as lines, because within an object a `}` is never followed by a `{`. If a call fails, the lines are
divided until the invalid ones are alone. `LineDecoder` then decodes each of these, or finds the reason to reject it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from msgspec import UNSET, Raw, UnsetType

from transform.decode.columns import (
    Leaf,
    Variant,
    column_type,
    count_integers,
    getter,
    large_floats,
    missing,
    to_frame,
    variants,
)
from transform.decode.line_decoder import LineDecoder
from transform.decode.line_errors import LineError
from transform.decode.line_index import (
    CLOSE,
    OPEN,
    LineIndex,
    Positions,
    end_in,
    index_lines,
    invalid_utf8,
    many_openers,
)
from transform.decode.members import (
    ESCAPED,
    address,
    is_deep,
    read_members,
    read_path,
)
from transform.decode.rejects import Reject, reject_long
from transform.decode.schema import Column, Path, has_floats, path_of
from transform.io.chunks import LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES, Chunk

# Where msgspec failed, by its messages. If a later version words them differently, the lines are halved instead.
_FAULTY_OBJECT = re.compile(r"at `\$\[(\d+)\]")
_FAULTY_BYTE = re.compile(r"\(byte (\d+)\)$")
_ADDRESS = attrgetter("address")
_UNCHANGED = "unchanged "
_EXACT_INTEGERS = 2**53
"""Up to this, a float can be any integer."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The values of one member: `rows` are indexes into the frame, `starts` and `stops` positions in the chunk."""

    rows: Positions
    starts: Positions
    stops: Positions


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded chunk.

    Attributes:
        line_index: The positions of its lines.
        lines: For each row of the frame, the index of its line.
        closes: For each row, the position of the closing brace of its line.
        empties: For each row, whether its line is an object without members.
        frame: The columns read, with a row for each line that is not blank and not rejected.
        unchanged: The bytes of members that are results as they are, as text, with the same rows.
        inexact: How many integers beyond 2^53 were read as floats, by column.
        spans: The values that results replace, by the name of the member.
        blank: How many lines are blank.
        rejects: The rejected lines, in order.
    """

    line_index: LineIndex
    lines: Positions
    closes: Positions
    empties: npt.NDArray[np.bool_]
    frame: pl.DataFrame
    unchanged: pl.DataFrame
    inexact: dict[str, int]
    spans: dict[str, Spans]
    blank: int
    rejects: list[Reject]


@dataclass(slots=True)
class _Rows:
    """The rows found so far, line by line in order."""

    height: int = 0
    lines: list[Positions] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    unchanged: dict[str, list[Any]] = field(default_factory=dict)
    spans: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)  # arrays of rows, starts and stops
    rejects: list[Reject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of the line that is needed.

    Attributes:
        attribute: The attribute of the struct of a line that has it.
        variants: The ways to decode it.
        arrays: For each way, the decoder of the texts of many members, None if the texts are what is needed. Empty if
            the struct has the member decoded already.
    """

    attribute: str
    variants: list[Variant]
    arrays: list[msgspec.json.Decoder[Any] | None]


class Decoder:
    """Decodes chunks for one calculation.

    Args:
        columns: The columns read, with their types.
        targets: The names of the results, which replace members of the same name.
        max_line_bytes: A longer line is rejected.
        unchanged: The paths of members of which the bytes are needed, by name.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        targets: Collection[str] = (),
        max_line_bytes: int = MAX_LINE_BYTES,
        unchanged: Mapping[str, Path] = {},
    ) -> None:
        self._columns = dict(columns)
        self._unchanged = dict(unchanged)
        self._targets = tuple(targets)
        self._max_line_bytes = max_line_bytes
        leaves: dict[str, list[Leaf]] = {name: [] for name in targets}
        for name, column in columns.items():
            member, *path = path_of(name, column)
            leaves.setdefault(member, []).append((name, tuple(path), _or_none(column)))
        for name, (member, *path) in unchanged.items():
            leaves.setdefault(member, []).append((f"{_UNCHANGED}{name}", tuple(path), Raw))
        # A struct cannot have such names. A dict of all members takes its place, which takes about twice as long.
        self._with_struct = not any(ESCAPED.search(name) for name in leaves)
        self._members = {name: self._member(f"m{i}", name, of) for i, (name, of) in enumerate(leaves.items())}
        self._objects = msgspec.json.Decoder(self._struct() if self._with_struct else dict[str, Raw])
        self._getters = {name: getter([member.attribute]) for name, member in self._members.items()}
        self._single: LineDecoder | None = None  # made when it is needed

    def _member(self, attribute: str, name: str, leaves: list[Leaf]) -> _Member:
        ways = variants(leaves)
        if len(ways) == 1 and name not in self._targets and self._with_struct:
            return _Member(attribute, ways, [])
        # The struct has the text of the member, from which the values are decoded.
        arrays = [None if way.dtype is Raw else msgspec.json.Decoder(list[way.dtype]) for way in ways]  # type: ignore[name-defined]
        return _Member(attribute, ways, arrays)

    def _struct(self) -> Any:
        """Return a struct of the members that are needed: typed if they are only read, as text otherwise."""
        fields = []
        for name, member in self._members.items():
            dtype = member.variants[0].dtype if member.variants and not member.arrays else Raw | UnsetType
            default = missing(dtype) if member.variants and not member.arrays else UNSET
            fields.append((member.attribute, dtype, msgspec.field(name=name, default=default)))
        return msgspec.defstruct("Line", fields, gc=False)

    def decode(self, chunk: Chunk) -> Decoded:
        """Return the rows of a chunk, and the lines that are rejected.

        Raises:
            WidenError: An inferred type is too narrow.
        """
        line_index = index_lines(chunk)
        blank = line_index.firsts == line_index.lasts
        plain, odd = self._sort_out(line_index, blank)
        rows = _Rows()
        position = 0
        for line in odd:
            until = int(np.searchsorted(plain, line))
            self._decode_lines(line_index, plain[position:until], rows)
            self._decode_line(line_index, int(line), rows)
            position = until
        self._decode_lines(line_index, plain[position:], rows)
        return self._assemble(
            line_index, rows, int(np.count_nonzero(blank)) - sum(bool(blank[r.line]) for r in rows.rejects)
        )

    def _sort_out(self, line_index: LineIndex, blank: npt.NDArray[np.bool_]) -> tuple[Positions, Positions]:
        """Return the lines that may be decoded together, and those that have to be decoded one by one."""
        data, firsts, lasts = line_index.data, line_index.firsts, line_index.lasts
        lengths = line_index.stops - line_index.bounds[:-1]
        odd = lengths > self._max_line_bytes
        if not line_index.braced:
            odd |= ~blank & ((data[np.minimum(firsts, len(data) - 1)] != OPEN) | (data[lasts - 1] != CLOSE))
        for line in many_openers(line_index, lengths):
            odd[line] |= is_deep(line_index.text(line))
        odd[invalid_utf8(line_index)] = True
        return np.flatnonzero(~blank & ~odd), np.flatnonzero(odd)

    def _decode_lines(self, line_index: LineIndex, lines: Positions, rows: _Rows) -> None:
        """Decode lines that have nothing but blank lines between them; divide them until the invalid ones are alone."""
        pending = [lines]
        while pending:
            some = pending.pop()
            if len(some) == 1:
                self._decode_line(line_index, int(some[0]), rows)
            elif len(some) and (faults := self._decode_together(line_index, some, rows)):
                pending += reversed(np.split(some, np.ravel([(fault, fault + 1) for fault in faults])))

    def _decode_together(self, line_index: LineIndex, lines: Positions, rows: _Rows) -> list[int]:
        """Decode lines if all are valid; otherwise return where to divide them: at the invalid ones that are known."""
        start = line_index.firsts[lines[0]]
        text = line_index.view[start : line_index.lasts[lines[-1]]]
        fault = None
        try:
            objects = self._objects.decode_lines(text)
            if len(objects) == len(lines):
                return self._add_objects(rows, lines, objects, line_index.data.ctypes.data)
        except msgspec.ValidationError as error:
            fault = int(found[1]) if (found := _FAULTY_OBJECT.search(str(error))) else None
        except msgspec.DecodeError as error:
            if found := _FAULTY_BYTE.search(str(error)):
                line = int(np.searchsorted(line_index.firsts, start + int(found[1]), side="right")) - 1
                fault = int(np.searchsorted(lines, line, side="right")) - 1
        except RecursionError:
            pass
        return [fault if fault is not None and 0 <= fault < len(lines) else len(lines) // 2]

    def _add_objects(self, rows: _Rows, lines: Positions, objects: list[Any], base: int) -> list[int]:
        """Add the rows of lines that were decoded; if some values do not fit, return which, and add none.

        Args:
            rows: The rows found so far.
            lines: The index of each line in the chunk.
            objects: The lines, decoded.
            base: The address of the first byte of the chunk.
        """
        found: dict[str, list[Any]] = {}
        texts = {}
        for name, member in self._members.items():
            values = self._getters[name](objects) if self._with_struct else [o.get(name, UNSET) for o in objects]
            if name in self._targets:
                texts[name] = values
            for way, array in zip(member.variants, member.arrays or [None], strict=False):
                try:
                    roots = array.decode(_as_array(values)) if array is not None else values
                except msgspec.ValidationError:
                    # All at once: the objects would be decoded again for each.
                    return [row for row, raw in enumerate(values) if not _fits(array, raw)]
                found |= {leaf: take(roots) for leaf, take in way.getters.items()}
        self._add(rows, lines, found)
        self._add_spans(rows, texts, base, rows.height - len(lines))
        return []

    def _add(self, rows: _Rows, lines: Positions, found: Mapping[str, list[Any]]) -> None:
        rows.lines.append(lines)
        rows.height += len(lines)
        for name in self._columns:
            rows.values.setdefault(name, []).extend(found[name])
        for name in self._unchanged:
            rows.unchanged.setdefault(name, []).extend(found[_UNCHANGED + name])

    def _decode_line(self, line_index: LineIndex, index: int, rows: _Rows) -> None:
        """Decode or reject a single line."""
        start = int(line_index.bounds[index])
        length = int(line_index.stops[index]) - start
        if length > self._max_line_bytes:
            head = bytes(line_index.view[start : start + min(length, LONG_LINE_HEAD_BYTES)])
            rows.rejects.append(reject_long(index, line_index.offset + start, head, length, self._max_line_bytes))
            return
        line = line_index.line(index)
        try:
            found = self._line_decoder().decode(line, line_index.offset + start)
        except LineError as error:
            rows.rejects.append(Reject(index, line_index.offset + start, error.kind, str(error), line))
            return
        unchanged = {_UNCHANGED + name: [text] for name, text in found.unchanged.items()}
        self._add(rows, np.array([index]), {name: [value] for name, value in found.values.items()} | unchanged)
        texts = {name: [found.members.values.get(name, UNSET)] for name in self._targets}
        self._add_spans(rows, texts, address(found.members.text) - start, rows.height - 1)

    def _line_decoder(self) -> LineDecoder:
        if self._single is None:
            self._single = LineDecoder(self._columns, self._unchanged, self._targets)
        return self._single

    def _add_spans(self, rows: _Rows, raws: Mapping[str, Sequence[Any]], base: int, first_row: int) -> None:
        """Add the positions of raw values, which are views of the chunk; its first byte has the address `base`."""
        for name in self._targets:
            values, numbers = raws[name], np.arange(first_row, first_row + len(raws[name]))
            if missing := values.count(UNSET):
                if missing == len(values):
                    continue
                there = np.array([raw is not UNSET for raw in values])
                values, numbers = [raw for raw in values if raw is not UNSET], numbers[there]
            if values:
                starts = np.array(list(map(_ADDRESS, map(pa.py_buffer, values))), np.int64) - base
                stops = starts + np.fromiter(map(len, values), np.int64, len(values))
                rows.spans.setdefault(name, []).append(np.array([numbers, starts, stops]))

    def _count_inexact(self, line_index: LineIndex, lines: Positions, frame: pl.DataFrame) -> dict[str, int]:
        """Return how many integers beyond 2^53 were read as floats, by column; only numbers show what they were."""
        counts = {}
        for name, column in self._columns.items():
            rows = large_floats(frame[name], _EXACT_INTEGERS) if column.typed and has_floats(column.dtype) else ()
            path = path_of(name, column)
            texts = (read_path(read_members(line_index.line(int(lines[row]))).values, path) for row in rows)
            if count := sum(count_integers(bytes(text), column, _EXACT_INTEGERS) for text in texts if text is not None):
                counts[name] = count
        return counts

    def _assemble(self, line_index: LineIndex, rows: _Rows, blank: int) -> Decoded:
        values = {name: rows.values.get(name, []) for name in self._columns}
        unchanged = {name: _texts(rows.unchanged.get(name, [])) for name in self._unchanged}
        lines = np.concatenate(rows.lines) if rows.lines else np.empty(0, np.int64)
        spans = {name: np.concatenate(found, axis=1) for name, found in rows.spans.items()}
        frame, out_of_range = to_frame(values, self._columns, len(lines))
        rejects = rows.rejects
        if out_of_range:
            keep = np.ones(len(lines), dtype=bool)
            for row, error in out_of_range.items():
                keep[row] = False
                rejects.append(line_index.reject(int(lines[row]), error))
            rejects.sort(key=lambda reject: reject.line)
            lines = lines[keep]
            unchanged = {name: texts.filter(keep) for name, texts in unchanged.items()}
            rows_before = np.cumsum(keep) - 1
            spans = {name: s[:, keep[s[0]]] for name, s in spans.items()}
            spans = {name: np.array([rows_before[s[0]], s[1], s[2]]) for name, s in spans.items()}
        closes = line_index.lasts[lines] - 1
        return Decoded(
            line_index=line_index,
            lines=lines,
            closes=closes,
            empties=end_in(line_index, OPEN, line_index.firsts[lines], closes),
            frame=frame,
            unchanged=pl.DataFrame(unchanged) if unchanged else pl.DataFrame(height=len(lines)),
            inexact=self._count_inexact(line_index, lines, frame),
            spans={name: Spans(*s) for name, s in spans.items()},
            blank=blank,
            rejects=rejects,
        )


def _or_none(column: Column) -> Any:
    dtype = column_type(column, within_64_bits=True)
    return dtype if dtype is Raw else dtype | None


def _texts(values: list[Any]) -> pl.Series:
    """Return the bytes of values as text, `null` for those that are missing."""
    found = (b"null" if raw is UNSET or raw is None else bytes(raw) for raw in values)
    return pl.Series(pa.array(found, pa.large_string()))


def _fits(array: Any, raw: Any) -> bool:
    try:
        array.decode(_as_array([raw]))
    except msgspec.ValidationError:
        return False
    return True


def _as_array(raws: Sequence[Any]) -> bytes:
    if raws.count(UNSET):
        raws = [b"null" if raw is UNSET else raw for raw in raws]
    return b"[" + b",".join(raws) + b"]"
