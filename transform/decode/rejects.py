"""The result of a chunk, and the rejected lines in it.

`ChunkResult` is what a plan makes of a chunk, or of a part of it, and what is sent between processes. Its `Rejects` are
columns, and formatted already as they are kept in a file of rejects, except for the numbers of lines: those are known
when it is the chunk's turn.
"""

import base64
import codecs
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, overload

import msgspec
import numpy as np

from transform.io.chunks import LONG_LINE_HEAD_BYTES, LongLine, Places, UnfitRow
from transform.io.object_checksum import PieceChecksum
from transform.native.binding import Bytes, Positions, number_rejects
from transform.native.wanted import SLACK

_BLOCK_BYTES = 192 << 10  # a multiple of 3, as base64 has no padding then
SHORT_BYTES = _BLOCK_BYTES // 3
"""The most that a line has which is never kept in base64, whatever its characters."""
_JSON_BLOCK_BYTES = 1 << 20  # of short lines that are formatted together
_TRUNCATED = b',"truncated":true,"length":'  # near the end of a record; in a text, quotes are escaped
_END_BYTES = 64
_MAX_ESCAPED = 2  # a line that takes more times its size as a string of JSON is kept in base64: quotes take two


class Reject(msgspec.Struct, frozen=True, gc=False):
    r"""A rejected line.

    Attributes:
        line: Its index in the chunk.
        offset: Where it starts in the input.
        kind: The reason without values of the line, so that equal reasons can be counted.
        reason: The full reason.
        raw: Its bytes without `\n`; of a line over the limit, the first `LONG_LINE_HEAD_BYTES`.
        length: The length of a line of which `raw` is only a part; otherwise None.
        element: If it is an element of an array in the line: its number, from 1 on.
    """

    line: int
    offset: int
    kind: str
    reason: str
    raw: bytes
    length: int | None = None
    element: int | None = None


def reject_long(line: int, offset: int, head: bytes, length: int, max_line_bytes: int) -> Reject:
    """Return the reject of a line over the limit."""
    kind, head = f"longer than {max_line_bytes} bytes", head[:LONG_LINE_HEAD_BYTES]
    return Reject(line, offset, kind, f"{kind}: {length} bytes", head, length if length > len(head) else None)


class _Text(msgspec.Struct, omit_defaults=True, gc=False):
    """What is kept of a rejected line, without where it is; msgspec writes bytes in base64."""

    reason: str
    raw: str | None = None
    raw_base64: bytes | None = None
    truncated: bool = False
    length: int | None = None
    element: int | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Text)


@dataclass(frozen=True, slots=True, eq=False)
class Rejects(Sequence[Reject]):
    """Rejected lines of a chunk, in order.

    Attributes:
        lines: The index of each in the chunk.
        offsets: Where it starts in the input.
        names: The kinds of reasons.
        kinds: By line, the number of its kind.
        texts: The ends of the records of the lines, from the comma after the line's number on, with `SLACK` behind.
        starts: Where the text of each line starts.
        stops: Where it ends.
    """

    lines: Positions
    offsets: Positions
    names: Sequence[str]
    kinds: Positions
    texts: Bytes
    starts: Positions
    stops: Positions

    @classmethod
    def of(cls, rejects: Iterable[Reject]) -> Self:
        """Return lines as a sequence."""
        rejects, names, text, bounds = list(rejects), dict[str, int](), io.BytesIO(), [0]
        kinds = [names.setdefault(reject.kind, len(names)) for reject in rejects]
        for reject in rejects:
            _write(text, reject)
            bounds.append(text.tell())
        text.write(bytes(SLACK))
        lines, offsets = ([getattr(reject, name) for reject in rejects] for name in ("line", "offset"))
        columns = (np.array(column, np.int64) for column in (lines, offsets, kinds, bounds[:-1], bounds[1:]))
        lines_, offsets_, kinds_, starts, stops = columns
        return cls(lines_, offsets_, tuple(names), kinds_, np.frombuffer(text.getbuffer(), np.uint8), starts, stops)

    def merged(self, other: "Rejects") -> "Rejects":
        """Return these lines and others of the same chunk, in order."""
        if not len(other) or not len(self):
            return self if len(self) else other
        names = {name: number for number, name in enumerate(dict.fromkeys((*self.names, *other.names)))}
        kinds = [np.array([names[name] for name in one.names])[one.kinds] for one in (self, other)]
        size = len(self.texts)
        pairs = (
            (self.lines, other.lines),
            (self.offsets, other.offsets),
            kinds,
            (self.starts, other.starts + size),
            (self.stops, other.stops + size),
        )
        order = np.argsort(np.concatenate(pairs[0]), kind="stable")
        lines, offsets, kind, starts, stops = (np.concatenate(pair)[order] for pair in pairs)
        return Rejects(lines, offsets, tuple(names), kind, np.concatenate((self.texts, other.texts)), starts, stops)

    def replaced(self, unfit: Sequence[UnfitRow], offsets: Positions) -> "Rejects":
        """Return these lines, with the reasons and bytes of rows that are unfit; these lines are among them.

        Args:
            unfit: The rows.
            offsets: Where each line of the chunk starts in the input.
        """
        others = self[np.flatnonzero(~np.isin(self.lines, [one.row for one in unfit]))]
        rows = (Reject(one.row, int(offsets[one.row]), one.kind, one.reason, one.raw, one.length) for one in unfit)
        return others.merged(Rejects.of(rows))

    def placed(self, places: Places) -> "Rejects":
        """Return these rows of a chunk with the lines that they come from, and the numbers of their elements."""
        if places.lines is None or places.elements is None or not len(self):
            return self
        text, bounds = io.BytesIO(), [0]
        elements = places.elements[self.lines].tolist()
        for element, start, stop in zip(elements, self.starts.tolist(), self.stops.tolist(), strict=True):
            if element:
                text.write(b',"element":%d' % element)
            text.write(self.texts[start:stop].data)
            bounds.append(text.tell())
        text.write(bytes(SLACK))
        starts, stops = np.array(bounds[:-1], np.int64), np.array(bounds[1:], np.int64)
        texts = np.frombuffer(text.getbuffer(), np.uint8)
        return Rejects(places.lines[self.lines], self.offsets, self.names, self.kinds, texts, starts, stops)

    def by_kind(self) -> Iterator[tuple[str, int, int]]:
        """Yield each kind with its number of lines and the first one's offset, in the order of these."""
        kinds, first, counts = np.unique(self.kinds, return_index=True, return_counts=True)
        for place in np.argsort(first).tolist():
            yield self.names[kinds[place]], int(counts[place]), int(self.offsets[first[place]])

    @property
    def truncated(self) -> int:
        """How many of the lines are kept only in part."""
        ends = self.stops[self.stops - self.starts > LONG_LINE_HEAD_BYTES].tolist()  # no others are kept in part
        return sum(_TRUNCATED in self.texts[end - _END_BYTES : end].tobytes() for end in ends)

    def to_json_blocks(self, first_line: int) -> Iterator[bytes]:
        """Yield the lines as lines of JSON, many short ones at a time.

        Args:
            first_line: The number of the chunk's first line in the input, from 1 on.
        """
        sizes = np.cumsum(self.stops - self.starts)
        start = 0
        while start < len(self):
            done = sizes[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(sizes, done + _JSON_BLOCK_BYTES, "right")))
            block = self[start:stop]
            places = (block.texts, block.starts, block.stops, block.offsets, block.lines)
            yield number_rejects(*places, first_line).tobytes()
            start = stop

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Reject: ...

    @overload
    def __getitem__(self, index: slice | Positions) -> "Rejects": ...

    def __getitem__(self, index: int | slice | Positions) -> "Reject | Rejects":
        if isinstance(index, slice | np.ndarray):
            columns = (self.lines, self.offsets, self.kinds, self.starts, self.stops)
            lines, offsets, kinds, starts, stops = (np.ascontiguousarray(column[index]) for column in columns)
            return Rejects(lines, offsets, self.names, kinds, self.texts, starts, stops)
        text = _DECODER.decode(b"{" + bytes(self.texts[self.starts[index] + 1 : self.stops[index]]))
        raw = text.raw_base64 if text.raw is None else text.raw.encode()
        assert raw is not None  # noqa: S101 - a record has one of the two
        line, offset, name = int(self.lines[index]), int(self.offsets[index]), self.names[self.kinds[index]]
        return Reject(line, offset, name, text.reason, raw, text.length, text.element)


NO_REJECTS = Rejects.of(())


def _write(text: io.BytesIO, reject: Reject) -> None:
    """Write the end of a record."""
    raw, length = reject.raw, reject.length
    if len(raw) > SHORT_BYTES:
        _write_long(text, reject)
        return
    try:
        record = _Text(reject.reason, raw.decode())
    except UnicodeDecodeError:
        record = _Text(reject.reason, None, raw)
    if length is not None:
        record.truncated, record.length = True, length
    text.write(b",")
    text.write(memoryview(_ENCODER.encode(record))[1:])
    text.write(b"\n")


def _write_long(text: io.BytesIO, reject: Reject) -> None:
    """Write the end of the record of a long line.

    The text is made in blocks. A control character takes six bytes in a string of JSON, so a line of many of them is
    kept in base64 too.
    """
    text.write(b',"reason":')
    text.write(_ENCODER.encode(reject.reason))
    start = text.tell()
    if not _write_text(text, reject.raw):
        text.seek(start)
        text.truncate()
        text.write(b',"raw_base64":"')
        for at in range(0, len(reject.raw), _BLOCK_BYTES):
            text.write(base64.b64encode(reject.raw[at : at + _BLOCK_BYTES]))
        text.write(b'"')
    if reject.length is not None:
        text.write(b',"truncated":true,"length":%d' % reject.length)
    text.write(b"}\n")


def _write_text(text: io.BytesIO, raw: bytes) -> bool:
    """Write bytes as a member `raw`; return False, and leave it incomplete, if base64 suits them better."""
    text.write(b',"raw":"')
    limit = text.tell() + _MAX_ESCAPED * max(len(raw), _BLOCK_BYTES)
    view, at = memoryview(raw), 0
    while at < len(raw):
        block = view[at : at + _BLOCK_BYTES]
        try:
            characters, taken = codecs.utf_8_decode(block, "strict", at + len(block) == len(raw))
        except UnicodeDecodeError:
            return False
        text.write(msgspec.json.encode(characters)[1:-1])
        at += taken
        if text.tell() > limit:
            return False
    text.write(b'"')
    return True


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The output of a chunk, its rejected lines, and counts; or of some of the elements in a chunk of lines.

    Attributes:
        output: Bytes to be written one after the other; valid as long as the chunk is.
        rejects: The rejected lines, in order.
        lines: How many lines the chunk has.
        kept: How many of these are in the output.
        filtered: How many of these the filters dropped.
        blank: How many of these are blank.
        nonfinite: How many NaN and infinite numbers were written as null, by result.
        inexact: How many integers beyond 2^53 were read as floats, by column.
        stop: Where the chunk ends in the input; of some of its elements, about where these end.
        after: How to go on there, as in `Places`.
        seen: Names to drop or select that a line which is kept has.
        near: By name to drop or select that no such line has, the nearest names of members near the input's start.
        checksum: The checksum of the chunk's bytes, None if not needed.
        lines_read: How many lines were read, None if it is `lines`.
        is_last: Whether a run can be resumed after it, as nothing more comes of the chunk.
    """

    output: Sequence[memoryview]
    rejects: Rejects
    lines: int
    kept: int
    filtered: int
    blank: int
    nonfinite: dict[str, int]
    stop: int
    after: int = 0
    inexact: dict[str, int] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checksum: PieceChecksum | None = None
    lines_read: int | None = None
    is_last: bool = True

    @property
    def size(self) -> int:
        """The number of bytes of the output and of the rejected lines."""
        return sum(map(len, self.output)) + len(self.rejects.texts)

    @classmethod
    def of_long_line(cls, line: LongLine, max_line_bytes: int) -> Self:
        """Return the result of a line over the limit, which is rejected."""
        reject = reject_long(0, line.offset, line.head, line.length, max_line_bytes)
        return cls((), Rejects.of((reject,)), 1, 0, 0, 0, {}, line.stop)

    def placed(self, places: Places | None) -> "ChunkResult":
        """Return the result of a chunk of rows that have places."""
        if places is None or places.lines is None:
            return self
        rejects = self.rejects.placed(places)
        return replace(self, rejects=rejects, lines_read=places.lines_read, is_last=places.is_last)
