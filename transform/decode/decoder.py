"""Decodes a chunk of lines into a frame of the columns read, and the positions that the output is made from.

The kernel reads all lines at once. A line that it refuses, or in which something needs more care, goes to
`LineDecoder`, which decodes it or finds the reason to reject it. So the kernel never has to say what is wrong.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from transform.decode.columns import column_type, count_integers, large_floats, to_frame, to_series
from transform.decode.faults import find_reasons
from transform.decode.line_decoder import LineDecoder
from transform.decode.line_errors import LineError, full_reason, reason_of_fault
from transform.decode.members import read_members, read_path
from transform.decode.misfits import Misfits
from transform.decode.reasons import Reasons, whole_form
from transform.decode.rejects import NO_REJECTS, SHORT_BYTES, Reject, Rejects, reject_long
from transform.decode.schema import INTEGER_BOUNDS, Column, Json, Path, has_floats, path_of
from transform.io.chunks import LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES, Chunk
from transform.native.binding import (
    MISSING,
    Bytes,
    Fault,
    Positions,
    Scan,
    Spans,
    Status,
    find_faults,
    scan,
    strings,
    texts,
)
from transform.native.wanted import Wanted, Way

_EXACT_INTEGERS = 2**53
"""Up to this, a float can be any integer."""
_INT64 = (-(2**63), 2**63 - 1)
_OK, _BLANK, _BAD = int(Status.OK), int(Status.BLANK), int(Status.BAD)  # numpy compares numbers faster than enums


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded chunk.

    Attributes:
        found: Its lines and their members.
        offsets: Where each line starts in the input.
        lines: For each row of the frame, the index of its line.
        frame: The columns read, with a row for each line that is not blank and not rejected.
        nodes: The number of each member in `found`, by path.
        inexact: How many integers beyond 2^53 were read as floats, by column.
        blank: How many lines are blank.
        rejects: The rejected lines, in order.
    """

    found: Scan
    offsets: Positions
    lines: Positions
    frame: pl.DataFrame
    nodes: Mapping[Path, int]
    inexact: dict[str, int]
    blank: int
    rejects: Rejects

    def line(self, index: int) -> bytes:
        r"""Return the bytes of a line, without its `\n`."""
        return _line(self.found, index)

    def reject(self, index: int, error: LineError) -> Reject:
        """Return the reject of a line."""
        return _reject(self.found, self.offsets, index, error)

    def rejects_for(self, lines: Positions, reasons: Positions, texts: Sequence[str]) -> Rejects:
        """Return the rejects of lines, each with one of some reasons, given by its number."""
        starts, stops = self.found.bounds[lines], self.found.stops[lines]
        noted = Reasons(self.found.data, starts, stops)
        for number in np.unique(reasons).tolist():
            noted.add(np.flatnonzero(reasons == number), whole_form(texts[number]))
        is_short = stops - starts <= SHORT_BYTES
        rows = np.flatnonzero(is_short)
        many = noted.rejects(rows, lines[rows], self.offsets[lines[rows]]) if len(rows) else NO_REJECTS
        rest = np.flatnonzero(~is_short).tolist()
        return many.merged(Rejects.of(self.reject(int(lines[row]), LineError(texts[reasons[row]])) for row in rest))

    def places(self, path: Path) -> tuple[Spans, Spans]:
        """Return by line where the value of a member starts and stops; `MISSING` if it is absent."""
        node = self.nodes[path]
        return self.found.starts[node], self.found.ends[node]

    def texts(self, path: Path, lines: Positions) -> list[bytes]:
        """Return the bytes of a member of some lines, `null` where it is absent."""
        starts, ends = self.places(path)
        return list(_texts(self.found.data, starts[lines], ends[lines]))


class Decoder:
    """Decodes chunks for one calculation.

    Args:
        columns: The columns read, with their types.
        targets: The names of the results, which replace members of the same name.
        max_line_bytes: A longer line is rejected.
        unchanged: The paths of members of which the bytes are needed, by name.
        keeps: Whether the members of a name stay in the line, by name.
        others_stay: Whether members of other names do.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        targets: Collection[str] = (),
        max_line_bytes: int = MAX_LINE_BYTES,
        unchanged: Mapping[str, Path] = {},
        keeps: Mapping[str, bool] = {},
        *,
        others_stay: bool = True,
    ) -> None:
        self._columns = dict(columns)
        self._unchanged = dict(unchanged)
        self._max_line_bytes = max_line_bytes
        self._paths = {name: path_of(name, column) for name, column in columns.items()}
        self._raw = set[str]()  # the columns of JSON texts
        ways, bounds = dict[Path, Way](), dict[Path, tuple[int, int]]()
        self._native = set[str]()  # the columns that the kernel reads; others are decoded from their texts
        for name, column in columns.items():
            way, path = _way(column), self._paths[name]
            if isinstance(column.dtype, Json):
                self._raw.add(name)
            elif way is not None and ways.setdefault(path, way) is way:
                self._native.add(name)
                bounds[path] = INTEGER_BOUNDS.get(type(column.dtype), _INT64)
        bounds = {path: (max(low, _INT64[0]), min(high, _INT64[1])) for path, (low, high) in bounds.items()}
        self._present = {n for n, c in columns.items() if not c.typed and not c.dtype.is_nested()}
        self._elements = {
            name: msgspec.json.Decoder(list[column_type(column, within_64_bits=True) | None])  # type: ignore[misc]
            for name, column in columns.items()
            if name not in self._native | self._raw | self._present
        }
        paths = [*self._paths.values(), *unchanged.values(), *((name,) for name in targets)]
        self._wanted = Wanted(paths, ways, bounds, keeps, others_stay=others_stay)
        self._single: LineDecoder | None = None  # made when it is needed

    def decode(self, chunk: Chunk) -> Decoded:
        """Return the rows of a chunk, and the lines that are rejected.

        Raises:
            WidenError: An inferred type is too narrow.
        """
        found = scan(chunk.data, self._wanted, lines=None if chunk.places is None else len(chunk.places.offsets))
        if len(chunk.data) > self._max_line_bytes:
            found.status[found.stops - found.bounds[:-1] > self._max_line_bytes] = _BAD
        offsets = found.bounds[:-1] + chunk.offset if chunk.places is None else chunk.places.offsets
        plain = np.flatnonzero(found.status == _OK)
        nested = {name: self._decode_texts(name, found, plain) for name in self._elements}
        odd = np.flatnonzero(found.status >= _BAD)  # with those whose nested values do not fit
        singles, rejects = self._decode_lines(found, offsets, odd)
        if chunk.places is not None and chunk.places.unfit:
            rejects = rejects.replaced(chunk.places.unfit, offsets)
        lines = plain
        if len(odd):
            fits = found.status == _OK
            fits[list(singles)] = True
            lines = np.flatnonzero(fits)
        values = {name: _merged(name, of, plain, singles, lines) for name, of in nested.items()}
        of_texts, out_of_range = pl.DataFrame(), dict[int, LineError]()
        if nested:
            of_texts, out_of_range = to_frame(values, {name: self._columns[name] for name in nested}, len(lines))
        if out_of_range:
            more = (_reject(found, offsets, int(lines[row]), error) for row, error in out_of_range.items())
            rejects = rejects.merged(Rejects.of(more))
            lines = np.delete(lines, list(out_of_range))
        frame = self._frame(found, of_texts, singles, lines)
        return Decoded(
            found=found,
            offsets=offsets,
            lines=lines,
            frame=frame,
            nodes=self._wanted.nodes,
            inexact=self._count_inexact(found, lines, frame),
            blank=int(np.count_nonzero(found.status == _BLANK)),
            rejects=rejects,
        )

    def _decode_texts(self, name: str, found: Scan, plain: Positions) -> list[Any]:
        """Return the values of a column of some lines; a line whose value does not fit becomes a slow one."""
        node = self._wanted.nodes[self._paths[name]]
        texts = list(_texts(found.data, found.starts[node][plain], found.ends[node][plain]))
        decoder = self._elements[name]
        try:
            return _decode_all(decoder, texts)
        except (msgspec.ValidationError, RecursionError):
            misfits = [index for index, text in enumerate(texts) if not _fits(decoder, text)]
        found.status[plain[misfits]] = Status.SLOW
        for index in misfits:
            texts[index] = b"null"
        return _decode_all(decoder, texts)

    def _decode_lines(
        self, found: Scan, offsets: Positions, odd: Positions
    ) -> tuple[dict[int, dict[str, Any]], Rejects]:
        """Return the values of lines that are decoded one by one, by line and column, and the rejects of the others."""
        if not len(odd):
            return {}, NO_REJECTS
        starts, stops = found.bounds[odd], found.stops[odd]
        is_long = stops - starts > self._max_line_bytes
        faults, places = find_faults(found.data, starts, np.minimum(stops, starts + self._max_line_bytes))
        faults[is_long] = Fault.UNSURE
        reasons = Reasons(found.data, starts, stops)
        find_reasons(found.data, starts, stops, faults, places, reasons)
        known = (found.status[odd] == Status.SLOW) & (faults == Fault.NONE)
        Misfits(found, odd, known, self._wanted.nodes, reasons).find(self._columns, self._paths)
        in_bulk = reasons.known & (stops - starts <= SHORT_BYTES)
        rows = np.flatnonzero(in_bulk)
        many = reasons.rejects(rows, odd[rows], offsets[odd[rows]]) if len(rows) else NO_REJECTS
        rows = np.flatnonzero(~in_bulk)
        singles, rejects = dict[int, dict[str, Any]](), list[Reject]()
        columns = (column.tolist() for column in (rows, odd[rows], faults[rows], places[rows]))
        for row, index, fault, place in zip(*columns, strict=True):
            one = self._decode_line(found, int(offsets[index]), index, reasons.reason(row), fault, place)
            if isinstance(one, Reject):
                rejects.append(one)
            else:
                singles[index] = one
        return singles, many.merged(Rejects.of(rejects)) if rejects else many

    def _decode_line(
        self, found: Scan, offset: int, index: int, known: tuple[str, str] | None, fault: int, place: int
    ) -> dict[str, Any] | Reject:
        """Return the values of a line, or its reject; the kind and the text of the reason may be known already."""
        start, stop = int(found.bounds[index]), int(found.stops[index])
        if stop - start > self._max_line_bytes:
            head = bytes(found.data[start : start + min(stop - start, LONG_LINE_HEAD_BYTES)])
            return reject_long(index, offset, head, stop - start, self._max_line_bytes)
        line = _line(found, index)
        if known is None and (reason := reason_of_fault(line, fault, place)) is not None:
            known = reason[0], full_reason(*reason)
        if known is not None:
            return Reject(index, offset, *known, line)
        if self._single is None:
            self._single = LineDecoder(self._columns, self._unchanged)
        try:
            values = self._single.decode(line, offset)
        except LineError as error:
            return Reject(index, offset, error.kind, str(error), line)
        assert found.status[index] == Status.SLOW, line  # noqa: S101 - both know JSON
        return values

    def _frame(
        self, found: Scan, of_texts: pl.DataFrame, singles: Mapping[int, Mapping[str, Any]], lines: Positions
    ) -> pl.DataFrame:
        """Return the frame of some lines."""
        count = len(found.stops)
        rows, place = list[int](), lines
        if singles:
            rows = np.intersect1d(lines, list(singles)).tolist()
            place = lines.copy()
            place[np.searchsorted(lines, rows)] = count + np.arange(len(rows))  # the singles come after all lines
        whole = not rows and len(lines) == count
        series = []
        for name, column in self._columns.items():
            if name in self._elements:
                series.append(of_texts[name])
                continue
            node = self._wanted.nodes[self._paths[name]]
            if name in self._present:
                one = _from_numbers(np.ones(count, bool), _are_values(found, node))
            elif name in self._raw:
                one = _raw_texts(found, node)
            else:
                one = _series(found, node, self._wanted.ways[node]).cast(column.evaluated)
            if rows:
                more = to_series(name, [singles[row][name] for row in rows], column)
                one = pl.concat([one, more.alias("")])
            series.append((one if whole else one.gather(place)).alias(name))  # Arrow has no names with NUL
        if not series:
            return pl.DataFrame(height=len(lines))
        return pl.DataFrame({one.name: one for one in series})  # in a list, a series named "" would be renamed

    def _count_inexact(self, found: Scan, lines: Positions, frame: pl.DataFrame) -> dict[str, int]:
        """Return how many integers beyond 2^53 were read as floats, by column; only numbers show what they were."""
        counts = {}
        for name, column in self._columns.items():
            rows = large_floats(frame[name], _EXACT_INTEGERS) if column.typed and has_floats(column.dtype) else ()
            path = path_of(name, column)
            texts = (read_path(read_members(_line(found, int(lines[row]))).values, path) for row in rows)
            if count := sum(count_integers(bytes(text), column, _EXACT_INTEGERS) for text in texts if text is not None):
                counts[name] = count
        return counts


def _way(column: Column) -> Way | None:
    """Return how the kernel reads a column, None if it does not."""
    if not column.typed:
        return None
    if bounds := INTEGER_BOUNDS.get(type(column.dtype)):
        return Way.WIDE if bounds[1] > _INT64[1] else Way.INT64
    return {pl.Float64: Way.FLOAT64, pl.Boolean: Way.BOOL, pl.String: Way.STRING}.get(type(column.dtype))


def _line(found: Scan, index: int) -> bytes:
    return bytes(found.data[found.bounds[index] : found.stops[index]])


def _reject(found: Scan, offsets: Positions, index: int, error: LineError) -> Reject:
    return Reject(index, int(offsets[index]), error.kind, str(error), _line(found, index))


def _texts(data: Bytes, starts: Spans, ends: Spans) -> Iterable[bytes]:
    """Yield the bytes of values, `null` for those that are missing."""
    view = data.data
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield b"null" if start == MISSING else bytes(view[start:end])


def _decode_all(decoder: msgspec.json.Decoder[Any], texts: Sequence[bytes]) -> list[Any]:
    values: list[Any] = decoder.decode(b"[" + b",".join(texts) + b"]")
    return values


def _fits(decoder: msgspec.json.Decoder[Any], text: bytes) -> bool:
    try:
        _decode_all(decoder, [text])
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _merged(
    name: str, values: list[Any], plain: Positions, singles: Mapping[int, Mapping[str, Any]], lines: Positions
) -> list[Any]:
    """Return the values of a column of some lines, of which `values` has the plain ones."""
    if len(lines) == len(plain) and not singles:
        return values
    places = np.searchsorted(plain, lines).tolist()
    return [
        singles[line][name] if line in singles else values[at] for line, at in zip(lines.tolist(), places, strict=True)
    ]


def _are_values(found: Scan, node: int) -> npt.NDArray[np.bool_]:
    """Return which lines have a value for a member, and not null."""
    starts = found.starts[node]
    there: npt.NDArray[np.bool_] = starts != MISSING
    there[there] = found.data[starts[there]] != ord("n")
    return there


def _raw_texts(found: Scan, node: int) -> pl.Series:
    """Return the JSON texts of a member of all lines; those of lines that are not OK are arbitrary."""
    from transform.decode import arrow  # noqa: PLC0415 - other columns do not need it

    there = _are_values(found, node)
    starts = np.where(there, found.starts[node], np.uint32(MISSING))
    text, offsets = texts(found.data, starts, found.ends[node])
    return arrow.from_text(text, offsets, there)


def _series(found: Scan, node: int, way: Way) -> pl.Series:
    """Return the values of a member of all lines; those of lines that are not OK are arbitrary."""
    if way is Way.STRING:
        starts, ends = found.starts[node], found.ends[node]
        if (found.status == Status.SLOW).any():  # may have escapes that are no text
            starts = np.where(found.status == Status.OK, starts, np.uint32(MISSING))
        text, offsets = strings(found.data, starts, ends)
        there = starts != MISSING
        there[there] = found.data[starts[there]] == ord('"')
        from transform.decode import arrow  # noqa: PLC0415 - other columns do not need it

        return arrow.from_text(text, offsets, there)
    values, valid = found.values[node], found.valid[node] != 0
    series = _from_numbers(values.view(np.bool_) if way is Way.BOOL else values, valid)
    if way is Way.WIDE and (large := found.valid[node] == 2).any():
        without_sign = pl.Series(values.view(np.uint64)).cast(pl.Int128)
        return without_sign.zip_with(pl.Series(large), series.cast(pl.Int128))
    return series


def _from_numbers(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> pl.Series:
    if valid.all():
        return pl.Series(values)
    from transform.decode import arrow  # noqa: PLC0415 - columns without nulls do not need it

    return arrow.from_numbers(values, valid)
