"""The values that do not fit their columns, found in many lines at once and without decoding these.

The kernel has read such a line as a JSON object, so the first byte of a value shows its kind. `LineDecoder` finds the
same reasons line by line; what is not certain here is left to it.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from transform.decode.columns import beyond_range, wrong_kind
from transform.decode.reasons import Form, Reasons, rows_by_value
from transform.decode.schema import INTEGER_BOUNDS, Column, Json, Path
from transform.native.binding import MISSING, Positions, Scan, Spans

_NUMBERS, _OTHERS = b"-0123456789", b'"tf[{'
_NOT_NULL = _NUMBERS + _OTHERS
_FIRST_BYTES: dict[type[pl.DataType], bytes] = {
    pl.String: b'"',
    pl.Boolean: b"tf",
    pl.Float64: _NUMBERS,
    **dict.fromkeys(INTEGER_BOUNDS, _NUMBERS),
}
"""What values start with, by type; without those of null."""
_MAX_DIGITS = 4000  # Python refuses to read integers of more than 4300
_UNKNOWN = ""


class Misfits:
    """Finds the reasons to reject some lines of a chunk, because of the values in them.

    Args:
        found: The lines of the chunk.
        lines: The index of each of these lines.
        known: Which of them are JSON objects without lone surrogates, of which the kernel has found the members.
        nodes: The number of each member in `found`, by path.
        reasons: Where the reasons are noted, by row. A line without one must be decoded.
    """

    def __init__(
        self,
        found: Scan,
        lines: Positions,
        known: npt.NDArray[np.bool_],
        nodes: Mapping[Path, int],
        reasons: Reasons,
    ) -> None:
        self._reasons = reasons
        self._found = found
        self._lines = lines
        self._nodes = nodes
        self._left = known.copy()  # of which nothing has been found, and nothing is uncertain
        for parent in {path[:depth] for path in nodes for depth in range(1, len(path))}:
            self._leave(self._rows(nodes[parent], _NOT_NULL.replace(b"{", b"")))  # a path through something else

    def find(self, columns: Mapping[str, Column], paths: Mapping[str, Path]) -> None:
        """Note the reasons.

        Args:
            columns: The columns read, by name.
            paths: Where their values are.
        """
        nodes = {name: self._nodes[path] for name, path in paths.items()}
        for name, column in columns.items():  # a wider type comes before all reasons
            if column.inferred:
                self._leave_wider(nodes[name], column)
        for name, column in columns.items():
            if column.typed and type(column.dtype) in _FIRST_BYTES:
                self._find_in(nodes[name], name, column)
            elif (column.typed or column.dtype.is_nested()) and not isinstance(column.dtype, Json):
                self._leave(self._rows(nodes[name], _NOT_NULL))

    def _leave_wider(self, node: int, column: Column) -> None:
        """Leave the lines to be decoded that may need a wider type."""
        if column.dtype.is_nested():
            self._leave(self._rows(node, _NOT_NULL))
        elif isinstance(column.dtype, pl.Int128):
            rows = self._rows(node, _NUMBERS)
            self._left[rows] = [_is_integer(text) for text in self._texts(node, rows)]

    def _find_in(self, node: int, name: str, column: Column) -> None:
        for byte in _OTHERS:
            if byte not in _FIRST_BYTES[type(column.dtype)]:
                rows = self._rows(node, bytes([byte]))
                self._add(rows, node, wrong_kind(name, column, bytes([byte])))
        rows = self._rows(node, _NUMBERS)
        beyond = beyond_range(name, column)
        kinds = [_misfit_of_number(name, column, text, beyond) for text in self._texts(node, rows)]
        for kind, places in rows_by_value(kinds).items():
            if kind != _UNKNOWN:
                self._add(rows[places], node, kind)
            self._leave(rows[places])

    def _add(self, rows: Positions, node: int, kind: str) -> None:
        self._leave(rows)
        self._reasons.add_with_texts(rows, Form(kind, f"{kind}: "), *self._spans(node, rows))

    def _leave(self, rows: Positions) -> None:
        self._left[rows] = False

    def _rows(self, node: int, first_bytes: bytes) -> Positions:
        """Return the rows that are left of which the value starts with one of some bytes."""
        rows = np.flatnonzero(self._left)
        starts = self._found.starts[node][self._lines[rows]]
        there = starts != MISSING
        there[there] = np.isin(self._found.data[starts[there]], np.frombuffer(first_bytes, np.uint8))
        found: Positions = rows[there]
        return found

    def _spans(self, node: int, rows: Positions) -> tuple[Spans, Spans]:
        lines = self._lines[rows]
        return self._found.starts[node][lines], self._found.ends[node][lines]

    def _texts(self, node: int, rows: Positions) -> Iterable[bytes]:
        view, spans = self._found.data.data, self._spans(node, rows)
        return (bytes(view[start:end]) for start, end in zip(*(of.tolist() for of in spans), strict=True))


def _misfit_of_number(name: str, column: Column, text: bytes, beyond: str) -> str | None:
    """Return the kind of the reason if a number does not fit its column, else None; `_UNKNOWN` if that is not known.

    The kind for one that is out of range is given.
    """
    bounds = INTEGER_BOUNDS.get(type(column.dtype))
    if bounds is not None and _is_integer(text):
        if len(text) > _MAX_DIGITS:
            return _UNKNOWN
        return None if bounds[0] <= int(text) <= bounds[1] else beyond
    if math.isinf(value := float(text)) or (bounds is not None and value.is_integer()):
        return _UNKNOWN
    return None if isinstance(column.dtype, pl.Float64) else wrong_kind(name, column, text)


def _is_integer(number: bytes) -> bool:
    return number.removeprefix(b"-").isdigit()
