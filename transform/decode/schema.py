"""The types of the columns that are read: declared types as text and as polars types, and types of JSON values.

A column holds values of one kind: integers (evaluated as Int128), floats (Float64), strings, booleans, or arrays or
objects of these.
"""

import ast
import difflib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform.errors import SchemaError

INTEGER_BOUNDS: dict[type[pl.DataType], tuple[int, int]] = {
    **{getattr(pl, f"Int{bits}"): (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64, 128)},
    **{getattr(pl, f"UInt{bits}"): (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
_SCALARS: tuple[type[pl.DataType], ...] = (pl.Float64, pl.String, pl.Boolean, *INTEGER_BOUNDS)
_TYPE_NAMES: dict[str, type[pl.DataType]] = {
    **{scalar.__name__.lower(): scalar for scalar in _SCALARS},
    "float": pl.Float64,
    "int": pl.Int64,
    "str": pl.String,
    "bool": pl.Boolean,
}

_MAX_NEAR = 3
_LEAST_LIKENESS = 0.6  # of two names, from 0 to 1, as difflib has it by default


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read.

    Attributes:
        dtype: As declared, or as inferred.
        inferred: Whether it was inferred from the sample.
    """

    dtype: pl.DataType
    inferred: bool = False

    @property
    def evaluated(self) -> pl.DataType:
        """The type expressions see: every integer as Int128, so that products of 64-bit columns are exact."""
        return _evaluated(self.dtype)


class MixedKindsError(Exception):
    """No single type holds all values of a column."""


def check_declared(name: str, dtype: object) -> pl.DataType:
    """Return a declared type as an instance.

    Raises:
        SchemaError: It is not a polars type, or not a type of JSON values.
    """
    if isinstance(dtype, type) and issubclass(dtype, pl.DataType) and not dtype.is_nested():
        dtype = dtype()
    if isinstance(dtype, pl.List):
        return pl.List(check_declared(name, dtype.inner))
    if isinstance(dtype, pl.Struct) and dtype.fields:
        return pl.Struct({field.name: check_declared(f"{name}.{field.name}", field.dtype) for field in dtype.fields})
    if isinstance(dtype, _SCALARS):
        return dtype
    hint = "."
    if isinstance(dtype, pl.DataType) and dtype.is_temporal():
        hint = ": declare String and parse it in the expression, with the format spelled out."
    elif isinstance(dtype, pl.Float32):
        hint = ": declare Float64, as numbers in JSON are read."
    raise SchemaError(
        f"column `{name}` can't be declared as {dtype!r}{hint} Types are Float64, String, Boolean, "
        "Int8 to Int128, UInt8 to UInt64, List(…) and Struct({…})."
    )


def parse_type(name: str, text: str) -> pl.DataType:
    """Return the type that a text such as `Float64`, `List(Int64)` or `Struct({'a': String})` names.

    Raises:
        SchemaError: The text is not a type.
    """
    try:
        dtype = _parse_type_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        near = difflib.get_close_matches(text.lower(), _TYPE_NAMES, n=1)
        did_you_mean = f" Did you mean {_TYPE_NAMES[near[0]].__name__}?" if near else ""
        raise SchemaError(
            f"column `{name}`: `{text}` is not a type.{did_you_mean} Types are Float64, String, Boolean, "
            "Int8 to Int128, UInt8 to UInt64, List(…) and Struct({…})."
        ) from None
    return check_declared(name, dtype)


def read_type(text: str) -> pl.DataType:
    """Return the type that was written with `str`; it may be one that was inferred from nulls.

    Raises:
        ValueError: The text is not a type, or is nested so deeply that Python's parser cannot read it.
    """
    try:
        return _parse_type_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError):
        raise ValueError(f"no type: {text:.80}") from None


def _parse_type_node(node: ast.expr) -> pl.DataType:
    match node:
        case ast.Name(id="Null"):
            return pl.Null()
        case ast.Name(id=name) if name.lower() in _TYPE_NAMES:
            return _TYPE_NAMES[name.lower()]()
        case ast.Call(func=ast.Name(id="List"), args=[inner], keywords=[]):
            return pl.List(_parse_type_node(inner))
        case ast.Subscript(value=ast.Name(id="List"), slice=inner):
            return pl.List(_parse_type_node(inner))
        case ast.Call(func=ast.Name(id="Struct"), args=[ast.Dict(keys=keys, values=values)], keywords=[]):
            names = [key.value if isinstance(key, ast.Constant) else None for key in keys]
            if all(isinstance(name, str) for name in names):
                return pl.Struct({str(n): _parse_type_node(v) for n, v in zip(names, values, strict=True)})
    raise ValueError


def kind_of(text: bytes) -> str:
    """Return the kind of a JSON value, given its text; a number with a point or an exponent is a `float`."""
    match text[:1]:
        case b"{":
            return "object"
        case b"[":
            return "array"
        case b'"':
            return "string"
        case b"t" | b"f":
            return "boolean"
        case b"n":
            return "null"
    return "float" if set(text) & set(b".eE") else "integer"


def type_of(value: object) -> pl.DataType:
    """Return the type of a decoded JSON value.

    Raises:
        MixedKindsError: It contains an array whose elements have no common type.
    """
    match value:
        case None:
            return pl.Null()
        case bool():
            return pl.Boolean()
        case int():
            return pl.Int128()
        case float():
            return pl.Float64()
        case str():
            return pl.String()
        case list():
            return pl.List(merge_types(type_of(element) for element in value))
        case dict():
            return pl.Struct({name: type_of(element) for name, element in value.items()})
    raise TypeError(type(value))


def merge_types(types: Iterable[pl.DataType]) -> pl.DataType:
    """Return the type that holds values of all the types, Null if there are no types.

    Raises:
        MixedKindsError: There is no such type.
    """
    merged: pl.DataType = pl.Null()
    for dtype in types:
        merged = _merge(merged, dtype)
    return merged


def _merge(a: pl.DataType, b: pl.DataType) -> pl.DataType:
    if a == b or isinstance(b, pl.Null):
        return a
    if isinstance(a, pl.Null):
        return b
    if {type(a), type(b)} == {pl.Int128, pl.Float64}:
        return pl.Float64()
    if isinstance(a, pl.List) and isinstance(b, pl.List):
        return pl.List(_merge(_instance(a.inner), _instance(b.inner)))
    if isinstance(a, pl.Struct) and isinstance(b, pl.Struct):
        fields = {field.name: _instance(field.dtype) for field in a.fields}
        for field in b.fields:
            fields[field.name] = _merge(fields.get(field.name, pl.Null()), _instance(field.dtype))
        return pl.Struct(fields)
    raise MixedKindsError


def _evaluated(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.List):
        return pl.List(_evaluated(_instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _evaluated(_instance(field.dtype)) for field in dtype.fields})
    return pl.Int128() if type(dtype) in INTEGER_BOUNDS else dtype


def _instance(dtype: Any) -> pl.DataType:
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return instance


def near_names(name: str, names: Iterable[str]) -> str:
    """Return ` Did you mean …?` with the names that are similar, "" if none is."""
    return did_you_mean(nearest(name, names))


def did_you_mean(near: Sequence[str]) -> str:
    """Return ` Did you mean …?` for the names in it, "" for none."""
    return f" Did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else ""


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the few names that are most like a name, in any case of letters, the nearest first.

    The nearest of several sets of names are the nearest among the nearest of each.

    Example:
        >>> nearest("ID", ["id", "ide", "name"])
        ['id', 'ide']
    """
    matcher = difflib.SequenceMatcher(b=name.casefold())
    found = []
    for candidate in set(names):
        matcher.set_seq1(candidate.casefold())
        bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # upper bounds first, as they are cheap
        if all(bound() >= _LEAST_LIKENESS for bound in bounds):
            found.append((matcher.ratio(), candidate))
    return [candidate for _, candidate in heapq.nlargest(_MAX_NEAR, found)]


def check_all_read(declared: Mapping[str, pl.DataType], read: Iterable[str]) -> None:
    """Raise if a column is declared that no expression reads, which is most likely a typing error.

    Raises:
        SchemaError: There is such a column.
    """
    read = list(read)
    for name in declared:
        if name not in read:
            raise SchemaError(
                f"the schema declares `{name}`, but no expression or filter reads it.{near_names(name, read)}"
            )
