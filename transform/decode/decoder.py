"""Decodes a chunk of lines into a frame of the columns read, and the positions that a splice needs.

`Decoder` is the fast way: one call of msgspec for many lines, into a struct of the members that are needed. All other
members are validated and skipped. The call alone does not prove that each line is one object: two objects on one line
would pass, and so would one object on two lines. It is proved if every line starts with `{` and ends with `}` and there
are as many objects as lines, because within an object a `}` is never followed by a `{`. If a call fails, the lines are
divided until the invalid ones are alone. `LineDecoder` then decodes each of these, or finds the reason to reject it.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from msgspec import UNSET, Raw, UnsetType

from transform.decode.columns import ESCAPED, in_range, python_type, range_error, to_frame, type_error, widen
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
from transform.decode.members import LineError, Members, is_deep, read_members
from transform.decode.rejects import Reject, reject_long
from transform.decode.schema import Column
from transform.errors import WidenError
from transform.io.chunks import LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES, Chunk


class LineDecoder:
    """Decodes single lines: strict, and slower than `Decoder`.

    Args:
        columns: The columns read, with their types.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self._decoders = {name: msgspec.json.Decoder(python_type(c.dtype) | None) for name, c in columns.items()}
        self._inferred = [name for name, column in columns.items() if column.inferred]

    def decode(self, line: bytes, offset: int) -> tuple[dict[str, object], Members]:
        """Return the values of the columns, and all members.

        Args:
            line: The bytes of the line.
            offset: Where it starts in the input.

        Raises:
            LineError: The line is rejected; the error has the reason.
            WidenError: An inferred type is too narrow.
        """
        members = read_members(line)
        for name in self._inferred:
            text = members.values.get(name)
            wider = widen(self._columns[name].dtype, bytes(text)) if text is not None else None
            if wider is not None:
                raise WidenError(name, wider, offset)
        values = {name: self._value(name, members.values.get(name)) for name in self._columns}
        for name in members.lone_surrogates:
            if name in self._columns:
                raise LineError(f"column `{name}`: holds a lone surrogate escape", "no text has that value")
        return values, members

    def _value(self, name: str, text: msgspec.Raw | None) -> object:
        if text is None:
            return None
        column = self._columns[name]
        try:
            value = self._decoders[name].decode(text)
        except msgspec.ValidationError as error:
            raise type_error(name, column, bytes(text), str(error)) from None
        if not in_range(value, column.dtype):
            raise range_error(name, column, bytes(text).decode())
        return value


# Where msgspec failed, by its messages. If a later version words them differently, the lines are halved instead.
_FAULTY_OBJECT = re.compile(r"at `\$\[(\d+)\]")
_FAULTY_BYTE = re.compile(r"\(byte (\d+)\)$")
_ADDRESS = attrgetter("address")


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
        spans: The values that results replace, by the name of the member.
        blank: How many lines are blank.
        rejects: The rejected lines, in order.
    """

    line_index: LineIndex
    lines: Positions
    closes: Positions
    empties: npt.NDArray[np.bool_]
    frame: pl.DataFrame
    spans: dict[str, Spans]
    blank: int
    rejects: list[Reject]


@dataclass(slots=True)
class _Rows:
    """The rows found so far, line by line in order."""

    lines: list[Positions] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)  # only of columns that are decoded from their text
    spans: dict[str, list[npt.NDArray[np.int64]]] = field(default_factory=dict)  # arrays of rows, starts and stops
    rejects: list[Reject] = field(default_factory=list)


class Decoder:
    """Decodes chunks for one calculation.

    Args:
        columns: The columns read, with their types.
        targets: The names of the results, which replace members of the same name.
        max_line_bytes: A longer line is rejected.
    """

    def __init__(
        self, columns: Mapping[str, Column], targets: Collection[str] = (), max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        self._columns = dict(columns)
        self._targets = tuple(targets)
        self._max_line_bytes = max_line_bytes
        self._fields = {name: f"m{i}" for i, name in enumerate(dict.fromkeys([*columns, *targets]))}
        self._getters = {name: _getter(attribute) for name, attribute in self._fields.items()}
        types = {name: python_type(c.dtype, within_64_bits=True) | None for name, c in columns.items()}
        # A struct cannot have such names. A dict of all members takes its place, which takes about twice as long.
        self._with_struct = not any(ESCAPED.search(name) for name in self._fields)
        self._struct = _struct(self._fields, types, self._targets) if self._with_struct else None
        self._objects = msgspec.json.Decoder(self._struct or dict[str, Raw])
        self._single = LineDecoder(columns)
        # Columns that results replace: the struct has their text, from which their values are decoded.
        as_text = [name for name in types if name in self._targets or not self._with_struct]
        self._arrays = {name: msgspec.json.Decoder(list[types[name]]) for name in as_text}  # type: ignore[valid-type]

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
            odd[line] |= is_deep(line_index.line(line))
        odd[invalid_utf8(line_index)] = True
        return np.flatnonzero(~blank & ~odd), np.flatnonzero(odd)

    def _decode_lines(self, line_index: LineIndex, lines: Positions, rows: _Rows) -> None:
        """Decode lines that have nothing but blank lines between them; divide them until the invalid ones are alone."""
        pending = [lines]
        while pending:
            some = pending.pop()
            if len(some) == 1:
                self._decode_line(line_index, int(some[0]), rows)
            elif len(some) and (fault := self._decode_together(line_index, some, rows)) is not None:
                pending += [some[fault + 1 :], some[fault : fault + 1], some[:fault]]

    def _decode_together(self, line_index: LineIndex, lines: Positions, rows: _Rows) -> int | None:
        """Decode lines if all are valid; otherwise return where to divide them: at the invalid one, if it is known."""
        start = line_index.firsts[lines[0]]
        text = line_index.view[start : line_index.lasts[lines[-1]]]
        fault = None
        try:
            objects = self._objects.decode_lines(text)
            if len(objects) == len(lines):
                raws = {name: self._texts(objects, name) for name in {*self._targets, *self._arrays}}
                values = {name: array.decode(_as_array(raws[name])) for name, array in self._arrays.items()}
                self._add(rows, lines, objects, values)
                self._add_spans(rows, raws, line_index.data.ctypes.data, len(rows.objects) - len(objects))
                return None
        except msgspec.ValidationError as error:
            fault = int(found[1]) if (found := _FAULTY_OBJECT.search(str(error))) else None
        except msgspec.DecodeError as error:
            if found := _FAULTY_BYTE.search(str(error)):
                line = int(np.searchsorted(line_index.firsts, start + int(found[1]), side="right")) - 1
                fault = int(np.searchsorted(lines, line, side="right")) - 1
        except RecursionError:
            pass
        return fault if fault is not None and 0 <= fault < len(lines) else len(lines) // 2

    def _texts(self, objects: list[Any], name: str) -> list[Any]:
        if not self._with_struct:
            return [o.get(name, UNSET) for o in objects]
        return self._getters[name](objects)

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
            values, members = self._single.decode(line, line_index.offset + start)
        except LineError as error:
            rows.rejects.append(Reject(index, line_index.offset + start, error.kind, str(error), line))
            return
        raws = {name: [members.values.get(name, UNSET)] for name in self._targets}
        typed = {self._fields[name]: value for name, value in values.items() if name not in self._arrays}
        from_text = {name: [values[name]] for name in self._arrays}
        self._add(rows, np.array([index]), [self._struct(**typed) if self._struct else None], from_text)
        base = int(np.frombuffer(members.text, np.uint8).ctypes.data) - start
        self._add_spans(rows, raws, base, len(rows.objects) - 1)

    def _add(self, rows: _Rows, lines: Positions, objects: list[Any], values: Mapping[str, list[Any]]) -> None:
        rows.lines.append(lines)
        rows.objects.extend(objects)
        for name, more in values.items():
            rows.values.setdefault(name, []).extend(more)

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

    def _assemble(self, line_index: LineIndex, rows: _Rows, blank: int) -> Decoded:
        values = {
            name: rows.values.get(name, []) if name in self._arrays else self._texts(rows.objects, name)
            for name in self._columns
        }
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
            spans={name: Spans(*s) for name, s in spans.items()},
            blank=blank,
            rejects=rejects,
        )


def _struct(fields: Mapping[str, str], types: Mapping[str, Any], targets: Collection[str]) -> Any:
    """Return a struct of the members that are needed: typed if they are only read, as text if they are replaced."""
    return msgspec.defstruct(
        "Line",
        [
            (attribute, Raw | UnsetType, msgspec.field(name=name, default=UNSET))
            if name in targets
            else (attribute, types[name], msgspec.field(name=name, default=None))
            for name, attribute in fields.items()
        ],
        gc=False,
    )


def _getter(attribute: str) -> Callable[[list[Any]], list[Any]]:
    """Return a function that reads an attribute of all objects; generated, it takes half the time of `attrgetter`."""
    return eval(f"lambda objects: [o.{attribute} for o in objects]")  # type: ignore[no-any-return] # noqa: S307 - of a name made here


def _as_array(raws: Sequence[Any]) -> bytes:
    if raws.count(UNSET):
        raws = [b"null" if raw is UNSET else raw for raw in raws]
    return b"[" + b",".join(raws) + b"]"
