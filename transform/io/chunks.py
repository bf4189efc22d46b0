r"""Cuts an input into chunks of whole lines.

A line ends with `\n` or with the input. `read_chunks` fills one buffer again and again, because the page faults of a
fresh buffer cost as much as finding the line ends. A chunk is a view of that buffer, so it is valid only until the next
chunk is requested. The lines are the same however the bytes are cut into chunks.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from transform.errors import InputError
from transform.io.object_checksum import checksums_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK_BYTES = 4 << 20
CHUNK_LINES = 32 << 10  # maximum lines of a chunk of CHUNK_BYTES: a line takes hundreds of bytes of memory if rejected
_SLACK = 64  # after the end of a buffer, so that the kernel reads it in place
_SAMPLES, _SAMPLE_BYTES = 8, 4 << 10  # of a buffer, to find out whether its lines are short
MAX_LINE_BYTES = 256 << 20
LONG_LINE_HEAD_BYTES = 64 << 10
BOM = b"\xef\xbb\xbf"
_START_BYTES = 64  # of an input, by which its encoding is known
_WIDE_BOMS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# Without a byte order mark: white space, then a bracket and another character of JSON, each with its NUL bytes.
_WIDE_STARTS = {
    "UTF-16LE": re.compile(rb"(?:[ \t\r\n]\0)*[{\[]\0[\t\r\n -~]\0"),
    "UTF-16BE": re.compile(rb"(?:\0[ \t\r\n])*\0[{\[]\0[\t\r\n -~]"),
    "UTF-32LE": re.compile(rb"(?:[ \t\r\n]\0\0\0)*[{\[]\0\0\0[\t\r\n -~]\0\0\0"),
    "UTF-32BE": re.compile(rb"(?:\0\0\0[ \t\r\n])*\0\0\0[{\[]\0\0\0[\t\r\n -~]"),
}

ReadInto = Callable[[memoryview], int]
"""Fills a part of a view; returns the number of bytes, 0 at the end."""


class UnfitRow(NamedTuple):
    """What is in the place of a row, and will be rejected.

    Attributes:
        row: Its index in the chunk, where there is a line that is no JSON.
        kind: The reason without values of the row.
        reason: The full reason.
        raw: Its bytes in the input; of a long one, only the first.
        length: The length of one of which `raw` is only a part.
    """

    row: int
    kind: str
    reason: str
    raw: bytes
    length: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the rows of a chunk come from, if its lines are not those of the input.

    Attributes:
        offsets: Where each row starts in the input.
        stop: Where the next one is looked for.
        unfit: What is no row.
        after: How to go on at `stop`, for the reader that has found the rows.
        checksums: The checksums of all bytes of the input up to `stop`, by algorithm; None if not needed.
        lines: If rows are elements of arrays: by row, the index of its line in the chunk of lines.
        elements: If rows are elements, the number of each, from 1; 0 for a line that is rejected as a whole.
        lines_read: If rows are elements: of the last rows of a chunk of lines, how many lines that has; of others, 0.
        is_last: Whether these are all rows up to `stop`. Otherwise, they are some of the elements in a chunk of lines,
            and `stop` says about where in it these end.
    """

    offsets: "npt.NDArray[np.int64]"
    stop: int
    unfit: tuple[UnfitRow, ...] = ()
    after: int = 0
    checksums: Mapping[str, int] | None = None
    lines: "npt.NDArray[np.int64] | None" = None
    elements: "npt.NDArray[np.int64] | None" = None
    lines_read: int = 0
    is_last: bool = True

    def first(self, rows: int) -> "Places":
        """Return the places of the first rows."""
        return replace(
            self,
            offsets=self.offsets[:rows],
            unfit=tuple(one for one in self.unfit if one.row < rows),
            lines=None if self.lines is None else self.lines[:rows],
            elements=None if self.elements is None else self.elements[:rows],
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    r"""Whole lines, each with its `\n`; only the last line of the input may lack it.

    Attributes:
        data: The bytes; valid until the next chunk is requested.
        offset: Offset of `data` in the input, in bytes after decompression.
        places: Where the lines come from, if they are rows that were found in other bytes.
    """

    data: memoryview
    offset: int
    places: Places | None = None

    @property
    def stop(self) -> int:
        """Offset of the next line."""
        return self.places.stop if self.places is not None else self.offset + len(self.data)

    @property
    def after(self) -> int:
        """How to go on at `stop`, as in `Places`."""
        return self.places.after if self.places is not None else 0


@dataclass(frozen=True, slots=True)
class LongLine:
    r"""A line over the limit, of which only the head is kept.

    Attributes:
        head: Its first `LONG_LINE_HEAD_BYTES` bytes.
        length: Its length in bytes, without its `\n`.
        offset: Offset of the line in the input, in bytes after decompression.
        stop: Offset of the next line.
        checksums: The checksums of all its bytes up to the next line, by algorithm.
    """

    head: bytes
    length: int
    offset: int
    stop: int
    checksums: Mapping[str, int] = field(default_factory=dict, compare=False)


def new_buffer(size: int) -> memoryview:
    """Return a buffer with room after it that may be read."""
    return memoryview(bytearray(size + _SLACK))[:size]


def copy_chunk(chunk: Chunk | LongLine) -> Chunk | LongLine:
    """Return a copy of a chunk, which stays valid."""
    if isinstance(chunk, LongLine):
        return chunk
    data = new_buffer(len(chunk.data))
    data[:] = chunk.data
    return replace(chunk, data=data)


def read_chunks(
    read_into: ReadInto,
    chunk_bytes: int = CHUNK_BYTES,
    max_line_bytes: int = MAX_LINE_BYTES,
    start: int = 0,
    *,
    only_blank: bool = False,
    buffer: memoryview | None = None,
) -> Iterator[Chunk | LongLine]:
    """Yield an input as chunks of lines, in order, without the BOM at its very start; see `ChunkReader`."""
    return iter(ChunkReader(read_into, chunk_bytes, max_line_bytes, start, only_blank=only_blank, buffer=buffer))


class ChunkReader:
    r"""Iterates over the lines of an input in chunks, in order; leaves out a BOM at the very start.

    Args:
        read_into: Reads the input.
        chunk_bytes: Number of bytes to read at a time; a longer line makes its own chunk larger.
        max_line_bytes: A line longer than this (without its `\n`) may come as a `LongLine`.
        start: Offset of the first byte that `read_into` returns. A BOM is possible only at 0.
        only_blank: Whether the input holds only white space before `start`, so that an array may still begin.
        buffer: One that `new_buffer` made, to be used if its size is right: a new one takes a tenth of the time.

    Raises:
        InputError: While iterating: the input starts with `[`, so it is a JSON array and not JSON lines, or it is text
            in UTF-16 or UTF-32.

    Example:
        >>> import io
        >>> [bytes(chunk.data) for chunk in ChunkReader(io.BytesIO(b"{}\n[]\n{").readinto, chunk_bytes=4)]
        [b'{}\n', b'[]\n', b'{']
    """

    def __init__(
        self,
        read_into: ReadInto,
        chunk_bytes: int = CHUNK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
        start: int = 0,
        *,
        only_blank: bool = False,
        buffer: memoryview | None = None,
    ) -> None:
        self._read_into = read_into
        self._chunk_bytes = chunk_bytes
        self._max_line_bytes = max_line_bytes
        self._buffer = memoryview(bytearray()) if buffer is None else buffer
        self._filled = 0  # bytes of the buffer that hold input
        self._carry = self._buffer[:0]  # the start of a line whose end has not been read yet
        self._searched = 0  # there is no line end in carry[:searched]
        self._offset = start  # of the carry, which becomes the start of the buffer
        self._next_bytes = chunk_bytes  # size of the buffer for the next read
        self._may_be_array = start == 0 or only_blank
        self._at_end = False

    def __iter__(self) -> Iterator[Chunk | LongLine]:
        if self._offset == 0:
            self._offset, self._read_into = skip_bom(self._read_into)
        while not self._at_end:
            self._fill_buffer()
            stop = self._filled if self._at_end else self._last_line_end()
            if stop:
                start = 0
                for end in _cut_long_lines(self._buffer, stop, self._chunk_bytes):
                    yield from _split_short_lines(self._buffer[start:end], self._offset + start)
                    start = end
                self._keep_rest(stop)
            elif self._filled > self._max_line_bytes + 1:
                yield self._skip_line()
            else:
                self._read_more()

    def _fill_buffer(self) -> None:
        """Put the carry at the start of the buffer, and fill the rest of it."""
        carried = len(self._carry)
        size = max(self._next_bytes, carried + 1)
        buffer = self._buffer if size == len(self._buffer) else new_buffer(size)
        buffer[:carried] = self._carry
        self._buffer = buffer
        self._filled = carried + fill(self._read_into, buffer[carried:])
        self._at_end = self._filled < size
        self._check_array(self._filled)

    def _last_line_end(self) -> int:
        """Return where the last whole line of the buffer ends, 0 without one."""
        return cast("bytearray", self._buffer.obj).rfind(b"\n", self._searched, self._filled) + 1

    def _keep_rest(self, stop: int) -> None:
        """Carry what follows the whole lines; the buffer that a long line needed is not kept."""
        self._carry = self._buffer[stop : self._filled]
        self._searched = len(self._carry)
        self._offset += stop
        self._next_bytes = max(self._chunk_bytes, 2 * self._searched)

    def _read_more(self) -> None:
        """Carry the whole buffer, which does not hold the end of its line, into a larger one."""
        self._carry = self._buffer[: self._filled]
        self._searched = self._filled
        self._next_bytes = max(min(2 * len(self._buffer), self._max_line_bytes + 2), self._filled + 1)

    def _skip_line(self) -> LongLine:
        """Read to the end of the line that fills the buffer, and carry what was read of the next line."""
        head, length = bytes(self._buffer[: min(self._filled, LONG_LINE_HEAD_BYTES)]), self._filled
        checksums = checksums_of(self._buffer[: self._filled])
        while True:
            count = fill(self._read_into, self._buffer)
            self._check_array(count)
            end = self._first_line_end(count)
            head += bytes(self._buffer[: max(min(end, LONG_LINE_HEAD_BYTES - len(head)), 0)])
            length += end
            checksums = checksums_of(self._buffer[: min(end + 1, count)], checksums)  # with the line end
            if end < count or not count:
                break
        line_end = 1 if end < count else 0  # the last line of the input may have none
        stop = self._offset + length + line_end
        line = LongLine(head, length, self._offset, stop, checksums)
        self._carry = self._buffer[end + line_end : count]
        self._searched, self._offset, self._next_bytes = 0, stop, self._chunk_bytes
        return line

    def _first_line_end(self, count: int) -> int:
        """Return where the first line ends within the first `count` bytes of the buffer, `count` if it does not."""
        end = cast("bytearray", self._buffer.obj).find(b"\n", 0, count)
        return count if end < 0 else end

    def _check_array(self, count: int) -> None:
        """Raise if the input, of which all but the first `count` bytes of the buffer is blank, is a JSON array."""
        if self._may_be_array:
            self._may_be_array = _refuse_array(self._buffer[:count])


def skip_bom(read_into: ReadInto) -> tuple[int, ReadInto]:
    """Return where an input starts after its BOM, if it has one, and a function that reads it from there on.

    Raises:
        InputError: The first bytes show that it is not UTF-8.
    """
    start = memoryview(bytearray(_START_BYTES))
    start = start[: fill(read_into, start)]
    _refuse_wide(bytes(start))
    offset = len(BOM) if start[: len(BOM)] == BOM else 0
    return offset, put_back(start[offset:], read_into)


def fill(read_into: ReadInto, view: memoryview) -> int:
    """Read until a view is full or the input ends; return the number of bytes."""
    filled = 0
    while filled < len(view) and (count := read_into(view[filled:])):
        filled += count
    return filled


def put_back(start: memoryview, read_into: ReadInto) -> ReadInto:
    """Return a function that reads bytes that were read already, and then the rest."""

    def read(view: memoryview) -> int:
        nonlocal start
        if not start:
            return read_into(view)
        count = min(len(start), len(view))
        view[:count] = start[:count]
        start = start[count:]
        return count

    return read


def _cut_long_lines(buffer: memoryview, stop: int, chunk_bytes: int) -> Iterator[int]:
    """Yield where to cut lines into chunks, so that a chunk is at most about `chunk_bytes` long, or a single line.

    A buffer is longer than that if a line is; then it holds other lines too, which may be many.
    """
    data, start = cast("bytearray", buffer.obj), 0
    while stop - start > chunk_bytes:
        end = data.rfind(b"\n", start, start + chunk_bytes) + 1 or data.find(b"\n", start + chunk_bytes, stop) + 1
        if not end:
            break
        yield end
        start = end
    if start < stop:
        yield stop


def _split_short_lines(buffer: memoryview, offset: int) -> Iterator[Chunk]:
    """Yield the lines as one chunk, or as several if they are so short that one would hold too many of them.

    Counting all line ends would take a tenth of the time of everything else, so only samples are looked at first.
    """
    start, stop = 0, len(buffer)
    max_line_ends = _SAMPLE_BYTES * CHUNK_LINES // CHUNK_BYTES
    for sample in range(0, stop, max(stop // _SAMPLES, 1)):
        if bytes(buffer[sample : sample + _SAMPLE_BYTES]).count(b"\n") > max_line_ends:
            import numpy as np  # noqa: PLC0415 - its import takes longer than everything else that the command needs

            ends = np.flatnonzero(np.frombuffer(buffer, np.uint8) == ord("\n"))[CHUNK_LINES - 1 :: CHUNK_LINES]
            for end in ends:
                yield Chunk(buffer[start : end + 1], offset + start)
                start = int(end) + 1
            break
    if start < stop:
        yield Chunk(buffer[start:stop], offset + start)


def _refuse_array(data: memoryview) -> bool:
    """Raise if the input starts as a JSON array; return whether it still may, because all of it so far is blank."""
    text = _first_text(data)
    if text.startswith(b"["):
        raise InputError(
            "the input starts with `[`: that is a JSON array, not JSON lines (one object per line). "
            "Its elements are rows with --format json, or .with_format('json') in Python"
        )
    return not text


def is_blank(data: memoryview) -> bool:
    """Return whether bytes are white space."""
    return not _first_text(data)


def _first_text(data: memoryview) -> bytes:
    """Return some bytes, from the first that is not white space; empty if all are."""
    texts = (bytes(data[start : start + 4096]).lstrip(b" \t\r\n") for start in range(0, len(data), 4096))
    return next(filter(None, texts), b"")


def _refuse_wide(start: bytes) -> None:
    """Raise if an input that starts like this is text in UTF-16 or UTF-32."""
    by_mark = (encoding for mark, encoding in _WIDE_BOMS.items() if start.startswith(mark))
    by_text = (encoding for encoding, pattern in _WIDE_STARTS.items() if pattern.match(start))
    encoding = next(by_mark, None) or next(by_text, None)
    if encoding is not None:
        raise InputError(
            f"the input is text in {encoding}, and JSON lines are in UTF-8. "
            f"Convert it first, for example with: iconv -f {encoding} -t UTF-8"
        )
