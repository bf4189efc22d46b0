"""Makes rows of the elements of an array in each line; what decodes and evaluates lines gets the elements as lines."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from transform.decode.decoder import Decoded, Decoder
from transform.decode.rejects import Reject
from transform.decode.schema import Path, kind_of
from transform.io.chunks import CHUNK_BYTES, CHUNK_LINES, Chunk, LongLine, Places, UnfitRow
from transform.native.binding import MISSING
from transform.native.each import Beside, ElementLines, Source, write_elements

_NONE = np.empty(0, np.int64)
_NO_ROWS = ElementLines(memoryview(b""), _NONE, _NONE, _NONE)


def _unfit(reject: Reject) -> UnfitRow:
    return UnfitRow(0, reject.kind, reject.reason, reject.raw, reject.length)


class Elements:
    r"""Makes chunks of the elements of an array in each line.

    A line that is no JSON object, or has no such array, becomes a row that is rejected.

    Args:
        path: The path of the array.
        beside: The paths of members of the line that each of its elements gets, by the last name of each.
        max_line_bytes: A longer line is rejected.
        shown: The path as messages show it.
        max_bytes: The most bytes of a chunk of elements, unless a single one is longer. It bounds memory, as a member
            that is copied into each of many elements makes them as large as all of a line, again and again.

    Example:
        >>> chunk = Chunk(memoryview(b'{"a":[{"b":1},{"b":2}],"c":3}\n'), 0)
        >>> [bytes(part.data) for part in Elements(("a",), [("c",)]).chunks(chunk)]
        [b'{"c":3,"b":1}\n{"c":3,"b":2}\n']
    """

    def __init__(
        self,
        path: Path,
        beside: Sequence[Path] = (),
        max_line_bytes: int = 1 << 32,
        shown: str = "",
        max_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._shown = shown or ".".join(path)
        self._beside = {one: msgspec.json.encode(one[-1]) + b":" for one in beside}
        members = {str(number): one for number, one in enumerate((path, *beside))}
        self._decoder = Decoder({}, max_line_bytes=max_line_bytes, unchanged=members)

    def chunks(self, chunk: Chunk | LongLine) -> Iterator[Chunk | LongLine]:
        """Yield the rows of a chunk of lines as chunks, one at least; the last one says that lines were read."""
        if isinstance(chunk, LongLine):
            yield chunk
            return
        decoded = self._decoder.decode(chunk)
        lines = len(decoded.offsets)
        kinds = np.full(lines, Source.BLANK, np.uint8)
        kinds[decoded.lines] = Source.ELEMENTS
        starts, _ = decoded.places(self._path)
        unfit = {reject.line: _unfit(reject) for reject in decoded.rejects}
        there = starts[decoded.lines] != MISSING
        is_array = decoded.found.data[np.where(there, starts[decoded.lines], 0)] == ord("[")
        for line in decoded.lines[~(there & is_array)].tolist():
            unfit[line] = self._without_array(decoded, line)
        kinds[list(unfit)] = Source.UNFIT
        beside = [Beside(name, *decoded.places(path)) for path, name in self._beside.items()]
        written = write_elements(decoded.found.data, kinds, starts, beside, CHUNK_LINES, self._max_bytes)
        has_rows = False
        for part in written:
            yield self._chunk(chunk, decoded, part, unfit)
            has_rows = True
            del part  # so that it is gone when the next one is made
        if not has_rows:
            yield self._chunk(chunk, decoded, _NO_ROWS, unfit)

    def _chunk(self, chunk: Chunk, decoded: Decoded, rows: ElementLines, unfit: dict[int, UnfitRow]) -> Chunk:
        """Return rows as a chunk."""
        inside = rows.places - decoded.found.bounds[rows.lines]
        is_element = rows.elements > 0
        if chunk.places is not None:  # where an element was before line breaks were taken out is not known
            inside = np.zeros_like(inside)
        offsets = decoded.offsets[rows.lines] + np.where(is_element, inside, 0)
        whole = np.flatnonzero(~is_element)
        found = [(row, unfit.get(line)) for row, line in zip(whole.tolist(), rows.lines[whole].tolist(), strict=True)]
        is_last, done = rows.is_last, max(int(rows.places[-1]), 0) if len(rows.places) else 0
        places = Places(
            offsets,
            # In a chunk without line breaks, a place is not that in the input.
            stop=chunk.stop if is_last else chunk.offset + done * (chunk.stop - chunk.offset) // len(chunk.data),
            unfit=tuple(one._replace(row=row) for row, one in found if one is not None),
            after=chunk.after if is_last else 0,
            lines=rows.lines,
            elements=rows.elements,
            lines_read=len(decoded.offsets) if is_last else 0,
            is_last=is_last,
        )
        return Chunk(rows.data, chunk.offset, places)

    def _without_array(self, decoded: Decoded, line: int) -> UnfitRow:
        """Return what a line becomes that does not have the array."""
        raw = decoded.line(line)
        texts = decoded.texts(self._path, np.array([line]))
        starts, _ = decoded.places(self._path)
        kind = f"there is no member `{self._shown}`, whose elements are the rows"
        if starts[line] != MISSING:
            kind = f"`{self._shown}` is no array, whose elements are the rows: found {kind_of(texts[0])}"
        return UnfitRow(0, kind, kind, raw)
