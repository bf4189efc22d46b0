"""The result of a chunk, and the rejected lines in it.

`ChunkResult` is what a plan returns for a chunk, and what is sent between processes. `to_json_blocks` formats rejected
lines as they are kept in a file of rejects.
"""

import base64
import codecs
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from transform.io.chunks import LONG_LINE_HEAD_BYTES
from transform.io.object_checksum import PieceChecksum

_BLOCK_BYTES = 192 << 10  # a multiple of 3, as base64 has no padding then
_SHORT_BYTES = _BLOCK_BYTES // 3  # so short that it is never kept in base64, whatever its characters
_JSON_BLOCK_BYTES = 1 << 20  # of short lines that are formatted together
_MAX_ESCAPED = 2  # a line that takes more times its size as a string of JSON is kept in base64: quotes take two


class Reject(msgspec.Struct, frozen=True, gc=False):
    r"""A rejected line.

    Attributes:
        line: Its index in the chunk.
        offset: Where it starts in the input.
        kind: The reason without values of the line, so that equal reasons can be counted.
        reason: The full reason.
        raw: Its bytes without `\n`; of a line over the limit, the first `LONG_LINE_HEAD_BYTES`.
        length: The length of a line over the limit; otherwise None.
    """

    line: int
    offset: int
    kind: str
    reason: str
    raw: bytes
    length: int | None = None


def reject_long(line: int, offset: int, head: bytes, length: int, max_line_bytes: int) -> Reject:
    """Return the reject of a line over the limit."""
    kind = f"longer than {max_line_bytes} bytes"
    return Reject(line, offset, kind, f"{kind}: {length} bytes", head[:LONG_LINE_HEAD_BYTES], length)


class _Record(msgspec.Struct, omit_defaults=True, gc=False):
    """A short rejected line, as it is kept; msgspec writes bytes in base64."""

    offset: int
    line: int
    reason: str
    raw: str | None = None
    raw_base64: bytes | None = None
    truncated: bool = False
    length: int | None = None


_ENCODER = msgspec.json.Encoder()


def to_json_blocks(rejects: Iterable[Reject], first_line: int) -> Iterator[bytes]:
    """Yield rejects as lines of JSON, many short ones at a time.

    Args:
        rejects: The rejected lines of a chunk.
        first_line: The number of the chunk's first line in the input, from 1 on.
    """
    records, size = list[_Record](), 0
    for reject in rejects:
        raw, length = reject.raw, reject.length
        if len(raw) <= _SHORT_BYTES:
            try:
                record = _Record(reject.offset, first_line + reject.line, reject.reason, raw.decode())
            except UnicodeDecodeError:
                record = _Record(reject.offset, first_line + reject.line, reject.reason, None, raw)
            if length is not None and length > len(raw):
                record.truncated, record.length = True, length
            records.append(record)
            size += len(raw)
            if size < _JSON_BLOCK_BYTES:
                continue
        if records:
            yield _ENCODER.encode_lines(records)
            records, size = [], 0
        if len(raw) > _SHORT_BYTES:
            yield _long_to_json(reject, first_line + reject.line)
    if records:
        yield _ENCODER.encode_lines(records)


def _long_to_json(reject: Reject, line: int) -> bytes:
    """Return a reject as a line of JSON.

    The text is made in blocks, because a line may be long. A control character takes six bytes in a string of JSON, so
    a line of many of them is kept in base64 too.
    """
    start = msgspec.json.encode({"offset": reject.offset, "line": line, "reason": reject.reason})[:-1]
    text = io.BytesIO()
    text.write(start)
    if not _write_text(text, reject.raw):
        text.seek(len(start))
        text.truncate()
        text.write(b',"raw_base64":"')
        for at in range(0, len(reject.raw), _BLOCK_BYTES):
            text.write(base64.b64encode(reject.raw[at : at + _BLOCK_BYTES]))
        text.write(b'"')
    if reject.length is not None and reject.length > len(reject.raw):
        text.write(b',"truncated":true,"length":%d' % reject.length)
    text.write(b"}\n")
    return text.getvalue()


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
    """The output of a chunk, its rejected lines, and counts.

    Attributes:
        output: Bytes to be written one after the other; valid as long as the chunk is.
        rejects: The rejected lines, in order.
        lines: How many lines the chunk has.
        kept: How many of these are in the output.
        filtered: How many of these the filters dropped.
        blank: How many of these are blank.
        nonfinite: How many NaN and infinite numbers were written as null, by result.
        inexact: How many integers beyond 2^53 were read as floats, by column.
        stop: Where the chunk ends in the input.
        seen: Names to drop or select that a line which is kept has.
        near: By name to drop or select that no such line has, the nearest names of members near the input's start.
        checksum: The checksum of the chunk's bytes, None if nobody needs it.
    """

    output: Sequence[memoryview]
    rejects: Sequence[Reject]
    lines: int
    kept: int
    filtered: int
    blank: int
    nonfinite: dict[str, int]
    stop: int
    inexact: dict[str, int] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checksum: PieceChecksum | None = None
