"""Decodes single lines: strict, and slower than `Decoder`, for lines that could not be decoded together with others."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from transform.decode.columns import column_type, in_range, range_error, type_error, widen
from transform.decode.line_errors import LineError
from transform.decode.members import (
    address,
    read_members,
    read_path,
    without_duplicates,
    without_lone_surrogates,
)
from transform.decode.schema import Column, Json, Path, path_of
from transform.errors import WidenError


class LineDecoder:
    """Decodes single lines: strict, and slower than `Decoder`.

    Args:
        columns: The columns read, with their types.
        unchanged: The paths of members that are results as they are, by name.
    """

    def __init__(self, columns: Mapping[str, Column], unchanged: Mapping[str, Path] = {}) -> None:
        self._columns = dict(columns)
        self._unchanged = dict(unchanged)
        self._paths = {name: path_of(name, column) for name, column in columns.items()}
        self._names = tuple(dict.fromkeys(path[0] for path in (*self._paths.values(), *unchanged.values())))
        self._raw = {name for name, column in columns.items() if isinstance(column.dtype, Json)}
        self._decoders = {
            name: msgspec.json.Decoder(column_type(column) | None)
            for name, column in columns.items()
            if column.typed and name not in self._raw
        }
        self._elements = msgspec.json.Decoder(list[Raw] | None)

    def decode(self, line: bytes, offset: int) -> dict[str, Any]:
        """Return the values of the columns, by name.

        Args:
            line: The bytes of the line.
            offset: Where it starts in the input.

        Raises:
            LineError: The line is rejected; the error has the reason.
            WidenError: An inferred type is too narrow.
        """
        members = read_members(line, self._names)
        texts = {name: read_path(members.values, path) for name, path in self._paths.items()}
        for name, text in texts.items():
            column = self._columns[name]
            wider = widen(column, bytes(text)) if column.inferred and text is not None else None
            if wider is not None:
                raise WidenError(name, wider, offset)
        values = {name: self._value(name, text) for name, text in texts.items()}
        base = address(members.text)
        for name in self._raw:  # of the line itself, not of the text in which lone surrogates are replaced
            if (text := texts[name]) is not None:
                start = address(text) - base
                raw = line[start : start + len(text)].decode()
                values[name] = None if raw == "null" else raw
        for name, path in self._paths.items() if members.lone_surrogates else ():
            text = texts[name]
            if text is None or name in self._raw:
                continue
            if path[0] in members.lone_surrogates and self._columns[name].typed:
                start = address(text) - base
                self._refuse_lone_surrogates(name, line[start : start + len(text)])
        for path in self._unchanged.values():
            read_path(members.values, path)  # raises if something else than an object is on the way
        return values

    def _refuse_lone_surrogates(self, name: str, text: bytes) -> None:
        pair = without_lone_surrogates(text)
        if pair is not None and self._value(name, Raw(pair[0])) != self._value(name, Raw(pair[1])):
            raise LineError(f"column `{name}`: holds a lone surrogate escape", "no text has that value")

    def _value(self, name: str, text: Raw | None) -> object:
        column = self._columns[name]
        if text is None or name in self._raw or (not column.typed and not column.dtype.is_nested()):
            return text
        decoder = self._decoders[name] if column.typed else self._elements
        try:
            value = decoder.decode(text)
        except msgspec.ValidationError:
            try:
                value = decoder.decode(without_duplicates(bytes(text)))  # msgspec checks all members of a name
            except msgspec.ValidationError as error:
                raise type_error(name, column, bytes(text), str(error)) from None
        if column.typed and not in_range(value, column.dtype):
            raise range_error(name, column, bytes(text).decode())
        return value
