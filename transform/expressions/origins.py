"""Where a row came from: `source` stands for the key or the version of the input, or the place of a line in it.

In an expression it is a column of a reserved name. `bind` does not look for that in the lines; the plan adds it to the
frame, with the same value for all lines of an input, except for the place of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from transform.decode.near_names import near_names
from transform.errors import CalculationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transform.io.source_info import SourceInfo
    from transform.native.binding import Positions

OFFSET, ELEMENT = "offset", "element"
OF_ROWS = frozenset((OFFSET, ELEMENT))
"""The fields that differ between the rows of an input."""

FIELDS: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("bucket", "key", "uri", "name", "etag", "version_id"), pl.String()),
    "last_modified": pl.Datetime("us", "UTC"),
    OFFSET: pl.Int128(),
    ELEMENT: pl.Int128(),
}
"""The types of what is known, by name."""


def column_of(field: str) -> str:
    """Return the name of the column that stands for a field.

    Raises:
        CalculationError: There is no such field.
    """
    if not isinstance(field, str) or field not in FIELDS:
        known = ", ".join(f"'{name}'" for name in FIELDS)
        near = near_names(field, FIELDS) if isinstance(field, str) else ""
        raise CalculationError(f"a source has {known}, and no {field!r:.80}.{near}")
    return f"SOURCE('{field}')"


COLUMNS = {column_of(field): field for field in FIELDS}
"""The fields by the names of their columns."""


def source(field: str) -> pl.Expr:
    r"""Return an expression of where a row came from.

    It needs a name as a result, and is `SOURCE('key')` in SQL.

    Args:
        field: Of an object, and of the version of it that is read, `bucket`, `key`, `uri` (`s3://bucket/key`), `name`
            (the key after its last `/`), `etag` (without quotes), `version_id` or `last_modified` (a timestamp in UTC).
            `offset` is where the row starts in the content (a line, or an object or element), in bytes from 0.
            `element` is the number of the element in its array, from 1, if `each` makes rows of elements. Of a file,
            the path as it was given is both `key` and `uri`. What is not known is null.

    Raises:
        CalculationError: There is no such field.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> calculation = Calculation(at=source("offset"), day=source("key").str.extract(r"([0-9]{8})"))
        >>> calculation.preview(io.BytesIO(b'{}\n{}')).to_dicts()
        [{'at': 0, 'day': None}, {'at': 3, 'day': None}]
    """
    return pl.col(column_of(field))


def fields_in(exprs: Iterable[pl.Expr]) -> frozenset[str]:
    """Return the fields that expressions use."""
    return frozenset(COLUMNS[name] for expr in exprs for name in expr.meta.root_names() if name in COLUMNS)


class Origins:
    """The columns of the fields of an input that expressions use.

    Args:
        fields: The fields.
        info: What is known of the input.

    Attributes:
        schema: The types of the columns, by name.
    """

    def __init__(self, fields: Iterable[str], info: SourceInfo) -> None:
        self.schema = {column_of(field): FIELDS[field] for field in sorted(fields)}
        self._constants = [
            pl.Series(name, [getattr(info, COLUMNS[name])], dtype)
            for name, dtype in self.schema.items()
            if COLUMNS[name] not in OF_ROWS
        ]

    def add_to(self, frame: pl.DataFrame, offsets: Positions, elements: Positions | None) -> pl.DataFrame:
        """Return a frame with the columns.

        Args:
            frame: The rows.
            offsets: Where the line of each starts in the input.
            elements: The number of the element that each is; None if rows are not elements.
        """
        added = [constant.new_from_index(0, frame.height) for constant in self._constants]
        for field, values in ((OFFSET, offsets), (ELEMENT, elements)):
            if (name := column_of(field)) in self.schema:
                unknown = pl.Series(name, [None], FIELDS[field]).new_from_index(0, frame.height)
                added.append(unknown if values is None else pl.Series(name, values).cast(FIELDS[field]))
        return frame.with_columns(added)
