"""What types and values are called in messages to users."""

import re
from typing import Any

import polars as pl

from transform.expressions.rewrite import Part
from transform.expressions.tree import REFUSALS, expression, integer, show


def kind_of_type(dtype: Any) -> str | None:
    """Return what a type is to a user, None if it is not known or null."""
    if dtype is None or isinstance(dtype, pl.Null):
        return None
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(dtype, pl.Boolean):
        return "boolean"
    if isinstance(dtype, pl.Struct):
        return "object"
    if isinstance(dtype, pl.List | pl.Array):
        return "list"
    return "number" if dtype.is_numeric() else "time" if dtype.is_temporal() else None


def has_object(dtype: Any) -> bool:
    """Return whether a type is that of objects, or of lists of objects."""
    return isinstance(dtype, pl.Struct) or (isinstance(dtype, pl.List | pl.Array) and has_object(dtype.inner))


def has_other_members(dtype: Any, other: Any) -> bool:
    """Return whether two types of objects, or of lists of them, have other members, or in another order."""
    if isinstance(dtype, pl.Struct) and isinstance(other, pl.Struct):
        if [field.name for field in dtype.fields] != [field.name for field in other.fields]:
            return True
        return any(has_other_members(a.dtype, b.dtype) for a, b in zip(dtype.fields, other.fields, strict=True))
    if isinstance(dtype, pl.List) and isinstance(other, pl.List):
        return has_other_members(dtype.inner, other.inner)
    return False


_KINDS = {"text": "text", "boolean": "a boolean", "object": "an object", "list": "a list"}
_TIMES = {pl.Date: "a date", pl.Time: "a time of day", pl.Datetime: "a timestamp", pl.Duration: "a duration"}


def type_noun(dtype: Any) -> str:
    """Return what a value of a type is, as `an integer`."""
    if dtype.is_integer():
        return "an integer"
    return _KINDS.get(str(kind_of_type(dtype))) or _TIMES.get(type(dtype)) or "a number"


def element_of(part: Part) -> Part:
    """Return a list with the type of its elements."""
    return Part(part.tree, getattr(part.dtype, "inner", part.dtype))


def name_of(tree: Any) -> str | None:
    """Return the name of a column or of a member of an object, None of anything else."""
    match tree:
        case {"Column": str(name)}:
            return name
        case {"Alias": [inner, _]}:
            return name_of(inner)
        case {"Function": {"input": [inner], "function": {"StructExpr": {"FieldByName": str(field)}}}}:
            return None if (whole := name_of(inner)) is None else f"{whole}.{field}"
    return None


def literal_value(tree: Any) -> Any:
    """Return the value of a literal, a list of values or None."""
    match tree:
        case {"Literal": {"Dyn": {"Int": value}}}:
            return integer(value)
        case {"Literal": {"Dyn": {"Float": value}}}:
            return value
        case {"Literal": _}:
            try:
                values = pl.select(expression(tree)).to_series()
            except REFUSALS:
                return None
            values = (
                values.explode() if values.dtype.is_nested() and not isinstance(values.dtype, pl.Struct) else values
            )
            return values[0] if len(values) == 1 else values.to_list()
    return None


def said(part: Part) -> str:
    """Return a part as a message shows it."""
    if (name := name_of(part.tree)) is not None:
        return f"`{name}`"
    value = literal_value(part.tree)
    if isinstance(value, list):
        return f"`({', '.join(map(in_quotes, value))})`"
    if isinstance(value, str | int | float):
        return f"`{in_quotes(value)}`"
    return show(expression(part.tree))


def in_quotes(value: object) -> str:
    """Return a literal as SQL has it."""
    if isinstance(value, bool) or value is None:
        return "NULL" if value is None else str(value).upper()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def in_sql(part: Part) -> str:
    """Return a part as it is written in SQL, `x` if it is not a column."""
    name = name_of(part.tree)
    return "x" if name is None else name if re.fullmatch(r"[A-Za-z_][\w.]*", name) else f'"{name}"'


def is_a(part: Part) -> str:
    """Return the start of a sentence that says what a part is."""
    return f"{said(part)} is {type_noun(part.dtype)}"
