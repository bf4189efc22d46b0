"""Reads an input that is a sequence of JSON texts, and yields its rows as lines.

The rows are the objects of the sequence, and the elements of its arrays. The kernel finds where each ends, and takes
the line breaks out of it. Whether it is JSON, and an object, is for the decoder to say, as for any line. After what is
broken, the next row starts with a line that starts like the broken row's own line, with `{` after its white space.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from transform.io.chunks import (
    CHUNK_BYTES,
    CHUNK_LINES,
    LONG_LINE_HEAD_BYTES,
    MAX_LINE_BYTES,
    Chunk,
    Places,
    ReadInto,
    UnfitRow,
    fill,
    new_buffer,
    skip_bom,
)
from transform.io.object_checksum import checksums_of
from transform.native.binding import Positions
from transform.native.rows import BEFORE_BYTES, After, FoundRows, RowFault, RowFinder, write_rows

_SPACES = b" \t\r\n"
_NOT_JSON = "not valid JSON: "
_KINDS: Mapping[int, str] = {
    RowFault.UNEXPECTED: _NOT_JSON + "a comma, colon, quote or bracket is missing, or one too many is there",
    RowFault.LINE_BREAK: _NOT_JSON + r"a quote is missing, or a line break in a string is not written as \n",
    RowFault.TRUNCATED: _NOT_JSON + "the input ends within it",
    RowFault.NO_VALUE: _NOT_JSON + "neither an object nor another value",
    RowFault.FOLLOWED: _NOT_JSON + "what follows the row is not another one",
    RowFault.ARRAY_OPEN: _NOT_JSON + "the input ends before the array does",
}


class JsonRowReader:
    r"""Iterates over the rows of a sequence of JSON texts in chunks of lines, in order; leaves out a BOM at the start.

    Memory is bounded by the longest row, not by the arrays that rows are in.

    Args:
        read_into: Reads the input.
        chunk_bytes: Number of bytes to read at a time; a longer row makes its own chunk larger.
        max_row_bytes: A row that is longer, up to what follows it, is rejected.
        start: Offset of the first byte that `read_into` returns.
        after: How to go on there: what `Places.after` was, if an earlier reader stopped there.
        with_checksums: Whether chunks have checksums.

    Raises:
        InputError: While iterating: the input is text in UTF-16 or UTF-32.

    Example:
        >>> import io
        >>> [bytes(chunk.data) for chunk in JsonRowReader(io.BytesIO(b'[{"a":\n 1},{}]{}').readinto)]
        [b'{"a":1}\n{}\n{}\n']
    """

    def __init__(
        self,
        read_into: ReadInto,
        chunk_bytes: int = CHUNK_BYTES,
        max_row_bytes: int = MAX_LINE_BYTES,
        start: int = 0,
        after: int = 0,
        *,
        with_checksums: bool = False,
    ) -> None:
        self._read_into = read_into
        self._chunk_bytes = chunk_bytes
        self._max_row_bytes = max_row_bytes
        self._max_kept_bytes = max(max_row_bytes, LONG_LINE_HEAD_BYTES)  # of a row that is open
        self._buffer = new_buffer(BEFORE_BYTES + chunk_bytes)
        self._filled = BEFORE_BYTES  # bytes of the buffer that hold input, or what comes before
        self._base = start - BEFORE_BYTES  # offset of the start of the buffer
        self._finder = RowFinder(BEFORE_BYTES, After(after), CHUNK_LINES)
        starts_line = start == 0 or After.BROKEN in After(after)
        self._buffer[:BEFORE_BYTES] = (b"\n" if starts_line else b"}") * BEFORE_BYTES
        self._head = b""  # of a row whose start is no longer in the buffer
        self._stop = start  # of the last chunk
        self._checksums = checksums_of(b"") if with_checksums else None  # of what comes after that
        self._summed = start  # offset up to which that is

    def __iter__(self) -> Iterator[Chunk]:
        if self._stop == 0:
            size, self._read_into = skip_bom(self._read_into)
            self._base += size
            self._stop = self._summed = size
        at_end = False
        while not at_end:
            at_end = self._fill_buffer()
            view = self._buffer[: self._filled]
            while (at_end or self._finder.at < self._filled) and len(rows := self._finder.find(view, at_end=at_end)):
                yield self._chunk(rows, is_last=at_end and len(rows) < CHUNK_LINES - 1)
            if not at_end:
                self._keep_rest()
        if self._stop < self._base + self._filled:  # so that the input is known to have been read
            yield Chunk(memoryview(b""), self._stop, self._places(self._base + self._filled, 0, np.empty(0, np.int64)))

    def _fill_buffer(self) -> bool:
        """Fill the rest of the buffer; return whether the input has ended."""
        self._filled += fill(self._read_into, self._buffer[self._filled :])
        if self._filled == len(self._buffer):
            return False
        self._buffer[self._filled] = ord("\n")
        return True

    def _keep_rest(self) -> None:
        """Move the row that is open to the start of the buffer, or the place to go on from, if a row is too long."""
        row, keep = self._finder.row, self._finder.at
        if row is not None and self._filled - row <= self._max_kept_bytes:
            keep = row
        elif row is not None and row >= 0:
            self._head = bytes(self._buffer[row : row + LONG_LINE_HEAD_BYTES])
        self._add_to_checksums(keep)
        start = keep - BEFORE_BYTES
        kept = self._filled - start
        size = min(2 * kept, BEFORE_BYTES + self._max_kept_bytes + self._chunk_bytes)
        size = max(size, BEFORE_BYTES + self._chunk_bytes, kept + 1)
        buffer = self._buffer if size == len(self._buffer) else new_buffer(size)
        buffer[:kept] = self._buffer[start : self._filled]
        self._buffer, self._filled = buffer, kept
        self._base += start
        self._finder.move(start)

    def _chunk(self, rows: FoundRows, *, is_last: bool) -> Chunk:
        """Return the next rows, with what follows the last one of the input."""
        good = rows.faults == RowFault.NONE
        ends = np.where(good, rows.places, rows.stops)
        is_long = ends - rows.starts > self._max_row_bytes
        rows.faults[good & is_long] = RowFault.TOO_LONG
        unfit = tuple(self._unfit(rows, row, int(ends[row])) for row in np.flatnonzero(rows.faults).tolist())
        stop, after = int(ends[-1] if rows.faults[-1] else rows.stops[-1]), int(rows.after[-1])
        if is_last:
            stop, after = self._filled, 0
        offset = self._stop
        data = write_rows(self._buffer, rows)
        return Chunk(data, offset, self._places(self._base + stop, after, rows.starts + self._base, unfit))

    def _places(self, stop: int, after: int, offsets: Positions, unfit: tuple[UnfitRow, ...] = ()) -> Places:
        """Return the places of the rows of a chunk, which is the last until now."""
        self._add_to_checksums(stop - self._base)
        checksums = self._checksums
        if checksums is not None:
            self._checksums = checksums_of(b"")
        self._stop = stop
        return Places(offsets, stop, unfit, after, checksums)

    def _add_to_checksums(self, end: int) -> None:
        """Add what is in the buffer up to a place."""
        if self._checksums is not None and self._summed < self._base + end:
            self._checksums = checksums_of(self._buffer[self._summed - self._base : end], self._checksums)
            self._summed = self._base + end

    def _unfit(self, rows: FoundRows, row: int, end: int) -> UnfitRow:
        fault, start = int(rows.faults[row]), int(rows.starts[row])
        length = end - start
        if length > self._max_row_bytes:
            raw = self._head if start < 0 else bytes(self._buffer[start : min(end, start + LONG_LINE_HEAD_BYTES)])
        else:
            raw = bytes(self._buffer[start:end]).rstrip(_SPACES)
        if fault == RowFault.TOO_LONG:
            kind = f"longer than {self._max_row_bytes} bytes"
            return UnfitRow(row, kind, f"{kind}: {length} bytes", raw, length if length > len(raw) else None)
        kind = _KINDS[fault]
        reason = kind if fault == RowFault.ARRAY_OPEN else f"{kind} (byte {int(rows.places[row]) - start} of the row)"
        if After.BROKEN in After(int(rows.after[row])):
            reason += f"; the next row starts in the line at offset {self._base + end}"
        elif fault not in (RowFault.TRUNCATED, RowFault.ARRAY_OPEN):
            reason += "; no line after that starts with a row"
        return UnfitRow(row, kind, reason, raw, length if length > self._max_row_bytes and length > len(raw) else None)
