"""The result of a chunk, and the rejected lines in it.

`ChunkResult` is what a plan returns for a chunk, and what is sent between processes. `to_json_line` formats a rejected
line as it is kept in a file of rejects.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from transform.io.chunks import LONG_LINE_HEAD_BYTES


@dataclass(frozen=True, slots=True)
class Reject:
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


def to_json_line(reject: Reject, line: int) -> bytes:
    """Return a reject as a line of JSON; `line` is its number in the input, from 1 on."""
    kept: dict[str, object] = {"offset": reject.offset, "line": line, "reason": reject.reason}
    try:
        kept["raw"] = reject.raw.decode()
    except UnicodeDecodeError:
        kept["raw_base64"] = base64.b64encode(reject.raw).decode()
    if reject.length is not None and reject.length > len(reject.raw):
        kept |= {"truncated": True, "length": reject.length}
    return msgspec.json.encode(kept) + b"\n"


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
        stop: Where the chunk ends in the input.
        seen: Names to drop or select that a line which is kept has.
        near: By name to drop or select that no such line has, the nearest names of members near the input's start.
    """

    output: Sequence[memoryview]
    rejects: Sequence[Reject]
    lines: int
    kept: int
    filtered: int
    blank: int
    nonfinite: dict[str, int]
    stop: int
    seen: frozenset[str] = frozenset()
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
