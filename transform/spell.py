"""How results are spelled as JSON."""

from typing import Any

import msgspec
import numpy as np
import polars as pl

from transform.errors import CalculationError


def member_prefix(name: str) -> str:
    """Return the start of a member: its name, and the colon."""
    return msgspec.json.encode(name).decode() + ":"


def json_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the expression that spells a result as JSON."""
    column = pl.col(name)
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        # A third of the time that encoding takes. (And polars would encode decimals as strings.)
        return column.cast(pl.String).fill_null("null")
    return _encoded(column, dtype, name).alias(name)


def _encoded(value: pl.Expr, dtype: Any, name: str) -> pl.Expr:
    """Return the expression that spells a value as JSON, `null` for null."""
    if isinstance(dtype, pl.Decimal):
        return value.cast(pl.String).fill_null("null")
    if isinstance(dtype, pl.Struct) and (not dtype.fields or _has(dtype, pl.Decimal)):
        fields = [
            pl.concat_str(
                pl.lit(msgspec.json.encode(f.name).decode() + ":"), _encoded(value.struct.field(f.name), f.dtype, name)
            )
            for f in dtype.fields
        ]
        text = pl.concat_str(pl.lit("{"), pl.concat_str(*fields, separator=",") if fields else pl.lit(""), pl.lit("}"))
        return pl.when(value.is_not_null()).then(text).otherwise(pl.lit("null"))
    if isinstance(dtype, pl.List) and _has(dtype, pl.Decimal):
        texts = value.list.eval(_encoded(pl.element(), dtype.inner, name)).list.join(",")
        return pl.concat_str(pl.lit("["), texts, pl.lit("]")).fill_null("null")
    encoded = pl.struct(_spell_temporal(value, dtype, name).alias("")).struct.json_encode()
    return encoded.str.strip_prefix('{"":').str.strip_suffix("}")


def _spell_temporal(value: pl.Expr, dtype: Any, name: str) -> pl.Expr:
    """Return the value with dates, times and durations in it as ISO 8601 strings."""
    if isinstance(dtype, pl.Binary | pl.Object):
        raise CalculationError(f"the result `{name}` is {dtype}, which has no place in JSON; make it a string first")
    if isinstance(dtype, pl.Date | pl.Time | pl.Datetime | pl.Duration):
        return value.dt.to_string("iso:strict")
    if isinstance(dtype, pl.List | pl.Array):
        elements = _spell_temporal(pl.element(), dtype.inner, name)
        return value.list.eval(elements) if isinstance(dtype, pl.List) else value.arr.eval(elements)
    if isinstance(dtype, pl.Struct) and dtype.fields:
        fields = [_spell_temporal(value.struct.field(f.name), f.dtype, name).alias(f.name) for f in dtype.fields]
        return pl.when(value.is_not_null()).then(pl.struct(fields))
    return value


def _has(dtype: Any, kind: type[pl.DataType]) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _has(dtype.inner, kind)
    if isinstance(dtype, pl.Struct):
        return any(_has(field.dtype, kind) for field in dtype.fields)
    return isinstance(dtype, kind)


def has_floats(dtype: Any) -> bool:
    """Return whether values of a type can hold floats."""
    if isinstance(dtype, pl.List | pl.Array):
        return has_floats(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return any(has_floats(field.dtype) for field in dtype.fields)
    return bool(dtype.is_float())


def count_nonfinite(values: pl.Series) -> int:
    """Return how many NaN and infinite numbers the values hold."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return count_nonfinite(values.explode())
    if isinstance(values.dtype, pl.Struct):
        return sum(count_nonfinite(field) for field in values.struct.unnest() if has_floats(field.dtype))
    numbers = values.to_numpy()
    return int(np.count_nonzero(~np.isfinite(numbers))) - values.null_count()  # numpy is given NaN for null
