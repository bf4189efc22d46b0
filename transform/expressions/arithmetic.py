"""Arithmetic as Python and SQL define it, where polars computes something else. Start with `with_exact_arithmetic`.

- Integers, and booleans among numbers, are computed as Int128; polars would compute in the narrow types that functions
  such as `dt.month()` give. It wraps silently beyond Int128, so `Overflow` finds the rows where that happens.
- Floats are divided as IEEE 754 defines it: polars multiplies by the reciprocal of a constant, and of a column of one
  value. `%` and `//` of floats are computed with numpy, as Python computes them, and ROUND as in DuckDB.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl

from transform.errors import CalculationError
from transform.expressions.operands import (
    as_float,
    check_length,
    check_power,
    check_range,
    digits_of,
    in_floats,
    is_negative,
    is_zero,
    magnitude,
    may_be_long,
    refuse_operands,
    small,
    sum_in_floats,
    widened,
)
from transform.expressions.rewrite import BOUND, Check, Part, Rewriting, names_of, type_of, walk, with_inputs
from transform.expressions.temporal import check_times
from transform.expressions.tree import at_least, call, cast_to, expression, integer, load, operation, scalar, show

_BEYOND = 2.0**127 * (1 - 2.0**-48)
"""Where the result of one operation on two exact values counts as beyond Int128: floats round in the 16th digit."""

_OPERATORS = {
    "Plus": "+",
    "Minus": "-",
    "Multiply": "*",
    "TrueDivide": "/",
    "FloorDivide": "//",
    "Modulus": "%",
    "Mul": "*",
    "Div": "/",
    "IntDiv": "truncated",
    "TruncDivide": "truncated",
    "Rem": "remainder",
}
"""The operators of polars, in Python and in SQL; SQL divides integers toward zero."""
_NATIVE = {"+": "Plus", "-": "Minus", "*": "Multiply", "//": "FloorDivide", "%": "Modulus", "truncated": "TruncDivide"}
_DIGITS = 38
"""The largest power of ten in Int128. Half of the next is beyond it, and so everything is rounded to 0."""
_LENGTHENING = {"RepeatBy", "StringExpr.PadEnd", "StringExpr.PadStart", "StringExpr.ZFill"}
"""The functions whose second argument is the length of the result."""
_PRECISION_IN_PYTHON = 38
"""The precision of a decimal literal that is made of a Decimal of Python; SQL gives each only as much as it needs."""


def with_exact_arithmetic(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> tuple[pl.Expr, list[Check]]:
    """Return a row-wise expression with its arithmetic replaced by exact arithmetic, and the checks for `Overflow`."""
    rewriting = Rewriting(schema, functools.partial(_replacement, show(expr)))
    tree, checks = rewriting.rewrite(load(expr))
    return expression(tree) if rewriting.changed else expr, checks


def _replacement(shown: str, names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return what replaces a part of an expression, None if it remains; raise if it cannot take its operands."""
    refuse_operands(shown, names, tree, [part.dtype for part in parts[names[0] == "Ternary" :]])
    if _OPERATORS.get(_operator_of(names, tree)) == "*" and (made := _longer(*parts)):
        return made
    return check_times(shown, names, tree, parts) or _arithmetic(names, tree, parts)


def _arithmetic(names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return what replaces an operator, a function or an aggregate; None if it remains."""
    types = [part.dtype for part in parts]
    if names[-1] in ("ListExpr.Sum", "ArrayExpr.Sum"):
        return _sum_of_list(tree, parts[0])
    if names[-1] == "Range.IntRanges":
        return check_range(tree, parts)
    if _LENGTHENING.intersection(names):
        return check_length(tree, parts)
    if not types or not all(dtype is not None and (_is_integer(dtype) or dtype.is_float()) for dtype in types):
        return None
    operator = _OPERATORS.get(_operator_of(names, tree))
    if any(dtype.is_float() for dtype in types):
        return _with_floats(operator, names, tree, parts)
    if operator:
        return _of_integers(operator, *parts)
    return _widening(names, tree, parts) or _function_of_integers(names, tree, parts)


def _with_floats(operator: str | None, names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return what replaces an operator or a function of which some inputs are floats; None if it remains."""
    # polars takes x + 0 for x, which is wrong for -0.0
    if operator in ("+", "-", "*") and not any(is_zero(part.tree) for part in parts):
        made = operation(parts[0].tree, _NATIVE[operator], parts[1].tree)
        return Part(made, type_of(made, parts))
    if operator:
        return _of_floats(operator, *parts)
    first = parts[0].dtype
    match names[-1]:
        case "Pow.Generic":  # polars multiplies for constant exponents, which rounds several times
            return _of_floats("pow", *parts)
        case "Clip.has_min" if not first.is_float():
            return Part(with_inputs(tree, [as_float(part, pl.Float64()) for part in parts]), pl.Float64())
        case "Sql.Round":
            return Part(_computed("round", first, parts[0].tree, digits=digits_of(tree)), first)
    return None


def _longer(left: Part, right: Part) -> Part | None:
    """Return the product of a literal interval and an integer in microseconds, which reach as far as timestamps do.

    polars has such a literal in nanoseconds, whose product wraps around after 292 years; this one fails beyond 64 bits.
    """
    if isinstance(right.dtype, pl.Duration):
        left, right = right, left
    if right.dtype is None or not right.dtype.is_integer():
        return None
    match left.tree:
        case {"Literal": {"Scalar": {"Duration": [int(value), "Nanoseconds"]}}} if value % 1000 == 0:
            product = _of_integers("*", Part(scalar("Int128", value // 1000), pl.Int128()), right)
            made = cast_to(product.tree, {"Duration": "Microseconds"})
            return replace(product, tree=made, dtype=pl.Duration("us"))
    return None


def _operator_of(names: Sequence[str], tree: Any) -> str:
    if tuple(names) == ("BinaryExpr",):  # the functions of binary values are called so, too
        return str(tree["BinaryExpr"]["op"])
    return str(tree["Function"]["function"]["Sql"]["Binary"]) if names[-1] == "Sql.Binary" else ""


def _of_integers(operator: str, left: Part, right: Part) -> Part:
    """Return an operation on integers: exact, or found by the conditions in `beyond`."""
    if operator == "/":
        return _of_floats(operator, left, right)
    x, y = widened(left), widened(right)
    if operator == "remainder":
        return Part(call({"Sql": {"Binary": "Rem"}}, x, y), pl.Int128())
    made = operation(x, _NATIVE[operator], y)
    if operator in ("%", "truncated"):
        return Part(made, pl.Int128())  # polars raises an error if truncated division overflows
    f, g = in_floats(left, x), in_floats(right, y)
    if operator in ("+", "-"):
        total = operation(left.total or f, _NATIVE[operator], right.total or g)
        bound = operation(magnitude(left), "Plus", magnitude(right))
        return Part(made, pl.Int128(), bound, beyond=left.beyond + right.beyond, total=total)
    by_zero = operation(g, "Eq", scalar("Float64", 0.0))  # which gives null
    divisor = {"Ternary": {"predicate": by_zero, "truthy": scalar("Float64", 2.0**127), "falsy": g}}
    again = operation(f, "TrueDivide", divisor) if operator == "//" else operation(f, "Multiply", g)
    beyond = (*left.conditions, *right.conditions, at_least(call("Abs", again), _BEYOND))
    if operator == "//":
        return Part(made, pl.Int128(), operation(magnitude(left), "Plus", magnitude(right)), beyond=beyond)
    signed = any(part.signed or part.bound is None for part in (left, right))
    return Part(made, pl.Int128(), operation(left.bound or f, "Multiply", right.bound or g), signed, beyond)


def _widening(names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return what replaces a function of integers whose result is in the range of Int128 as they are."""
    whole = all(part.dtype.is_integer() for part in parts)
    operator = tree["BinaryExpr"]["op"] if names[0] == "BinaryExpr" else names[-1]
    if (operator in ("And", "Or", "Xor", "Boolean.Not") and whole) or operator == "Clip.has_min":
        return Part(with_inputs(tree, [widened(part) for part in parts]), pl.Int128())
    match names[-1]:
        case "MeanHorizontal.ignore_nulls":
            return _mean(tree, parts)
        case "Sql.Round" if digits_of(tree) >= 0:
            return parts[0]
        case "Sql.Round" if (digits := digits_of(tree)) < -_DIGITS:
            return Part(_computed("round integers", pl.Int128(), widened(parts[0]), digits=digits), pl.Int128())
    return None


def _function_of_integers(names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return what replaces a function or an aggregate of integers; None if it remains."""
    part, wide = parts[0], [widened(part) for part in parts]
    floats = [in_floats(part, tree) for part, tree in zip(parts, wide, strict=True)]
    beyond = tuple(condition for part in parts for condition in part.conditions)
    match names[-1]:
        case "Negate":
            return _of_integers("*", part, Part(scalar("Int128", -1), pl.Int128()))
        case "Agg.Sum" | "CumSum.reverse":
            bound = with_inputs(tree, [magnitude(part)])
            again = sum_in_floats(with_inputs(tree, [floats[0]]), with_inputs(tree, [call("Abs", floats[0])]))
        case "Abs" | "Product" | "CumProd.reverse":
            bound, again = with_inputs(tree, [magnitude(part)]), with_inputs(tree, [call("Abs", floats[0])])
        case "SumHorizontal.ignore_nulls":
            bound, again = with_inputs(tree, [magnitude(part) for part in parts]), with_inputs(tree, floats)
        case "Diff.Ignore" | "Diff.Drop":
            largest = {"Agg": {"Max": {"input": magnitude(part), "propagate_nans": False}}}
            bound, again = operation(largest, "Plus", largest), with_inputs(tree, [floats[0], parts[1].tree])
            wide[1] = parts[1].tree
        case "Pow.Generic":
            bound, again = with_inputs(tree, [magnitude(part), floats[1]]), with_inputs(tree, floats)
        case "Sql.Round":
            digits = digits_of(tree)
            tree, wide = _computed("round integers", pl.Int128(), wide[0], digits=digits), []
            unit = scalar("Float64", float(f"1e{-digits}"))
            bound, again = (operation(x, "Plus", unit) for x in (magnitude(part), call("Abs", floats[0])))
        case _:
            return None
    beyond = (*beyond, at_least(call("Abs", again), BOUND))
    checks = (check_power(wide[1]),) if names[0] == "Pow" else ()
    return Part(with_inputs(tree, wide), pl.Int128(), bound, beyond=beyond, checks=checks)


def _sum_of_list(tree: Any, part: Part) -> Part | None:
    inner = getattr(part.dtype, "inner", None)
    if inner is None or not inner.is_integer():
        return None
    kind = {"List": "Int128"} if isinstance(part.dtype, pl.List) else {"Array": ["Int128", part.dtype.size]}
    wide = part.tree if isinstance(inner, pl.Int128) else cast_to(part.tree, kind)
    floats = cast_to(part.tree, {"List": "Float64"})
    each = {"expr": floats, "evaluation": call("Abs", "Element"), "variant": "List"}
    bound = call({"ListExpr": "Sum"}, {"Eval": each})
    again = sum_in_floats(call({"ListExpr": "Sum"}, floats), bound)
    return Part(with_inputs(tree, [wide]), pl.Int128(), bound, beyond=(at_least(again, BOUND),))


def _mean(tree: Any, parts: Sequence[Part]) -> Part:
    """Return the mean of integers, from their exact sum."""
    function = {"SumHorizontal": tree["Function"]["function"]["MeanHorizontal"]}
    made = call(function, *(part.tree for part in parts))
    total = cast("Part", _function_of_integers(names_of(made), made, parts))
    given = [cast_to(call({"Boolean": "IsNotNull"}, part.tree), "Float64") for part in parts]
    count = call({"SumHorizontal": {"ignore_nulls": True}}, *given)
    some = operation(count, "Gt", scalar("Float64", 0.0))
    mean = _of_floats("/", total, Part(count, pl.Float64())).tree
    nothing = load(pl.lit(None, pl.Float64))
    chosen = {"Ternary": {"predicate": some, "truthy": mean, "falsy": nothing}}
    return Part(chosen, pl.Float64(), total.magnitude, beyond=total.conditions)


def _of_floats(operator: str, left: Part, right: Part) -> Part:
    """Return a division of which at least one operand is a float, or whose result is one."""
    narrow = all(isinstance(part.dtype, pl.Float32) or "Literal" in part.tree for part in (left, right))
    dtype = pl.Float32() if narrow and pl.Float32 in (left.dtype, right.dtype) else pl.Float64()
    return Part(_computed(operator, dtype, *(as_float(part, dtype) for part in (left, right))), dtype)


def _is_integer(dtype: Any) -> bool:
    return bool(dtype.is_integer() or isinstance(dtype, pl.Boolean))


def _computed(function: str, dtype: pl.DataType, *inputs: Any, digits: int = 0) -> Any:
    return with_inputs(_template(function, dtype, digits, len(inputs)), inputs)


@functools.lru_cache(maxsize=100)
def _template(function: str, dtype: pl.DataType, digits: int, inputs: int) -> Any:
    compute = functools.partial(_compute, function, digits)
    return load(pl.map_batches(["x"] * inputs, compute, return_dtype=dtype, is_elementwise=True))


def _compute(function: str, digits: int, columns: Sequence[pl.Series]) -> pl.Series:
    """Compute a function of columns; one of a single value stands for a constant."""
    if function == "round integers":
        return _round_integers(columns[0], -digits)
    arrays = [column.to_numpy() for column in columns]
    with np.errstate(all="ignore"):
        values = _round(arrays[0], digits) if function == "round" else _FUNCTIONS[function](*arrays)
    missing = np.zeros(values.shape, bool)
    if function in _NULL_BY_ZERO:
        missing |= arrays[1] == 0
    for column in columns:
        if column.null_count():
            missing |= column.is_null().to_numpy()
    result = pl.Series(columns[0].name, values.astype(arrays[0].dtype, copy=False))
    return result.set(pl.Series(missing), None) if missing.any() else result


def _truncated(x: Any, y: Any) -> Any:
    return np.rint((x - np.fmod(x, y)) / y)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.remainder,
    "truncated": _truncated,
    "remainder": np.fmod,
    "pow": np.float_power,  # np.power computes with vectors, which gives other last digits
}
_NULL_BY_ZERO = {"//", "%", "truncated", "remainder"}


def _round(x: Any, digits: int) -> Any:
    """Round floats half away from zero, scaled as DuckDB does; what leaves the range of floats then is unchanged."""
    scale = float(f"1e{abs(digits)}")
    scaled = x / scale if digits < 0 else x * scale
    whole = np.trunc(scaled)
    whole += np.copysign(np.abs(scaled - whole) >= 0.5, scaled)
    rounded = whole * scale if digits < 0 else whole / scale
    return np.where(np.isfinite(rounded), rounded, np.where(np.isfinite(x) & (digits < 0), 0.0, x))


def _round_integers(x: pl.Series, places: int) -> pl.Series:
    """Round integers half away from zero to a power of ten."""
    if places > _DIGITS:
        return x * pl.Series([0], dtype=pl.Int128)
    unit = pl.Series([10**places], dtype=pl.Int128)
    above = x % unit
    half = unit // 2
    up = (above > half) | ((above == half) & (x >= 0))
    return x - above + up.cast(pl.Int128) * unit


def sql_literals(expr: pl.Expr, *, every: bool = False) -> pl.Expr:
    """Return an expression with doubles and integers in place of the decimals that polars makes of literals in SQL.

    This is one of three places. `sql.read` spells decimals as doubles before polars parses the text, as polars
    computes with literals at once: `0.1 + 0.2` would be a decimal. `parse_sql` replaces those that are left, in lists
    and series (`x IN (1.5, 2)`), with `every`. The evaluation does so without it, for expressions that `pl.sql_expr`
    made in Python, where decimals may be meant.

    A literal that is cast to a decimal type stays a decimal, and so do decimals that may come from Python, unless
    `every` part was written in SQL.
    """
    try:
        top = [load(expr)]
    except CalculationError:
        return expr  # `check_row_wise` raises the error
    changed = False
    for within, key, above in walk(top):
        tree = within[key]
        if names_of(tree) == ("Pow", "Pow.Generic") and is_negative(exponent := tree["Function"]["input"][1]):
            value = exponent["Function"]["input"][0]["Literal"]["Dyn"]["Int"]
            exponent["Function"]["input"][0] = scalar("Float64", float(integer(value)))
            changed = True
        elif "Literal" in tree and not (above.kind == "Cast" and "Decimal" in str(above.body["dtype"])):
            within[key] = _sql_literal(tree, sql=every or above.names()[:1] == ("Sql",))
            changed |= within[key] is not tree
    return expression(top[0]) if changed else expr


def without_negation(expr: pl.Expr) -> pl.Expr:
    """Return an expression that checks can evaluate: polars does not negate Int128, and has no memory for long results.

    Each negation becomes a product with -1. The limits of ranges and the lengths of padded texts are made small: they
    may be differences of unsigned integers, which polars wraps around. `LENGTH(s) - 2` is 4 billion if `s` is short.
    """
    try:
        top = [load(expr)]
    except CalculationError:
        return expr  # `check_row_wise` raises the error
    changed = False
    for within, key, _ in walk(top):
        match within[key]:
            case {"Function": {"input": [value], "function": "Negate"}}:
                within[key] = operation(value, "Multiply", {"Literal": {"Dyn": {"Int": -1}}})
                changed = True
            case {"Function": {"input": [start, stop, *rest], "function": {"Range": {"IntRanges": _}} as function}}:
                within[key] = call(function, small(start), small(stop), *rest)
                changed = True
            case {"Function": {"input": [value, length, *rest], "function": function}} if may_be_long(
                length
            ) and _LENGTHENING.intersection(names_of(within[key])):
                within[key] = call(function, value, small(length), *rest)
                changed = True
    return expression(top[0]) if changed else expr


def _sql_literal(literal: Any, *, sql: bool) -> Any:
    """Return what replaces a literal of SQL, the same if nothing does."""
    match literal["Literal"]:
        case {"Scalar": {"Decimal": [unscaled, precision, scale]}} if sql or precision < _PRECISION_IN_PYTHON:
            if not scale:
                return {"Literal": {"Scalar": {"Int128": unscaled}}}
            return {"Literal": {"Scalar": {"Float64": integer(unscaled) / 10**scale}}}  # rounded once
        case {"Series": _} | {"Scalar": {"List": _}} if sql:
            values = pl.select(expression(literal)).to_series()
            inner = getattr(values.dtype, "inner", values.dtype)
            if isinstance(inner, pl.Decimal):
                kind, dtype = (float, pl.Float64) if inner.scale else (int, pl.Int128)
                numbers = pl.Series([v if v is None else kind(v) for v in values.explode()], dtype=dtype)
                if "Scalar" in literal["Literal"]:
                    return load(pl.lit(numbers.to_list()))
                return load(pl.lit(numbers.implode() if values.dtype.is_nested() else numbers))
    return literal
