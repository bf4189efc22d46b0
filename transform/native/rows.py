"""The rows of a sequence of JSON texts, as the kernel finds them: `RowFinder` finds them, `write_rows` makes lines."""

import ctypes
import enum
from dataclasses import dataclass

import numpy as np

from transform.native.binding import Bytes, Kernel, Positions, default_kernel
from transform.native.wanted import SLACK

BEFORE_BYTES = 32
"""Number of bytes before the place from which rows are looked for that must be in the buffer."""
_MAX_DEPTH = 512


class RowFault(enum.IntEnum):
    """What is wrong with a row, if anything. The kernel does not find `TOO_LONG`."""

    NONE = 0
    UNEXPECTED = 1
    LINE_BREAK = 2
    TRUNCATED = 3
    NO_VALUE = 4
    FOLLOWED = 5
    ARRAY_OPEN = 6
    TOO_LONG = 7


class _Open(enum.IntEnum):
    NONE = 0
    ROW = 1
    DONE = 2
    BROKEN = 3


class _State(enum.IntEnum):
    TOP = 9
    LIST_VALUE = 11
    LIST_AFTER = 12


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("at", "row", "place")),
        *((name, ctypes.c_uint64) for name in ("in_string", "escaped", "in_word")),
        ("state", ctypes.c_int32),
        ("depth", ctypes.c_int32),
        *((name, ctypes.c_uint8) for name in ("open", "fault", "in_array", "again")),
        ("before", ctypes.c_uint8 * BEFORE_BYTES),
        ("objects", ctypes.c_uint64 * (_MAX_DEPTH // 64 + 1)),
    )


class _FoundRows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("starts", "stops", "faults", "places", "after")),
        ("room", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )


class After(enum.IntFlag):
    """How to go on after a row: as in an array of rows, or as after a broken row. It has the values of the kernel."""

    NOTHING = 0
    IN_ARRAY = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows in a buffer, in order.

    Attributes:
        starts: Where each starts; less than 0 if that is no longer in the buffer.
        stops: Where it stops.
        faults: What is wrong with it, as a `RowFault`.
        places: Where that is; of a row without a fault, where the next token is.
        after: How to go on after it, as `After`.
    """

    starts: Positions
    stops: Positions
    faults: Bytes
    places: Positions
    after: Bytes

    def __len__(self) -> int:
        return len(self.starts)


class RowFinder:
    """Finds the rows of a sequence of JSON texts, of which a part at a time is in a buffer.

    Args:
        at: Where in the buffer it starts, with `BEFORE_BYTES` before that.
        after: What came before.
        room: How many rows to find at a time.
        kernel: The functions; by default those for this processor.
    """

    def __init__(
        self, at: int, after: After = After.NOTHING, room: int = 1 << 15, kernel: Kernel | None = None
    ) -> None:
        self._kernel = kernel or default_kernel()
        self._rows = _Rows(at=at, state=_State.TOP)
        self._rows.in_array, self._rows.again = After.IN_ARRAY in after, After.BROKEN in after
        if After.IN_ARRAY in after:
            self._rows.state = _State.LIST_VALUE if After.BROKEN in after else _State.LIST_AFTER
        self._room = max(room, 2)

    @property
    def at(self) -> int:
        """Where it goes on: everything before that has been read."""
        return int(self._rows.at)

    @property
    def row(self) -> int | None:
        """Where the row starts whose end has not been found yet; None without one."""
        return None if self._rows.open == _Open.NONE else int(self._rows.row)

    def move(self, by: int) -> None:
        """Note that the data in the buffer was moved towards its start."""
        self._rows.at -= by
        self._rows.row -= by
        self._rows.place -= by

    def find(self, data: memoryview, *, at_end: bool) -> FoundRows:
        r"""Find the next rows; without any, more data is needed.

        Args:
            data: The data, in a buffer that ends with room as `with_slack` makes it.
            at_end: Whether the input ends here. Then there must be a `\n` behind the data.
        """
        room = self._room
        starts, stops, places = (np.empty(room, np.int64) for _ in range(3))
        faults, after = (np.empty(room, np.uint8) for _ in range(2))
        pointers = (array.ctypes.data for array in (starts, stops, faults, places, after))
        found = _FoundRows(*pointers, room, 0)
        address = np.frombuffer(data, np.uint8).ctypes.data
        count = self._kernel.find_rows(ctypes.byref(self._rows), address, len(data), at_end, ctypes.byref(found))
        return FoundRows(starts[:count], stops[:count], faults[:count], places[:count], after[:count])


def write_rows(data: memoryview, rows: FoundRows, kernel: Kernel | None = None) -> memoryview:
    r"""Return rows as lines: each without the white space that has a line break in it, and with a `\n`.

    Args:
        data: The buffer that they are in.
        rows: The rows. In place of one with a fault there is a line that is no JSON.
        kernel: The functions; by default those for this processor.
    """
    good = rows.faults == RowFault.NONE
    size = int((rows.stops[good] - rows.starts[good]).sum()) + 2 * len(rows)
    lines = np.empty(size + 2 * SLACK, np.uint8)
    arrays = (rows.starts, rows.stops, rows.faults, rows.places, rows.after)
    structure = _FoundRows(*(array.ctypes.data for array in arrays), len(rows), len(rows))
    address = np.frombuffer(data, np.uint8).ctypes.data
    written = (kernel or default_kernel()).write_rows(address, ctypes.byref(structure), lines.ctypes.data)
    assert written <= size  # noqa: S101 - the kernel has written beyond the end of the buffer
    return lines.data[:written]
