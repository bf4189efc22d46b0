"""The elements of an array in each line, as lines that the kernel writes: `ElementWriter`."""

import ctypes
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transform.native.binding import Bytes, Kernel, Positions, Spans, default_kernel
from transform.native.wanted import SLACK


class Source(enum.IntEnum):
    """What a line becomes: its elements, a blank line, or one that is no JSON."""

    ELEMENTS = 0
    BLANK = 1
    UNFIT = 2


class _Elements(ctypes.Structure):
    _fields_ = (
        ("kinds", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("lines", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("names", "name_bounds", "beside_starts", "beside_ends")),
        *((name, ctypes.c_int64) for name in ("members", "line", "at", "element")),
    )


class _FoundElements(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("lines", "elements", "places")),
        *((name, ctypes.c_int64) for name in ("room", "bytes", "size")),
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """A member of a line that its elements get.

    Attributes:
        name: Its name as JSON, with a colon.
        starts: By line, where its value starts; `MISSING` if it is absent.
        ends: By line, where that stops.
    """

    name: bytes
    starts: Spans
    ends: Spans


@dataclass(frozen=True, slots=True)
class ElementLines:
    """Elements as lines.

    Attributes:
        data: The lines.
        lines: By row, the index of the line that it comes from.
        elements: Its number in the array, from 1 on; 0 if it stands for a whole line.
        places: Where the element starts in the chunk.
        is_last: Whether no rows follow.
    """

    data: memoryview
    lines: Positions
    elements: Positions
    places: Positions
    is_last: bool = True


def write_elements(
    data: Bytes,
    kinds: Bytes,
    starts: Spans,
    beside: Sequence[Beside],
    max_rows: int,
    max_bytes: int,
    kernel: Kernel | None = None,
) -> Iterator[ElementLines]:
    """Yield the elements of the arrays of lines, in parts.

    Args:
        data: The chunk of lines, with room after it as `with_slack` makes it.
        kinds: By line, what it becomes, as a `Source`.
        starts: Where its array starts.
        beside: The members that each element gets which is an object.
        max_rows: The most rows of a part.
        max_bytes: The most bytes of a part, unless a single row is longer.
        kernel: The functions; by default those for this processor.
    """
    functions = kernel or default_kernel()
    names = np.frombuffer(b"".join(one.name for one in beside) + bytes(SLACK), np.uint8)
    bounds = np.cumsum([0, *(len(one.name) for one in beside)]).astype(np.int64)
    kinds, starts = np.ascontiguousarray(kinds, np.uint8), np.ascontiguousarray(starts, np.uint32)
    spans = [[np.ascontiguousarray(one.starts), np.ascontiguousarray(one.ends)] for one in beside]
    array = ctypes.c_void_p * max(len(beside), 1)
    pointers = [array(*(pair[which].ctypes.data for pair in spans)) for which in (0, 1)]
    source = _Elements(kinds.ctypes.data, starts.ctypes.data, len(kinds), names.ctypes.data, bounds.ctypes.data)
    source.beside_starts, source.beside_ends = (ctypes.addressof(one) for one in pointers)
    source.members = len(beside)
    room_bytes, parts = max_bytes, list[ElementLines]()
    while source.line < len(kinds):
        room = min(max_rows, room_bytes)  # each row has a byte at least
        lines, elements, places = (np.empty(room, np.int64) for _ in range(3))
        found = _FoundElements(*(one.ctypes.data for one in (lines, elements, places)), room, room_bytes, 0)
        text = np.empty(room_bytes + 2 * SLACK, np.uint8)
        count = functions.write_elements(ctypes.byref(source), data.ctypes.data, ctypes.byref(found), text.ctypes.data)
        if not count:
            room_bytes = max(found.size, room_bytes + 1)
            continue
        room_bytes, is_last = max_bytes, source.line == len(kinds)
        parts.append(ElementLines(text.data[: found.size], lines[:count], elements[:count], places[:count], is_last))
        del text  # so that it is gone when the next one is made
        yield parts.pop()
