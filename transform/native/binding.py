"""The functions of the compiled kernel, with numpy arrays for buffers.

`scan` finds the lines of a chunk and the members that a calculation needs, `strings` reads text, `texts` gathers the
bytes of values, `hashes` computes hashes, `emit` writes the output, `find_faults` says what is wrong with lines, and
`write_rejects` and `number_rejects` write the records of those that are rejected. The library has the functions once
for each level of the processor; `TRANSFORM_CPU` forces one.
"""

import ctypes
import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transform.native.library import LIBRARY, load_library
from transform.native.wanted import SLACK, Wanted, WantedStructure, Way

Positions = npt.NDArray[np.int64]
Spans = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]

MISSING = 2**32 - 1
"""The start of a value that is not there."""
MAX_CHUNK_BYTES = 2**32 - 2**20
_RECORD_START_BYTES = len('{"offset":,"line":') + 2 * 20  # at most, of the record of a rejected line


class Status(enum.IntEnum):
    """What a line is; in a slow one something must be looked at by `LineDecoder`."""

    OK = 0
    BLANK = 1
    BAD = 2
    SLOW = 3


class Fault(enum.IntEnum):
    """What is wrong with a line, or `NONE`; `UNSURE` if `LineDecoder` has to say, as it has of all lone surrogates."""

    NONE = 0
    UNSURE = 255
    NOT_UTF8 = 1
    IS_ARRAY = 2
    IS_STRING = 3
    TRUNCATED = 4
    TRAILING = 5
    CHARACTER = 6
    UNICODE_ESCAPE = 7
    ESCAPE_IN_NAME = 8
    ESCAPE = 9
    COMMA_IN_ARRAY = 10
    COMMA_IN_OBJECT = 11
    LAST_IN_ARRAY = 12
    LAST_IN_OBJECT = 13
    KEY = 14
    INNER_KEY = 15
    COLON = 16
    NUMBER = 17
    IS_INTEGER = 18


class Kind(enum.IntEnum):
    """How the values of a result are given: as text, as numbers, or as members that are results as they are."""

    TEXT = 0
    INT64 = 1
    FLOAT64 = 2
    MEMBER = 3


class _Found(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bounds", "stops", "status", "closes", "empty", "starts", "ends")),
        *((name, ctypes.c_void_p) for name in ("values", "valid", "listed", "cuts", "cut_bounds")),
        ("lines", ctypes.c_int64),
        ("max_cuts", ctypes.c_int64),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("prefix", ctypes.c_void_p),
        ("prefix_size", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("values", "offsets", "valid", "starts", "ends")),
        *((name, ctypes.c_void_p) for name in ("target_starts", "target_ends")),
    )


class _Wording(ctypes.Structure):
    _fields_ = (
        ("before", ctypes.c_void_p),
        ("after", ctypes.c_void_p),
        ("before_size", ctypes.c_int64),
        ("after_size", ctypes.c_int64),
        ("binary", ctypes.c_bool),
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """The functions of a library for one level of the processor."""

    level: str
    count_lines: Any
    scan: Any
    strings: Any
    emit: Any
    find_faults: Any
    write_rejects: Any
    number_rejects: Any
    texts: Any
    hashes: Any
    find_rows: Any
    write_rows: Any
    write_elements: Any


def load(path: Path = LIBRARY, level: str | None = None) -> Kernel:
    """Load a library, and choose its functions for this processor.

    Args:
        path: The library.
        level: The level that is forced, by default the one in `TRANSFORM_CPU`; if empty, the highest one is taken.

    Raises:
        TransformError: The library is not there, or has no functions for the level that is forced.
    """
    library, level = load_library(path, level)

    def function(name: str, *types: Any) -> Any:
        found = getattr(library, f"{name}_{level}")
        found.argtypes, found.restype = types, ctypes.c_int64
        return found

    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    return Kernel(
        level,
        function("count_lines", pointer, integer),
        function("scan", pointer, integer, ctypes.POINTER(WantedStructure), ctypes.POINTER(_Found), pointer),
        function("strings", pointer, pointer, pointer, integer, pointer, pointer),
        function("emit", *(pointer,) * 7, integer, ctypes.POINTER(_Result), ctypes.c_int32, pointer, pointer),
        function("find_faults", pointer, pointer, pointer, integer, pointer, pointer),
        function("write_rejects", *(pointer,) * 6, integer, ctypes.POINTER(_Wording), integer, pointer, pointer),
        function("number_rejects", *(pointer,) * 5, integer, integer, pointer),
        function("texts", pointer, pointer, pointer, integer, pointer, pointer),
        function("hashes", pointer, pointer, pointer, integer, pointer, integer, pointer),
        function("find_rows", pointer, pointer, integer, integer, pointer),
        function("write_rows", pointer, pointer, pointer),
        function("write_elements", pointer, pointer, pointer, pointer),
    )


@functools.cache
def default_kernel() -> Kernel:
    """Return the functions for this processor."""
    return load()


def cpu_level() -> str:
    """Return the level of the processor for which the kernel works: v4, v3 or v1 of x86-64, or neon."""
    return default_kernel().level


def _pointer(array: Any) -> int | None:
    return None if array is None else array.ctypes.data


@dataclass(frozen=True, slots=True)
class Scan:
    r"""The lines of a chunk, and their members.

    Attributes:
        data: The bytes of the chunk.
        bounds: Where each line starts, and where the chunk ends.
        stops: Where each line ends, before its `\n`.
        status: What each line is, as a `Status`.
        closes: Where its closing brace is.
        empty: Whether it is an object without members, or without any that stays.
        starts: By member and line, where the value starts; `MISSING` if it is absent. Of a line that is not OK or
            slow, nothing is there.
        ends: By member and line, where it stops.
        values: For each member that is a column of numbers or truth values, these; by line.
        valid: For each of these whether there is a value, by line: 1, or 2 for a wide integer that is an uint64.
        listed: By line, which of the names in `keeps` it has: words of 64 bits.
        cuts: Pairs of start and stop: what to cut out of the lines. None if all members stay.
        cut_bounds: Where the cuts of each line start, and where the last ones stop.
    """

    data: Bytes
    bounds: Positions
    stops: Positions
    status: Bytes
    closes: Positions
    empty: Bytes
    starts: Spans
    ends: Spans
    values: dict[int, npt.NDArray[Any]]
    valid: dict[int, Bytes]
    listed: npt.NDArray[np.uint64]
    cuts: Spans | None
    cut_bounds: Positions | None


_DTYPES: dict[Way, Any] = {
    Way.INT64: np.int64,
    Way.FLOAT64: np.float64,
    Way.BOOL: np.uint8,
    Way.WIDE: np.int64,
}


def with_slack(view: memoryview) -> Bytes:
    r"""Return the bytes of a view, with room after them that may be read, and `\n` after a last line that has none.

    They are copied unless the buffer has that.
    """
    data = np.frombuffer(view, np.uint8)
    whole = np.frombuffer(view.obj, np.uint8)  # type: ignore[call-overload]
    room = whole.ctypes.data + len(whole) - data.ctypes.data - len(data)
    if len(data) and data[-1] == ord("\n") and room >= SLACK:
        return data
    copy = np.zeros(len(data) + SLACK, np.uint8)
    copy[: len(data)] = data
    copy[len(data)] = ord("\n")
    return copy[: len(data)]


def scan(view: memoryview, wanted: Wanted, kernel: Kernel | None = None, lines: int | None = None) -> Scan:
    """Find the lines of a chunk and their members.

    Args:
        view: The chunk. See `with_slack`.
        wanted: The members.
        kernel: The functions; by default those for this processor.
        lines: How many lines there are; by default they are counted.
    """
    functions = kernel or default_kernel()
    data = with_slack(view)
    size = len(data)
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"a chunk of {size} bytes is too long")
    if lines is None:
        lines = int(functions.count_lines(data.ctypes.data, size))
    found = _new_scan(data, lines, wanted)
    arrays = (found.bounds, found.stops, found.status, found.closes, found.empty, found.starts, found.ends)
    pointers = ctypes.c_void_p * wanted.count
    by_node = (
        pointers(*(_pointer(found.values.get(node)) for node in range(wanted.count))),
        pointers(*(_pointer(found.valid.get(node)) for node in range(wanted.count))),
    )
    places = (*map(_pointer, arrays), *(ctypes.addressof(one) for one in by_node), _pointer(found.listed))
    max_cuts = 0 if found.cuts is None else len(found.cuts)
    structure = _Found(*places, _pointer(found.cuts), _pointer(found.cut_bounds), lines, max_cuts)
    scratch, spans = np.empty(wanted.scratch_bytes, np.uint8), np.empty(3 * wanted.count, np.uint32)
    count = functions.scan(data.ctypes.data, size, wanted.structure(scratch), structure, spans.ctypes.data)
    last = int(found.stops[-1]) + 1 if lines else 0
    assert count == lines and last >= size, (count, lines, last, size)  # noqa: S101, PT018 - they were counted right
    return found


def _new_scan(data: Bytes, lines: int, wanted: Wanted) -> Scan:
    """Return the arrays for what the kernel finds, without content."""
    values = {node: np.empty(lines, _DTYPES[way]) for node, way in wanted.ways.items() if way in _DTYPES}
    max_cuts = len(data) // 7 + 1  # no shorter line than `{"":1}\n`, or pair of members, has a cut
    return Scan(
        data=data,
        bounds=np.empty(lines + 1, np.int64),
        stops=np.empty(lines, np.int64),
        status=np.empty(lines, np.uint8),
        closes=np.empty(lines, np.int64),
        empty=np.empty(lines, np.uint8),
        starts=np.empty((wanted.count, lines), np.uint32),
        ends=np.empty((wanted.count, lines), np.uint32),
        values=values,
        valid={node: np.empty(lines, np.uint8) for node in values},
        listed=np.empty((lines, wanted.words), np.uint64),
        cuts=np.empty((max_cuts, 2), np.uint32) if wanted.cuts else None,
        cut_bounds=np.empty(lines + 1, np.int64) if wanted.cuts else None,
    )


def strings(data: Bytes, starts: Spans, ends: Spans, kernel: Kernel | None = None) -> tuple[Bytes, Positions]:
    """Return the text of strings, one after the other, and where each starts; of what is no string, none.

    Args:
        data: The chunk.
        starts: Where each value starts.
        ends: Where it stops.
        kernel: The functions; by default those for this processor.
    """
    return _gather((kernel or default_kernel()).strings, data, starts, ends)


def texts(data: Bytes, starts: Spans, ends: Spans, kernel: Kernel | None = None) -> tuple[Bytes, Positions]:
    """Return the bytes of values, one after the other, and where each starts; of those that are missing, none.

    Args:
        data: The chunk.
        starts: Where each value starts.
        ends: Where it stops.
        kernel: The functions; by default those for this processor.
    """
    return _gather((kernel or default_kernel()).texts, data, starts, ends)


def _gather(gather: Any, data: Bytes, starts: Spans, ends: Spans) -> tuple[Bytes, Positions]:
    """Return what a function of the kernel makes of values, one after the other, and where each starts."""
    there = starts != MISSING
    size = int((ends[there] - starts[there]).sum(dtype=np.int64))
    text, offsets = np.empty(size + SLACK, np.uint8), np.empty(len(starts) + 1, np.int64)
    found = gather(
        data.ctypes.data, starts.ctypes.data, ends.ctypes.data, len(starts), text.ctypes.data, offsets.ctypes.data
    )
    assert 0 <= found <= size  # noqa: S101 - lines with wrong escapes are not OK
    return text[:found], offsets


def hashes(
    data: Bytes,
    offsets: Positions,
    valid: npt.NDArray[np.bool_] | None = None,
    key: bytes | None = None,
    kernel: Kernel | None = None,
) -> Bytes:
    """Return the SHA-256 of texts in hexadecimal digits, 64 for each; of those that are not valid, any.

    Args:
        data: The texts, one after the other.
        offsets: Where each starts, and where the last one ends.
        valid: Which are valid; by default, all are.
        key: The key with which their HMAC is computed instead.
        kernel: The functions; by default those for this processor.
    """
    found = np.zeros(64 * (len(offsets) - 1), np.uint8)
    mask = None if valid is None else np.ascontiguousarray(valid).view(np.uint8)
    (kernel or default_kernel()).hashes(
        data.ctypes.data, offsets.ctypes.data, _pointer(mask), len(offsets) - 1, key, len(key or b""), found.ctypes.data
    )
    return found


def find_faults(
    data: Bytes, starts: Positions, stops: Positions, kernel: Kernel | None = None
) -> tuple[Bytes, Positions]:
    """Return what is wrong with lines, as a `Fault`, and at which byte of each.

    Args:
        data: The chunk, with room after it as `with_slack` makes it.
        starts: Where each line starts.
        stops: Where it ends, before its newline.
        kernel: The functions; by default those for this processor.
    """
    faults, places = np.empty(len(starts), np.uint8), np.empty(len(starts), np.int64)
    (kernel or default_kernel()).find_faults(
        data.ctypes.data, starts.ctypes.data, stops.ctypes.data, len(starts), faults.ctypes.data, places.ctypes.data
    )
    return faults, places


class Wording(NamedTuple):
    """How a reason to reject a line is worded; within the two texts may be a detail of the line.

    Attributes:
        before: The JSON before the detail, from the comma on that follows the number of the line.
        after: The JSON after it, up to the quote before the bytes of the line.
        binary: Whether the line is not UTF-8, and kept in base64.
    """

    before: bytes
    after: bytes
    binary: bool


@dataclass(frozen=True, slots=True)
class RejectedLines:
    """Rejected lines of a chunk, and the reasons.

    Attributes:
        starts: Where each line starts in the chunk.
        stops: Where it ends, before its newline.
        reasons: The number of its reason.
        details: Where in the chunk the detail of the reason starts, or a number that is the detail.
        detail_stops: Where it ends; -1 if it is a number.
    """

    starts: Positions
    stops: Positions
    reasons: npt.NDArray[np.int32]
    details: Positions
    detail_stops: Positions


def write_rejects(
    data: Bytes, lines: RejectedLines, wordings: Sequence[Wording], limit: int, kernel: Kernel | None = None
) -> tuple[Bytes, Positions]:
    """Return of the records of rejected lines what comes after the number of the line, and where each starts and ends.

    Args:
        data: The chunk, with room after it as `with_slack` makes it.
        lines: The lines.
        wordings: The reasons.
        limit: How many characters a detail may have; the last one of a longer one is `…`.
        kernel: The functions; by default those for this processor.

    Returns:
        The texts, with room after them as `number_rejects` needs it, and the bounds.
    """
    functions, count = kernel or default_kernel(), len(lines.starts)
    structures, keep = (_Wording * max(len(wordings), 1))(), list[Bytes]()
    for structure, wording in zip(structures, wordings, strict=False):
        before, after = (np.frombuffer(text + bytes(SLACK), np.uint8) for text in (wording.before, wording.after))
        structure.before, structure.after, structure.binary = before.ctypes.data, after.ctypes.data, wording.binary
        structure.before_size, structure.after_size = len(wording.before), len(wording.after)
        keep += [before, after]
    arrays = (data, lines.starts, lines.stops, lines.reasons, lines.details, lines.detail_stops)
    arguments = (*map(_pointer, arrays), count, structures, limit)
    bounds, size = np.empty(count + 1, np.int64), functions.write_rejects(*arguments, None, None)
    texts = np.empty(size + SLACK, np.uint8)
    written = functions.write_rejects(*arguments, texts.ctypes.data, bounds.ctypes.data)
    assert written <= size  # noqa: S101 - the kernel has written beyond the end of the buffer
    texts.resize(written + SLACK, refcheck=False)
    return texts, bounds


def number_rejects(
    texts: Bytes,
    starts: Positions,
    stops: Positions,
    offsets: Positions,
    lines: Positions,
    first_line: int,
    kernel: Kernel | None = None,
) -> Bytes:
    """Return records of rejected lines.

    Args:
        texts: What comes after the number of each line, with room after it.
        starts: Where each of these texts starts.
        stops: Where it ends.
        offsets: Where each line starts in the input.
        lines: Its index in the chunk.
        first_line: The number of the chunk's first line.
        kernel: The functions; by default those for this processor.
    """
    arrays = (texts, starts, stops, offsets, lines)
    size = int((stops - starts).sum()) + len(starts) * _RECORD_START_BYTES
    records = np.empty(size + SLACK, np.uint8)
    written = (kernel or default_kernel()).number_rejects(
        *map(_pointer, arrays), first_line, len(starts), records.ctypes.data
    )
    assert written <= size  # noqa: S101 - the kernel has written beyond the end of the buffer
    return records[:written]


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a result, to be written; one for each row.

    Attributes:
        kind: How they are given.
        prefix: The name and the colon, as JSON.
        values: The bytes of texts, or the numbers; None for members.
        offsets: Where each text starts.
        valid: Which values are there; None for all.
        member: For members, the places of the values by line.
        target: The places of the values that are replaced, by line; None if the results are new members.
    """

    kind: Kind
    prefix: bytes
    values: npt.NDArray[Any] | None = None
    offsets: Positions | None = None
    valid: Bytes | None = None
    member: tuple[Spans, Spans] | None = None
    target: tuple[Spans, Spans] | None = None

    @property
    def max_bytes(self) -> int:
        """The most that a value takes, texts aside."""
        return len(self.prefix) + 1 + (4, 20, 25, 4)[self.kind]


def emit(found: Scan, lines: Positions, columns: Sequence[Column], kernel: Kernel | None = None) -> Bytes:
    """Return the output of some lines of a chunk.

    Args:
        found: The lines.
        lines: The index of each line that is in the output, in order.
        columns: The results, with a value for each of these lines.
        kernel: The functions; by default those for this processor.
    """
    size = len(found.data) + len(lines) * sum(column.max_bytes for column in columns)
    keep: list[Any] = []
    results = (_Result * max(len(columns), 1))()
    for result, column in zip(results, columns, strict=False):
        prefix = np.frombuffer(column.prefix + bytes(SLACK), np.uint8)
        values = column.values
        if column.kind is Kind.TEXT and column.offsets is not None:
            size += int(column.offsets[len(lines)] - column.offsets[0]) if len(column.offsets) else 0
        if column.member is not None:
            starts, ends = (places[lines] for places in column.member)
            there = starts != MISSING
            size += int((ends[there] - starts[there]).sum(dtype=np.int64))
        keep.append(prefix)
        result.kind, result.prefix, result.prefix_size = column.kind, prefix.ctypes.data, len(column.prefix)
        result.values, result.offsets, result.valid = map(_pointer, (values, column.offsets, column.valid))
        result.starts, result.ends = map(_pointer, column.member or (None, None))
        result.target_starts, result.target_ends = map(_pointer, column.target or (None, None))
    output, order = np.empty(size + 2 * SLACK, np.uint8), np.empty(max(len(columns), 1), np.int32)
    written = (kernel or default_kernel()).emit(
        found.data.ctypes.data,
        found.bounds.ctypes.data,
        found.closes.ctypes.data,
        found.empty.ctypes.data,
        _pointer(found.cuts),
        _pointer(found.cut_bounds),
        lines.ctypes.data,
        len(lines),
        results,
        len(columns),
        order.ctypes.data,
        output.ctypes.data,
    )
    assert written <= size  # noqa: S101 - the kernel has written beyond the end of the buffer
    return output[:written]
