"""Operands of functions and operators: converted for exact arithmetic, or refused before any row is read.

polars takes lists and objects in arithmetic, where it wraps and divides in its own way, and combines them with single
values although the type that it plans for the result is then not the one that it computes.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions.parse import NEGATIVE_DIGITS
from transform.expressions.rewrite import Check, Part, type_of, with_inputs
from transform.expressions.tree import at_least, call, cast_to, expression, integer, operation, scalar, show

_ARITHMETIC = {"Plus", "Minus", "Multiply", "TrueDivide", "FloorDivide", "Modulus", "TruncDivide"}
_ARITHMETIC_FUNCTIONS = {"Negate", "Abs", "Sql.Binary", "Diff", "MeanHorizontal", "Pow", "SumHorizontal"}
_CHOOSING = {
    *("Clip", "Coalesce", "FillNull", "MaxHorizontal", "MinHorizontal", "Ternary"),
    *("Boolean.IsBetween", "Boolean.IsClose"),
}
"""The functions that compare their inputs or return one of them."""
_LISTS = {
    *("ArrayExpr.Contains", "Boolean.IsIn", "ListExpr.Concat", "ListExpr.Contains", "Replace", "ReplaceStrict"),
    "Sql.IsIn",
}
"""Those with an input that is a list of values."""


def refuse_operands(shown: str, names: Sequence[str], tree: Any, types: Sequence[Any]) -> None:
    """Raise if a function or an operator cannot take inputs of some types.

    Raises:
        CalculationError: It does arithmetic with whole lists or objects, or compares or combines them with something of
            another kind; or polars computes something wrong of such numbers.
    """
    _refuse_nested(shown, names, tree, types)
    _refuse_decimals(shown, tree, types)
    first = types[0] if types else None
    if first is not None and (wrong := _wrong_of(names, tree, first)):
        raise CalculationError(f"{shown} takes {wrong}, in {show(expression(tree))}")


def _refuse_decimals(shown: str, tree: Any, types: Sequence[Any]) -> None:
    match tree:
        case {"BinaryExpr": {"op": operator}} | {"Function": {"function": {"Sql": {"Binary": operator}}}}:
            if operator in _DIVISIONS and any(dtype is not None and dtype.is_decimal() for dtype in types):
                raise CalculationError(
                    f"{shown} divides decimals, which polars cuts off after six more digits. Convert them, with "
                    "CAST(… AS DOUBLE) or in Python .cast(pl.Float64)"
                )


_DIVISIONS = {"TrueDivide", "FloorDivide", "Modulus", "TruncDivide", "Div", "IntDiv", "Rem"}


def _wrong_of(names: Sequence[str], tree: Any, first: Any) -> str | None:
    """Return what polars computes wrongly, and what to write instead."""
    function = tree["Function"]["function"] if "Function" in tree else {}
    match names[0]:
        case "RollingExpr" | "RollingExprBy" if first.is_integer() and "'Sum'" in str(function):
            return "a rolling sum of integers, which wraps around. Convert them with .cast(pl.Float64)"
        case "ListExpr" if names[-1] == "ListExpr.Sum" and isinstance(first.inner, pl.Duration):
            return "a sum of a list of durations, which wraps around. Write .list.agg(pl.element().sum())"
        case "RoundSF" if first.is_integer():
            return "significant figures of integers, which are rounded as floats. Convert them with .cast(pl.Float64)"
        case "Sql" if names[-1] == "Sql.Round" and first.is_decimal() and digits_of(tree) < 0:
            return "ROUND of a decimal to tens, which leaves it as it is. Write ROUND(CAST(… AS DOUBLE), …)"
    return None


def _refuse_nested(shown: str, names: Sequence[str], tree: Any, types: Sequence[Any]) -> None:
    known = [dtype for dtype in types if dtype is not None and not isinstance(dtype, pl.Null)]
    operator = tree["BinaryExpr"]["op"] if "BinaryExpr" in tree else ""  # functions of binary data have that name, too
    if operator in _ARITHMETIC or _ARITHMETIC_FUNCTIONS.intersection(names):
        for dtype in known:
            if dtype.is_nested():
                raise CalculationError(_arithmetic_message(shown, tree, dtype))
    if operator or _CHOOSING.intersection(names):
        _refuse_other_kinds(shown, tree, known)
    if _LISTS.intersection(names):
        values = known[:2] if names[0] == "ReplaceStrict" else known
        _refuse_other_kinds(shown, tree, [getattr(dtype, "inner", dtype) for dtype in values], objects=True)


def _arithmetic_message(shown: str, tree: Any, dtype: Any) -> str:
    if isinstance(dtype, pl.Struct):
        name = dtype.fields[0].name if dtype.fields else "name"
        what = f"an object. Name its member, as in o.{name} in SQL, or in Python .struct.field({name!r}); .struct."
        what += f"with_fields(pl.field({name!r}) * 2) computes with members and keeps the object"
    else:
        way = "list" if isinstance(dtype, pl.List) else "arr"
        what = f"a whole list. In Python, .{way}.eval(pl.element() * 2) computes with each element; SQL has no way"
    return f"{shown} does arithmetic on {dtype} in {show(expression(tree))}, {what}"


def _refuse_other_kinds(shown: str, tree: Any, types: Sequence[Any], *, objects: bool = False) -> None:
    """Raise if an object or a list is beside something else; `objects` stands for objects alone."""
    for one, other in itertools.combinations(types, 2):
        kinds = _kind(one), _kind(other)
        if kinds[0] != kinds[1] and ("object" if objects else "") in kinds[0] + kinds[1]:
            raise CalculationError(
                f"{shown} mixes {one} with {other} in {show(expression(tree))}: a result is either {kinds[0]} or "
                f"{kinds[1]}. Name a member or an element, or make both of the same kind"
            )
        if kinds == ("a list", "a list"):
            _refuse_other_kinds(shown, tree, [one.inner, other.inner], objects=objects)


def _kind(dtype: Any) -> str:
    if isinstance(dtype, pl.Struct):
        return "an object"
    return "a list" if dtype.is_nested() else "a single value"


def widened(part: Part) -> Any:
    """Return the tree of a part as Int128."""
    match part.tree:
        case {"Literal": {"Dyn": {"Int": value}}}:
            return scalar("Int128", value)
    return part.tree if isinstance(part.dtype, pl.Int128) else cast_to(part.tree, "Int128")


def in_floats(part: Part, wide: Any) -> Any:
    """Return the tree of a part as a float, from its tree as Int128."""
    return as_float(part, pl.Float64()) if "Literal" in part.tree else cast_to(wide, "Float64")


def as_float(part: Part, dtype: pl.DataType) -> Any:
    """Return the tree of a part as a float of a type."""
    match part.tree:
        case {"Literal": {"Dyn": {"Int": value}} | {"Scalar": {"Int128": value}}}:
            return scalar(str(dtype), float(integer(value)))
    return part.tree if part.dtype == dtype and "Literal" not in part.tree else cast_to(part.tree, str(dtype))


def magnitude(part: Part) -> Any:
    """Return a float that is at least the magnitude of a part, apart from rounding."""
    if part.bound is None:
        return call("Abs", in_floats(part, widened(part)))
    return part.magnitude


def is_zero(tree: Any) -> bool:
    """Return whether a tree is the literal 0."""
    match tree:
        case {"Literal": {"Dyn": {"Int": value} | {"Float": value}} | {"Scalar": {"Float64": value}}}:
            return not any(value) if isinstance(value, bytes) else not value
    return False


def is_negative(exponent: Any) -> bool:
    """Return whether an exponent in SQL is a negative integer, of which the power is a float."""
    match exponent:
        case {"Function": {"function": {"Sql": "ToFloat"}, "input": [{"Literal": {"Dyn": {"Int": value}}}]}}:
            return integer(value) < 0
    return False


def sum_in_floats(total: Any, magnitudes: Any) -> Any:
    """Return a float of at least the magnitude of a sum of integers; what is on the way to the sum does not matter."""
    return operation(call("Abs", total), "Plus", operation(magnitudes, "Multiply", scalar("Float64", _ROUNDING)))


_ROUNDING = 2.0**-24
"""More than the share of the sum of magnitudes by which a sum of floats is wrong, for as many as a line can hold."""
_VALUES_OF_RANGE = 10_000_000
_NEGATIVE_POWER = (
    "an integer has no integer as its negative power; convert it, as in POWER(CAST(a AS DOUBLE), b) or "
    "a.cast(pl.Float64) ** b"
)
_LONG_RANGE = f"a range of more than {_VALUES_OF_RANGE:,} values"
LONGEST = 10_000_000
"""The largest length to which texts are padded, and the largest number of repetitions of a value."""
_TOO_LONG = f"a text is padded, or a value is repeated, to a length of more than {LONGEST:,}"


def check_range(tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return a range of integers with a check for rows on which it would have more values than memory can hold."""
    if not all(part.dtype is not None and part.dtype.is_integer() for part in parts):
        return None
    start, stop, step = (cast_to(part.tree, "Float64") for part in parts)
    upward = operation(operation(stop, "Gt", start), "Eq", operation(step, "Gt", scalar("Float64", 0.0)))
    count = call("Abs", operation(operation(stop, "Minus", start), "TrueDivide", step))
    many = operation(at_least(count, _VALUES_OF_RANGE), "And", upward)
    return Part(tree, type_of(tree, parts), checks=(Check(many, (many,), reason=_LONG_RANGE),))


def check_power(exponent: Any) -> Check:
    """Return the check of the exponent of an integer, as an integer."""
    negative = operation(exponent, "Lt", scalar("Int128", 0))
    return Check(negative, (negative,), reason=_NEGATIVE_POWER)


def check_length(tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return a padded text or a repeated value of limited length, with a check for the rows on which it is longer.

    polars ends the process if memory cannot hold the result. The limit also holds where no row is checked, as for
    constants.
    """
    text, length, *rest = parts
    if length.dtype is None or not length.dtype.is_numeric() or not may_be_long(length.tree):
        return None
    floats = length.dtype.is_float()
    wide = as_float(length, pl.Float64()) if floats else widened(length)
    limit = scalar("Float64", float(LONGEST)) if floats else scalar("Int128", LONGEST)
    limited = call({"Clip": {"has_min": False, "has_max": True}}, wide, limit)
    longer = operation(wide, "Gt", limit)
    made = with_inputs(tree, [text.tree, limited, *(part.tree for part in rest)])
    return Part(made, type_of(tree, parts), checks=(Check(longer, (longer,), reason=_TOO_LONG),))


def may_be_long(length: Any) -> bool:
    """Return whether a length may be beyond the limit; a literal within it is not."""
    match length:
        case {"Literal": {"Dyn": {"Int": value}} | {"Scalar": {"Int128": value}}}:
            return integer(value) > LONGEST
    return True


def small(tree: Any) -> Any:
    """Return the tree of an integer of 0 to 9 of the same type, which may be unsigned."""
    return operation(tree, "Modulus", {"Literal": {"Dyn": {"Int": 10}}})


def digits_of(tree: Any) -> int:
    """Return the number of digits of ROUND in SQL."""
    digits = int(tree["Function"]["function"]["Sql"]["Round"]["decimals"])
    return NEGATIVE_DIGITS - digits if digits >= NEGATIVE_DIGITS else digits
