"""The values of a column: the types that msgspec decodes them as, their series, and the errors if one does not fit.

`to_frame` makes the series. `type_error` and `range_error` contain the words for values that do not fit their column.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import UNSET, Raw

from transform.decode.line_errors import LineError
from transform.decode.members import ESCAPED, decode_used, without_duplicates
from transform.decode.schema import (
    INTEGER_BOUNDS,
    Column,
    MixedKindsError,
    Paths,
    has_floats,
    kind_of,
    merge_types,
    type_of,
    within,
)
from transform.errors import SchemaError

_INT64_MAX = 2**63 - 1
_UNKNOWN_MEMBER = re.compile(r"unknown field (`.*?`)(?: - at `.*)?$", re.DOTALL)
SHORT_CHARACTERS = 40
"""How many characters of a value a reason may have."""
NULL = Raw(b"null")
_NOT_A_VALUE = (TypeError, OverflowError, pl.exceptions.PolarsError)  # what polars raises for a value out of range


def to_frame(
    values: Mapping[str, list[Any]], columns: Mapping[str, Column], height: int
) -> tuple[pl.DataFrame, dict[int, LineError]]:
    """Return the frame of the rows whose values are in range, and the errors of the others by row."""
    try:
        series = [to_series(name, values[name], columns[name]) for name in values]
    except _NOT_A_VALUE:
        errors: dict[int, LineError] = {}
        for name, column in values.items():
            for row in _out_of_range(name, column, columns[name]):
                errors.setdefault(row, range_error(name, columns[name], str(column[row])))
        if not errors:
            raise
        rest = {name: [v for row, v in enumerate(column) if row not in errors] for name, column in values.items()}
        return to_frame(rest, columns, height - len(errors))[0], errors
    if not series:
        return pl.DataFrame(height=height), {}
    return pl.DataFrame({one.name: one for one in series}), {}  # in a list, a series named "" would be renamed


def _out_of_range(name: str, values: list[Any], column: Column) -> Iterator[int]:
    """Yield the rows whose value is not in the range of its column."""
    if not column.typed:
        return
    if isinstance(column.evaluated, pl.Int128):
        minimum, maximum = INTEGER_BOUNDS[type(column.dtype)]
        yield from (row for row, value in enumerate(values) if value is not None and not minimum <= value <= maximum)
        return
    pending = [(0, len(values))]  # halved until the faulty ones are alone: a series takes about as long as 100 values
    while pending:
        start, stop = pending.pop()
        try:
            to_series(name, values[start:stop], column)
        except _NOT_A_VALUE:
            if stop - start == 1:
                yield start
            else:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]


def to_series(name: str, values: list[Any], column: Column) -> pl.Series:
    """Return the series of decoded values; polars raises for one that is out of range."""
    dtype = column.evaluated
    if not column.typed:
        return pl.Series(name, [_outline(value) for value in values], dtype=dtype)
    if dtype.is_nested():
        return _nested_series(name, msgspec.to_builtins(values), dtype)
    if not isinstance(dtype, pl.Int128):
        return pl.Series(name, values, dtype=dtype, strict=True)
    try:
        series = pl.Series(name, values, dtype=pl.Int64, strict=True).cast(pl.Int128)
    except _NOT_A_VALUE:
        series = pl.Series(name, values, dtype=pl.Int128, strict=True)
    minimum, maximum = INTEGER_BOUNDS[type(column.dtype)]
    if isinstance(column.dtype, pl.UInt64) and series.len() and not series.is_between(minimum, maximum).all():
        raise OverflowError
    return series


def _outline(value: Any) -> Any:
    """Return what remains of a value without a type: True, or for an array of which the elements count, as many."""
    if value is None or value is UNSET or (isinstance(value, Raw) and bytes(value) == b"null"):
        return None
    return [True] * len(value) if isinstance(value, list) else True


def _nested_series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    """Return a series of lists or structs."""
    if _has_objects_in_lists(dtype):
        from transform.decode import arrow  # noqa: PLC0415 - other columns do not need it

        series = arrow.from_objects(name, values, dtype)
        if series is not None:
            return series
    return pl.Series(name, values, dtype=dtype, strict=True)  # which finds an integer beyond 64 bits


def _has_objects_in_lists(dtype: Any) -> bool:
    if isinstance(dtype, pl.List):
        return isinstance(dtype.inner, pl.Struct) or _has_objects_in_lists(dtype.inner)
    return isinstance(dtype, pl.Struct) and any(_has_objects_in_lists(field.dtype) for field in dtype.fields)


def python_type(dtype: Any, paths: Paths = None, *, within_64_bits: bool = False) -> Any:
    """Return the type that msgspec decodes values of a type as.

    Args:
        dtype: The type.
        paths: The paths within objects that are used; objects may have other members, which are skipped. None if whole
            objects are used, which may have no other members than their type: those would be lost.
        within_64_bits: Whether integers in arrays and objects must be within 64 bits. polars turns some larger ones
            into null, so lines with larger ones are decoded one by one.
    """
    if isinstance(dtype, pl.List):
        return list[_nested(dtype.inner, paths, within_64_bits=within_64_bits)]  # type: ignore[misc]
    if isinstance(dtype, pl.Struct):
        if any(ESCAPED.search(f.name) for f in dtype.fields):
            raise SchemaError(
                f"{dtype}: member names that hold a quote, a backslash or a control character can't be read"
            )
        fields = [
            (
                f"m{i}",
                _nested(f.dtype, within(paths, f.name), within_64_bits=within_64_bits),
                msgspec.field(name=f.name, default=None),
            )
            for i, f in enumerate(dtype.fields)
        ]
        return msgspec.defstruct("Object", fields, gc=False, forbid_unknown_fields=paths is None)
    if type(dtype) in INTEGER_BOUNDS:
        minimum, maximum = INTEGER_BOUNDS[type(dtype)]
        # msgspec does not accept bounds beyond 64 bits; these are checked on the column.
        return Annotated[
            int,
            msgspec.Meta(ge=minimum if minimum > -(2**64) else None, le=maximum if maximum <= _INT64_MAX else None),
        ]
    scalars = {pl.Float64: float, pl.String: str, pl.Boolean: bool, pl.Null: type(None)}
    return scalars[type(dtype)]


def column_type(column: Column, *, within_64_bits: bool = False) -> Any:
    """Return the type that msgspec decodes the values of a column as; null and missing values aside."""
    if not column.typed:
        return list[Raw] if column.dtype.is_nested() else Raw
    return python_type(column.dtype, column.paths, within_64_bits=within_64_bits)


def _nested(dtype: Any, paths: Paths, *, within_64_bits: bool) -> Any:
    if within_64_bits and isinstance(dtype, pl.Int128 | pl.UInt64):
        return Annotated[int, msgspec.Meta(ge=max(INTEGER_BOUNDS[type(dtype)][0], -(2**63)), le=_INT64_MAX)] | None
    return python_type(dtype, paths, within_64_bits=within_64_bits) | None


def in_range(value: Any, dtype: Any) -> bool:
    """Return whether all integers in a decoded value are within their types."""
    if value is None:
        return True
    if isinstance(dtype, pl.List):
        return all(in_range(element, dtype.inner) for element in value)
    if isinstance(dtype, pl.Struct):
        return all(in_range(getattr(value, f"m{i}"), field.dtype) for i, field in enumerate(dtype.fields))
    if type(dtype) not in INTEGER_BOUNDS:
        return True
    minimum, maximum = INTEGER_BOUNDS[type(dtype)]
    return bool(minimum <= value <= maximum)


def widen(column: Column, text: bytes) -> pl.DataType | None:
    """Return the wider type that an inferred column needs for a value with floats in place of integers.

    None if the value fits, or does not fit for another reason.
    """
    dtype, paths = column.dtype, column.paths
    if isinstance(dtype, pl.Int128):
        return pl.Float64() if kind_of(text) == "float" else None
    if not dtype.is_nested() or not column.typed:
        return None
    text = without_duplicates(text)
    try:
        msgspec.json.Decoder(python_type(dtype, paths) | None).decode(text)
    except msgspec.ValidationError:
        try:
            msgspec.json.Decoder(python_type(_with_floats(dtype), paths) | None).decode(text)
            wider = merge_types([dtype, type_of(decode_used(text, paths))])
        except (msgspec.ValidationError, MixedKindsError):
            return None
        return wider if wider != dtype else None
    return None


def _with_floats(dtype: Any) -> pl.DataType:
    if isinstance(dtype, pl.List):
        return pl.List(_with_floats(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _with_floats(field.dtype) for field in dtype.fields})
    return pl.Float64() if isinstance(dtype, pl.Int128) else dtype


_EXPECTED: dict[type[pl.DataType], str] = {
    pl.Float64: "a number",
    pl.String: "a string",
    pl.Boolean: "a boolean",
    **dict.fromkeys(INTEGER_BOUNDS, "an integer"),
}


def type_error(name: str, column: Column, text: bytes, message: str) -> LineError:
    """Return the error for a value that does not fit its column, given msgspec's message."""
    if found := _UNKNOWN_MEMBER.search(message):
        return LineError(f"column `{name}`: a member that its type does not have, and that would be lost", found[1])
    if "out of range" in message or "<=" in message or ">=" in message:
        return range_error(name, column, text.decode())
    if type(column.dtype) not in _EXPECTED:
        return LineError(f"column `{name}`: not of type {column.dtype}", message)
    return LineError(wrong_kind(name, column, text), shorten(text.decode()))


def wrong_kind(name: str, column: Column, text: bytes) -> str:
    """Return the kind of the error for a value of another kind than its column, of which the type is simple."""
    kind = kind_of(text)
    article = "an" if kind[0] in "aio" else "a"
    return f"column `{name}`: expected {_EXPECTED[type(column.dtype)]}, found {article} {kind}"


def range_error(name: str, column: Column, text: str) -> LineError:
    """Return the error for a value that is out of the range of its column."""
    return LineError(beyond_range(name, column), shorten(text))


def beyond_range(name: str, column: Column) -> str:
    """Return the kind of the error for a value that is out of the range of its column."""
    return f"column `{name}`: out of range for {column.dtype}"


def shorten(text: str) -> str:
    """Return the start of a text that is long."""
    return text if len(text) <= SHORT_CHARACTERS else text[: SHORT_CHARACTERS - 1] + "…"


def large_floats(values: pl.Series, limit: float) -> list[int]:
    """Return the rows with floats whose absolute value is a limit or more; of nested values, possibly others."""
    if _largest(values) < limit:
        return []
    if values.dtype.is_nested():
        return list(range(len(values)))
    found: list[int] = (values.abs() >= limit).arg_true().to_list()
    return found


def _largest(values: pl.Series) -> float:
    if isinstance(values.dtype, pl.List):
        return _largest(values.explode())
    if isinstance(values.dtype, pl.Struct):
        return max((_largest(f) for f in values.struct.unnest() if has_floats(f.dtype)), default=0)
    lowest, highest = values.min(), values.max()
    return max(-float(lowest or 0), float(highest or 0))  # type: ignore[arg-type] # they are numbers


def count_integers(text: bytes, column: Column, limit: int) -> int:
    """Return how many integers of an absolute value beyond a limit a JSON text has where its column has floats."""
    return _count_integers(decode_used(text, column.paths), column.dtype, limit)


def _count_integers(value: Any, dtype: Any, limit: int) -> int:
    if isinstance(value, list):
        return sum(_count_integers(element, dtype.inner, limit) for element in value)
    if isinstance(value, dict):
        return sum(_count_integers(value.get(f.name), f.dtype, limit) for f in dtype.fields)
    return int(isinstance(dtype, pl.Float64) and type(value) is int and abs(value) > limit)
