"""The types of the columns that are read: declared types as text and as polars types, and types of JSON values.

A column holds values of one kind: integers (evaluated as Int128), floats (Float64), strings, booleans, or arrays or
objects of these. One that is declared as JSON has the texts of values of any kind.
"""

import ast
import difflib
import enum
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform.decode.near_names import near_names
from transform.errors import SchemaError

INTEGER_BOUNDS: dict[type[pl.DataType], tuple[int, int]] = {
    **{getattr(pl, f"Int{bits}"): (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64, 128)},
    **{getattr(pl, f"UInt{bits}"): (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


class Json(pl.String):
    """The type of a member of any kind, of which the column has the JSON text as it is in the line."""


_SCALARS: tuple[type[pl.DataType], ...] = (pl.Float64, pl.String, pl.Boolean, *INTEGER_BOUNDS)
_WHOLE: tuple[type[pl.DataType], ...] = (*_SCALARS, Json)
_TYPE_NAMES: dict[str, type[pl.DataType]] = {
    **{scalar.__name__.lower(): scalar for scalar in _SCALARS},
    "float": pl.Float64,
    "int": pl.Int64,
    "str": pl.String,
    "bool": pl.Boolean,
    "json": Json,
}

_TYPES = (
    "Types are Float64, String, Boolean, Int8 to Int128, UInt8 to UInt64, List(…), Struct({…}), and json for the text "
    "of a value of any kind."
)

MAX_TYPE_DEPTH = 64
"""How deep the arrays and objects of a column may be nested.

polars takes time with the fourth power of the depth: milliseconds at 64 levels, and a second at 140. Beyond that, the
types themselves exhaust the stack of Python.
"""


Path = tuple[str, ...]
"""The names that lead to a member: the name of a member of the line, then of a member of that object, and so on."""


Paths = frozenset[Path] | None
"""Paths within an object or the elements of an array; None for the whole of it."""


class Use(enum.Enum):
    """What expressions need of a member."""

    VALUE = enum.auto()
    """Its value, which needs a type."""
    PRESENCE = enum.auto()
    """Whether it is there and not null, which needs no type."""
    BYTES = enum.auto()
    """Its bytes, because it is a result as it is; this needs no type either."""


@dataclass(frozen=True, slots=True)
class Read:
    """A member that a calculation reads.

    Attributes:
        path: Where it is in the line.
        use: What is needed of it.
        elements: For an array of which expressions only use these members of its elements: their paths within an
            element. Without any path, only the number of elements is used. None if the whole value is used.
    """

    path: Path
    use: Use = Use.VALUE
    elements: Paths = None

    @property
    def whole(self) -> bool:
        """Whether the whole value is used, with everything in it."""
        return self.use is Use.VALUE and self.elements is None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the frame that expressions are evaluated on.

    Attributes:
        dtype: As declared, or as inferred.
        inferred: Whether it was inferred from the sample.
        read: The member that it is read from; None for the member of the line that has the column's name.
    """

    dtype: pl.DataType
    inferred: bool = False
    read: Read | None = None

    @property
    def evaluated(self) -> pl.DataType:
        """The type expressions see: integers as Int128, so that products of 64-bit columns are exact; JSON as text."""
        return _evaluated(self.dtype)

    @property
    def typed(self) -> bool:
        """Whether values must be of the type; otherwise nothing is read but their presence or number."""
        read = self.read
        return not self.inferred or read is None or (read.use is Use.VALUE and read.elements != frozenset())

    @property
    def paths(self) -> Paths:
        """The paths within its objects that are used, None for all; see `python_type`."""
        if self.read is None or self.read.whole:
            return None
        return self.read.elements or frozenset()

    @property
    def closed(self) -> bool:
        """Whether objects in it may have no other members than its type, as those would be lost."""
        return self.typed and _has_objects(self.dtype, self.paths)


def path_of(name: str, column: Column) -> Path:
    """Return the path of the member that a column is read from."""
    return column.read.path if column.read is not None else (name,)


class MixedKindsError(Exception):
    """No single type holds all values of a column."""


class TooDeepError(MixedKindsError):
    """A value is nested deeper than `MAX_TYPE_DEPTH`."""


def check_declared(name: str, dtype: object, depth: int = 0) -> pl.DataType:
    """Return a declared type as an instance.

    Args:
        name: The name of the column, with the path to the type in it.
        dtype: The type.
        depth: How many lists and structs it is in.

    Raises:
        SchemaError: It is not a polars type, or not a type of JSON values.
    """
    if depth > MAX_TYPE_DEPTH:
        raise too_deep(name.partition(".")[0])
    if isinstance(dtype, type) and issubclass(dtype, pl.DataType) and not dtype.is_nested():
        dtype = dtype()
    if isinstance(dtype, pl.List):
        return pl.List(check_declared(name, dtype.inner, depth + 1))
    if isinstance(dtype, pl.Struct) and dtype.fields:
        return pl.Struct(
            {field.name: check_declared(f"{name}.{field.name}", field.dtype, depth + 1) for field in dtype.fields}
        )
    if isinstance(dtype, Json) and depth:
        raise SchemaError(
            f"`{name}` can't be declared as json: that is the type of a whole column, such as customer.address=json"
        )
    if isinstance(dtype, _WHOLE):
        return dtype
    hint = "."
    if isinstance(dtype, pl.DataType) and dtype.is_temporal():
        hint = ": declare String and parse it in the expression, with the format spelled out."
    elif isinstance(dtype, pl.Float32):
        hint = ": declare Float64, as numbers in JSON are read."
    raise SchemaError(f"column `{name}` can't be declared as {dtype!r}{hint} {_TYPES}", column=name)


def parse_type(name: str, text: str) -> pl.DataType:
    """Return the type that a text such as `Float64`, `List(Int64)` or `Struct({'a': String})` names.

    Raises:
        SchemaError: The text is not a type.
    """
    steps = ((character in "([{") - (character in ")]}") for character in text)
    if max(itertools.accumulate(steps), default=0) > 2 * MAX_TYPE_DEPTH:  # two brackets for each struct
        raise too_deep(name)
    try:
        dtype = _parse_type_node(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        near = difflib.get_close_matches(text.lower(), _TYPE_NAMES, n=1)
        did_you_mean = f" Did you mean {_TYPE_NAMES[near[0]].__name__}?" if near else ""
        raise SchemaError(f"column `{name}`: `{text}` is not a type.{did_you_mean} {_TYPES}", column=name) from None
    return check_declared(name, dtype)


def too_deep(name: str) -> SchemaError:
    """Return the error for a column whose arrays and objects are nested too deeply for a type."""
    return SchemaError(
        f"column `{name}` is nested deeper than {MAX_TYPE_DEPTH} levels, which is the limit for reading a column as a "
        f"whole: read a path in it instead, such as {name}.x in SQL",
        column=name,
    )


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


def type_of(value: object, depth: int = 0) -> pl.DataType:
    """Return the type of a decoded JSON value.

    Args:
        value: The value.
        depth: How many arrays and objects it is in.

    Raises:
        MixedKindsError: It contains an array whose elements have no common type.
        TooDeepError: It is nested too deeply.
    """
    if depth > MAX_TYPE_DEPTH:
        raise TooDeepError
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
            return pl.List(merge_types(type_of(element, depth + 1) for element in value))
        case dict():
            return pl.Struct({name: type_of(element, depth + 1) for name, element in value.items()})
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
    if isinstance(dtype, Json):
        return pl.String()
    return pl.Int128() if type(dtype) in INTEGER_BOUNDS else dtype


def used_type(name: str, dtype: Any, paths: Paths) -> pl.DataType:
    """Return the part of a declared type that is used.

    Raises:
        SchemaError: A path is not in the type.
    """
    if paths is None or not paths:
        return _instance(dtype)
    if isinstance(dtype, pl.List):
        return pl.List(used_type(f"{name}[]", dtype.inner, paths))
    fields = {field.name: field.dtype for field in dtype.fields} if isinstance(dtype, pl.Struct) else {}
    for path in sorted(paths):
        if path[0] not in fields:
            raise SchemaError(
                f"`{name}` is declared as {dtype}, which has no member `{path[0]}`.{near_names(path[0], fields)}",
                column=name,
            )
    return pl.Struct(
        {field: used_type(f"{name}.{field}", fields[field], within(paths, field)) for field, *_ in sorted(paths)}
    )


def within(paths: Paths, name: str) -> Paths:
    """Return the paths within the member of a name; None if all of it is used."""
    if paths is None or (name,) in paths:
        return None
    return frozenset(path[1:] for path in paths if path[0] == name)


def _has_objects(dtype: Any, paths: Paths) -> bool:
    """Return whether a type has an object that is used as a whole."""
    if isinstance(dtype, pl.List):
        return _has_objects(dtype.inner, paths)
    if isinstance(dtype, pl.Struct):
        return paths is None or any(_has_objects(field.dtype, within(paths, field.name)) for field in dtype.fields)
    return False


def has_floats(dtype: Any) -> bool:
    """Return whether values of a type can hold floats."""
    if isinstance(dtype, pl.List | pl.Array):
        return has_floats(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return any(has_floats(field.dtype) for field in dtype.fields)
    return bool(dtype.is_float())


def _instance(dtype: Any) -> pl.DataType:
    instance: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return instance
