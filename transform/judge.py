"""A single line: whether it has a row, and with what values, or why not."""

from collections.abc import Mapping

import msgspec

from transform.columns import in_range, python_type, range_error, type_error, widen
from transform.errors import WidenError
from transform.members import LineError, Members, read_members
from transform.schema import Column


class LineDecoder:
    """Decodes single lines, for the columns that are read.

    Args:
        columns: With their types.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        self._decoders = {name: msgspec.json.Decoder(python_type(c.dtype) | None) for name, c in columns.items()}
        self._inferred = [name for name, column in columns.items() if column.inferred]

    def decode(self, line: bytes, offset: int) -> tuple[dict[str, object], Members]:
        """Return the values of the columns, and all members.

        Args:
            line: Its bytes.
            offset: Where it starts in the input.

        Raises:
            LineError: Why it has no row.
            WidenError: See there.
        """
        members = read_members(line)
        for name in self._inferred:
            text = members.values.get(name)
            wider = widen(self._columns[name].dtype, bytes(text)) if text is not None else None
            if wider is not None:
                raise WidenError(name, wider, offset)
        values = {name: self._value(name, members.values.get(name)) for name in self._columns}
        for name in members.lone_surrogates:
            if name in self._columns:
                raise LineError(f"column `{name}`: holds a lone surrogate escape", "no text has that value")
        return values, members

    def _value(self, name: str, text: msgspec.Raw | None) -> object:
        if text is None:
            return None
        column = self._columns[name]
        try:
            value = self._decoders[name].decode(text)
        except msgspec.ValidationError as error:
            raise type_error(name, column, bytes(text), str(error)) from None
        if not in_range(value, column.dtype):
            raise range_error(name, column, bytes(text).decode())
        return value
