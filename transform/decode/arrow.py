"""Series that polars takes from Arrow: text, values of which some are missing, and lists of structs.

Only what needs it imports this module: pyarrow takes 26 MB and, where the machine is slow, a tenth of a second.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transform.native.binding import Bytes, Positions

Valid = npt.NDArray[np.bool_]

_TYPES: dict[type[pl.DataType], pa.DataType] = {
    pl.Boolean: pa.bool_(),
    pl.Float64: pa.float64(),
    pl.Int128: pa.int64(),  # Arrow has no integers of 128 bits
    pl.Null: pa.null(),
    pl.String: pa.large_string(),
}


class _Exported:
    """An array as any library takes it: for one of pyarrow itself, polars imports all of `pyarrow.compute`."""

    def __init__(self, array: pa.Array) -> None:
        self._array = array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        schema, array = self._array.__arrow_c_array__(requested_schema)
        return schema, array


def from_numbers(values: npt.NDArray[Any], valid: Valid) -> pl.Series:
    """Return a series of numbers or truth values, of which those that are not valid are null."""
    return pl.Series(_Exported(pa.array(values, mask=~valid)))


def from_text(text: Bytes, offsets: Positions, valid: Valid) -> pl.Series:
    """Return a series of strings, of which those that are not valid are null.

    Args:
        text: The strings as UTF-8, one after the other.
        offsets: Where each starts, and where the last one ends.
        valid: Which are valid.
    """
    validity = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pl.Series(_Exported(pa.Array.from_buffers(pa.large_string(), len(valid), buffers)))


def from_objects(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series | None:
    """Return a series of lists or structs, None if they have an integer beyond 64 bits.

    For lists of structs, polars takes about 20 times as long as Arrow.
    """
    try:
        array = pa.array(values, type=_type_of(dtype))
    except (pa.ArrowException, OverflowError):
        return None
    return pl.Series(name, array).cast(dtype)


def _type_of(dtype: Any) -> pa.DataType:
    if isinstance(dtype, pl.List):
        return pa.large_list(_type_of(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pa.struct([(field.name, _type_of(field.dtype)) for field in dtype.fields])
    return _TYPES[type(dtype)]
