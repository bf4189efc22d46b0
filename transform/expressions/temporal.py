"""Checks of dates, times and durations, which polars lets wrap around. Start with `check_times`.

They are made before any row is read. Each computes in floats what polars computes in 32 or 64 bits, and rejects the
rows where that does not fit.
"""

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions.rewrite import Check, Part, type_of, with_inputs
from transform.expressions.tree import at_least, call, cast_to, expression, operation, scalar, show

_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400
_LAST_DAY = 95_026_236.0
"""The days from 1970 to the last date that can be written, 262142-12-31; the first one is a little further."""
_BEYOND_64_BITS = 2.0**63 * (1 - 2.0**-40)
_OPERATORS = {"Plus", "Minus", "Multiply", "TrueDivide", "Mul", "Div"}
_COUNTS = {f"TemporalExpr.{name}": name for name in ("TimeStamp", "TotalNanoseconds", "TotalMicroseconds")}
_DURATION_S = (7 * _DAY_S, _DAY_S, 3600, 60, 1, 1e-3, 1e-6, 1e-9)
"""The inputs of pl.duration, in seconds: weeks, days, hours, minutes, seconds, milli-, micro- and nanoseconds."""
_COMPONENTS = ((-262_143, 262_142), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59), (0, 999_999))
"""The ranges of the year, month, day, hour, minute, second and microsecond of a date and time."""
_YEARS_IN_NS = (1678, 2261)
_OFFSET = re.compile(r"(\d+)(ns|us|ms|mo|s|m|h|d|w|q|y)")
_OFFSET_DAYS = {"y": 366, "q": 92, "mo": 31, "w": 7, "d": 1, "h": 1 / 24, "m": 1 / 1440, "s": 1 / _DAY_S}
_SHORTER_THAN_DAYS = {"h": 24, "m": 1440, "s": _DAY_S, "ms": _DAY_S * 10**3, "us": _DAY_S * 10**6, "ns": _DAY_S * 10**9}
_DAYS_IN_NS = 106_751
_BEYOND = "a date, a time or a duration is beyond its range"
_NO_SUCH = "there is no such date or time"
_HOURS = (
    "a date has no hours; to add or subtract parts of a day, make it a timestamp first, with CAST(… AS TIMESTAMP) or, "
    "in Python, .cast(pl.Datetime)"
)


def check_times(shown: str, names: Sequence[str], tree: Any, parts: Sequence[Part]) -> Part | None:
    """Return a part with the check of its dates, times or durations, None if it needs none.

    Raises:
        CalculationError: It adds parts of a day to a date, which polars ignores.
    """
    types = [part.dtype for part in parts]
    if None in types or not types or names[-1] == "Ternary":
        return None
    known = names[0] in ("TemporalExpr", "Cast") or _parses_ns(tree)
    if not known and not any(dtype.is_temporal() for dtype in types):
        return None
    if names[-1] in _COUNTS:
        return _count(_COUNTS[names[-1]], tree, parts[0])
    result = type_of(tree, parts)
    conditions = [] if result is None else _conditions(shown, names, tree, parts, result)
    if not conditions:
        return None
    return Part(tree, result, checks=tuple(Check(found, (found,), reason=reason) for found, reason in conditions))


def _conditions(
    shown: str, names: Sequence[str], tree: Any, parts: Sequence[Part], result: Any
) -> list[tuple[Any, str]]:
    """Return the conditions for which a row is rejected, each with the reason."""
    match names[-1]:
        case "BinaryExpr" | "Sql.Binary":
            return _of_operator(tree, parts, result)
        case "Agg.Sum" | "CumSum.reverse" | "SumHorizontal.ignore_nulls" if isinstance(result, pl.Duration):
            total = with_inputs(tree, [call("Abs", _in_unit_of(part, result)) for part in parts])
            return [(at_least(total, _BEYOND_64_BITS), _BEYOND)]
        case "TemporalExpr.OffsetBy":
            return _of_offset(shown, tree, parts)
        case "TemporalExpr.Duration":
            seconds = [_times(cast_to(p.tree, "Float64"), unit) for p, unit in zip(parts, _DURATION_S, strict=True)]
            total = call({"SumHorizontal": {"ignore_nulls": True}}, *(call("Abs", part) for part in seconds))
            return [(at_least(total, _BEYOND_64_BITS / _PER_SECOND[result.time_unit]), _BEYOND)]
        case "TemporalExpr.DatetimeFunction":
            return _of_components(parts, result)
        case "TemporalExpr.Replace":
            return _of_components(parts[1:], result)
        case "Cast" | "TemporalExpr.CastTimeUnit":
            return _of_cast(parts[0], result)
    return _of_parsing(tree) if _parses_ns(tree) else []


def _of_operator(tree: Any, parts: Sequence[Part], result: Any) -> list[tuple[Any, str]]:
    operator = tree["BinaryExpr"]["op"] if "BinaryExpr" in tree else tree["Function"]["function"]["Sql"]["Binary"]
    operator = {"Mul": "Multiply", "Div": "TrueDivide"}.get(operator, operator)
    if operator not in _OPERATORS or not result.is_temporal() or len(parts) != 2:
        return []
    values = [_physical(part) if not part.dtype.is_temporal() else _in_unit_of(part, result) for part in parts]
    made = call("Abs", operation(values[0], operator, values[1]))
    if operator == "TrueDivide":  # by zero, polars gives null
        by_zero = operation(values[1], "Eq", scalar("Float64", 0.0))
        made = {"Ternary": {"predicate": by_zero, "truthy": scalar("Float64", 0.0), "falsy": made}}
    days = [part for part in parts if isinstance(part.dtype, pl.Duration)]
    if isinstance(result, pl.Date) and days:
        unit = _per_day(days[0].dtype)
        rest = operation(cast_to(days[0].tree, "Int64"), "Modulus", scalar("Int64", unit))
        return [(at_least(made, _limit(result)), _BEYOND), (operation(rest, "NotEq", scalar("Int64", 0)), _HOURS)]
    factors = [_physical(part) for part in parts if part.dtype.is_numeric()]  # null, if they are beyond 64 bits
    return [
        (at_least(made, _limit(result)), _BEYOND),
        *((at_least(call("Abs", factor), _BEYOND_64_BITS), _BEYOND) for factor in factors),
    ]


def _of_offset(shown: str, tree: Any, parts: Sequence[Part]) -> list[tuple[Any, str]]:
    """Return the conditions of an offset such as `-1mo12h`; one that is no literal is not checked."""
    match parts[1].tree:
        case {"Literal": {"Scalar": {"String": str(text)}}}:
            pass
        case _:
            return []
    given = [(int(number), unit) for number, unit in _OFFSET.findall(text)]
    if isinstance(parts[0].dtype, pl.Date) and any(
        number % _SHORTER_THAN_DAYS[unit] for number, unit in given if unit in _SHORTER_THAN_DAYS
    ):
        raise CalculationError(f"{shown} adds `{text}` to a date in {show(expression(tree))}: {_HOURS}")
    if sum(number / _SHORTER_THAN_DAYS[unit] for number, unit in given if unit in _SHORTER_THAN_DAYS) >= _DAYS_IN_NS:
        raise CalculationError(
            f"{shown} adds `{text}` in {show(expression(tree))}, which is too much in nanoseconds; write it in days"
        )
    days = sum(number * _OFFSET_DAYS.get(unit, 0.0) for number, unit in given)
    units = scalar("Float64", float(days * _per_day(parts[0].dtype)))
    after = operation(_physical(parts[0]), "Minus" if text.startswith("-") else "Plus", units)
    return [(at_least(call("Abs", after), _limit(parts[0].dtype)), _BEYOND)]


def _of_components(parts: Sequence[Part], result: Any) -> list[tuple[Any, str]]:
    """Return the conditions of the parts of a date and time, polars makes null of those that are too large."""
    conditions = []
    in_ns = getattr(result, "time_unit", None) == "ns"
    for part, (least, most) in zip(parts, _COMPONENTS, strict=False):
        if part.dtype.is_numeric():
            first, last = _YEARS_IN_NS if in_ns and least < 0 else (least, most)
            value = cast_to(part.tree, "Float64")
            conditions += [
                (operation(value, "Lt", scalar("Float64", float(first))), _NO_SUCH),
                (operation(value, "Gt", scalar("Float64", float(last))), _NO_SUCH),
            ]
    return conditions


def _of_cast(part: Part, result: Any) -> list[tuple[Any, str]]:
    finer = isinstance(part.dtype, pl.Duration) and isinstance(result, pl.Duration)
    if (finer and _per_day(result) > _per_day(part.dtype)) or (
        part.dtype.is_numeric() and isinstance(result, pl.Date | pl.Datetime)
    ):
        value = _in_unit_of(part, result) if finer else cast_to(part.tree, "Float64")
        return [(at_least(call("Abs", value), _limit(result)), _BEYOND)]
    return []


def _parses_ns(tree: Any) -> bool:
    match tree:
        case {
            "Function": {"function": {"StringExpr": {"Strptime": [{"Literal": {"Datetime": ["Nanoseconds", _]}}, _]}}}
        }:
            return True
    return False


def _of_parsing(tree: Any) -> list[tuple[Any, str]]:
    """Return the condition that a text, parsed with microseconds, is beyond the range of nanoseconds."""
    dtype, options = tree["Function"]["function"]["StringExpr"]["Strptime"]
    coarse = [{"Literal": {"Datetime": ["Microseconds", dtype["Literal"]["Datetime"][1]]}}, options]
    parsed = call({"StringExpr": {"Strptime": coarse}}, *tree["Function"]["input"])
    value = call("Abs", cast_to(cast_to(parsed, "Int64"), "Float64"))
    return [(at_least(value, _BEYOND_64_BITS / 1000), _BEYOND)]


def _count(function: str, tree: Any, part: Part) -> Part | None:
    """Return an exact number of units since 1970 or in a duration, None if polars computes it."""
    name = tree["Function"]["function"]["TemporalExpr"][function]
    if isinstance(name, dict) and name.get("fractional"):
        return None
    unit = {"Nanoseconds": "ns", "Microseconds": "us"}.get(
        function.removeprefix("Total").capitalize() if isinstance(name, dict) else name
    )
    if unit is None or not isinstance(part.dtype, pl.Date | pl.Datetime | pl.Duration):
        return None
    factor = _PER_SECOND[unit] * _DAY_S // _per_day(part.dtype)
    if factor <= 1:
        return None
    value = cast_to(cast_to(part.tree, "Int64"), "Int128")
    return Part(operation(value, "Multiply", scalar("Int128", factor)), pl.Int128())


def _per_day(dtype: Any) -> int:
    """Return how many units of a type a day has."""
    return 1 if isinstance(dtype, pl.Date) else _DAY_S * _PER_SECOND[getattr(dtype, "time_unit", "ns")]


def _limit(dtype: Any) -> float:
    if isinstance(dtype, pl.Date | pl.Datetime):
        return min(_LAST_DAY * _per_day(dtype), _BEYOND_64_BITS)
    return _BEYOND_64_BITS


def _physical(part: Part) -> Any:
    """Return the tree of a part as a float: a number, or how many units of its type it is."""
    return cast_to(cast_to(part.tree, "Int64") if part.dtype.is_temporal() else part.tree, "Float64")


def _in_unit_of(part: Part, dtype: Any) -> Any:
    return _times(_physical(part), _per_day(dtype) / _per_day(part.dtype))


def _times(tree: Any, factor: float) -> Any:
    return operation(tree, "Multiply", scalar("Float64", float(factor)))
