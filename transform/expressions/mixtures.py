"""Values of types that do not go together: text beside numbers, objects as text, numbers as times. See `check_types`.

polars converts some of them silently, as `{"a":1}` into the text `{1}` or the number 12.5 into a time of 12
microseconds, and refuses others in words of its own. Both are refused here, with what to write instead.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions.rewrite import Part, Rewriting, type_of, with_inputs
from transform.expressions.tree import REFUSALS, expression, load, show
from transform.expressions.type_words import (
    element_of,
    has_object,
    has_other_members,
    in_quotes,
    in_sql,
    is_a,
    kind_of_type,
    literal_value,
    name_of,
    said,
    type_noun,
)

_COMBINING = {
    *("Atan2", "BinaryExpr", "Clip", "Coalesce", "FillNull", "MaxHorizontal", "MeanHorizontal", "MinHorizontal"),
    *("ListExpr.Concat", "ListExpr.SetOperation", "Replace", "ReplaceStrict", "Sql.Binary", "SumHorizontal"),
    *("ArrayExpr.Contains", "Boolean.IsIn", "ListExpr.Contains", "Sql.IsIn", "Ternary"),
    *("Boolean.IsBetween", "Boolean.IsClose"),
}
"""The functions that compare or combine their inputs."""
_LISTS = {
    **dict.fromkeys(("ArrayExpr.Contains", "ListExpr.Contains"), (0,)),
    **dict.fromkeys(("Boolean.IsIn", "Sql.IsIn"), (1,)),
    **dict.fromkeys(("Replace", "ReplaceStrict"), (1, 2)),
}
"""Those of them with inputs that are lists of values, with the places of these."""
_NUMERIC = {
    *("Abs", "Atan2", "Cbrt", "Ceil", "Exp", "Floor", "Log", "Log1p", "Negate", "Pow", "Round", "RoundSF", "Sign"),
    *("Sql.Round", "Sql.ToFloat", "Trigonometry", "Truncate"),
}
"""The functions of numbers, some of which would convert text."""
_JOINING = {"StringExpr.ConcatHorizontal", "StringExpr.Format"}
"""The functions that make text of all their inputs."""
_MADE_OF_NUMBERS = {"TemporalExpr.DatetimeFunction", "TemporalExpr.Duration"}
"""The functions that make times of numbers: `pl.datetime(year, …)` and `pl.duration(days=…)`."""
_ORDERING = {
    *("Agg.Max", "Agg.Min", "ArgMax", "ArgMin", "ArgSort", "CumMax", "CumMin", "MaxHorizontal", "MinHorizontal"),
    *("ListExpr.ArgMax", "ListExpr.ArgMin", "ListExpr.Max", "ListExpr.Min", "ListExpr.SetOperation", "ListExpr.Sort"),
    *("Rank", "SearchSorted", "Sort", "SortBy", "TopK", "TopKBy"),
}
"""The functions that order values, or the polars functions that fail on objects otherwise."""
_ORDERED_BY = {"SortBy": 1, "TopKBy": 2}
"""Those of them that order values by others, with the place of the first of these."""
_COMPARISONS = {"Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq", "EqValidity", "NotEqValidity"}
_OFFSETS = {"Plus", "Minus"}

_BY_MEMBER = "order them by a member, as in .list.eval(pl.element().sort_by(pl.element().struct.field('a')))"
_NULL = load(pl.lit(None))
_UNIT = "and there is no unit"
_NUMBER_OF_TIME = (
    f"{_UNIT} in the cast. In Python, .dt.timestamp('ms') gives the milliseconds since 1970, .dt.total_seconds() the "
    "seconds of a duration; in SQL, YEAR, HOUR and the like give parts of it"
)


def check_types(expr: pl.Expr, schema: Mapping[str, pl.DataType], *, text: str | None = None) -> None:
    """Raise if an expression compares, combines or converts values of types that do not go together.

    Args:
        expr: The expression.
        schema: The columns it is evaluated on.
        text: The SQL that it was made from, None if it is from Python. A cast between numbers and times has a unit in
            Python only: `pl.Datetime("ms")`.

    Raises:
        CalculationError: It does; the message says which value has which type, and what to write.
    """
    shown = show(expr) if text is None else f"`{text}`"
    check = functools.partial(_check, shown, sql=text is not None)
    try:
        Rewriting(schema, check).rewrite(load(expr))
    except REFUSALS:  # `check_row_wise` raises the error
        return


def _check(shown: str, names: Sequence[str], tree: Any, parts: Sequence[Part], *, sql: bool) -> None:
    reason = next(itertools.chain(_reasons(names, tree, parts, sql=sql), _of_function(names, parts)), None)
    if reason:
        for part in parts if sql else ():
            if name_of(part.tree) is None and "Literal" not in part.tree:  # whose SQL is not known
                reason = reason.replace(show(expression(part.tree)), "a value in it")
        raise CalculationError(f"{shown} is refused: {reason}")


def _reasons(names: Sequence[str], tree: Any, parts: Sequence[Part], *, sql: bool) -> Iterator[str]:
    if names[0] == "Ternary" and kind_of_type(parts[0].dtype) not in (None, "boolean"):
        yield f"{is_a(parts[0])}, not true or false: write a comparison as the condition, as in {in_sql(parts[0])} = 1"
    if names[0] == "Cast":
        yield from _of_cast(tree, parts[0], sql=sql)
        if has_other_members(parts[0].dtype, type_of(with_inputs(tree, [_NULL]), [])):
            yield f"{is_a(parts[0])} and cannot get other members by a cast; name them, with pl.struct(…)"
    if _COMBINING.intersection(names):
        parts = parts[1:] if names[0] == "Ternary" else parts
        given = [element_of(part) if place in _lists_of(names) else part for place, part in enumerate(parts)]
        for some in (given[:2], given[2:]) if names[0] == "ReplaceStrict" else (given,):
            for one, other in itertools.combinations(some, 2):
                yield from _of_pair(names, tree, one, other)


def _lists_of(names: Sequence[str]) -> tuple[int, ...]:
    return next((places for name, places in _LISTS.items() if name in names), ())


def _of_function(names: Sequence[str], parts: Sequence[Part]) -> Iterator[str]:
    """Yield why a function does not take values of some types."""
    if _JOINING.intersection(names):
        yield from (_as_text(part) for part in parts if kind_of_type(part.dtype) in ("object", "list"))
    elif names[0] == "StringExpr" and kind_of_type(parts[0].dtype) not in (None, "text"):
        yield _not_text(names, parts[0])
    if (
        names[0] == "TemporalExpr"
        and names[-1] not in _MADE_OF_NUMBERS
        and kind_of_type(parts[0].dtype) in ("text", "number", "boolean", "object", "list")
    ):
        yield _not_time(parts[0])
    if "StructExpr.RenameFields" in names:
        yield (
            f"{said(parts[0])} is renamed by the place of its members, and members have no order: name them, as in "
            "pl.struct(pl.col('o').struct.field('a').alias('x'))"
        )
    if _ORDERING.intersection(names):
        by = (
            part for part in parts[_ORDERED_BY.get(names[0], 0) :] if part.dtype is not None and has_object(part.dtype)
        )
        yield from (f"{is_a(part)}, and the members of objects have no order: {_BY_MEMBER}" for part in by)
    if _NUMERIC.intersection(names):
        for part in parts:
            if (kind := kind_of_type(part.dtype)) in ("text", "object", "list"):
                yield _to_number(part) if kind == "text" else _as_number(part)


# --- what to write ----------------------------------------------------------------------------------------------------


def _of_pair(names: Sequence[str], tree: Any, one: Part, other: Part) -> Iterator[str]:
    """Yield why two values cannot be compared or combined."""
    pair = {kind_of_type(part.dtype): part for part in (one, other)}
    operator = tree["BinaryExpr"]["op"] if tuple(names) == ("BinaryExpr",) else ""
    compared = not operator or operator in _COMPARISONS
    if (text := pair.get("text")) and (number := pair.get("number") or pair.get("boolean")):
        yield _text_and_number(text, number)
    elif text and (whole := pair.get("object") or pair.get("list")):
        if whole.dtype.is_(pl.List) or "ListExpr.Concat" not in names:
            yield _as_text(whole)
    elif text and "time" in pair and (operator in _OFFSETS or _is_choice(operator, names, tree)):
        yield f"{is_a(text)}, and {is_a(pair['time'])}. {_read_as_time(text, beside=pair['time'].dtype)}"
    elif "time" in pair and (number := pair.get("number") or pair.get("boolean")) and _is_choice(operator, names, tree):
        yield f"{is_a(number)}, and {is_a(pair['time'])}. {_time_of_number(number)}"
    elif "object" in pair and len(pair) > 1 and None not in pair:
        yield _as_number(pair["object"])
    elif "list" in pair and len(pair) > 1 and None not in pair and compared and "ListExpr.Concat" not in names:
        yield _as_number(pair["list"])
    elif one.dtype is not None and other.dtype is not None and _mix_within(one.dtype, other.dtype):
        yield f"{said(one)} holds text where {said(other)} holds numbers, or the other way round: {_CONVERT}"


def _is_choice(operator: str, names: Sequence[str], tree: Any) -> bool:
    """Return whether a function or an operator compares values, or returns one of them."""
    if "Sql.Binary" in names:
        return tree["Function"]["function"]["Sql"]["Binary"] in _SQL_COMPARISONS
    return not operator or operator in _COMPARISONS


_SQL_COMPARISONS = {"Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq"}
_CONVERT = "convert the text with CAST(… AS DOUBLE), TRY_CAST(… AS DOUBLE) or, in Python, .cast(pl.Float64)"


def _mix_within(one: Any, other: Any) -> bool:
    if hasattr(one, "inner") and hasattr(other, "inner"):
        return _mix_within(one.inner, other.inner)
    if isinstance(one, pl.Struct) and isinstance(other, pl.Struct):
        return any(_mix_within(f.dtype, g.dtype) for f, g in zip(one.fields, other.fields, strict=False))
    kinds = {kind_of_type(one), kind_of_type(other)}
    return "text" in kinds and bool(kinds & {"number", "boolean"})


def _text_and_number(text: Part, number: Part) -> str:
    found = f"{is_a(text)}, and {is_a(number)}"
    value = literal_value(text.tree)
    if value is None:
        return f"{found}. {_to_number(text, short=True)}; or write the other value as text, in quotes"
    if isinstance(number.dtype, pl.Boolean):
        return f"{found}. Write TRUE or FALSE without quotes; in Python, True or False"
    values = value if isinstance(value, list) else [value]
    column = in_sql(number)
    if all(isinstance(given, str) and _is_number(given) for given in values):
        shown = ", ".join(values)
        return f"{is_a(number)}, and the value is text: write {shown}, without quotes"
    return f"{found}. Write CAST({column} AS VARCHAR), in Python .cast(pl.String), to use it as text"


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(\.\d+)?", text))


def _to_number(text: Part, *, short: bool = False) -> str:
    column = in_sql(text)
    what = "" if short else f"{is_a(text)}. "
    return (
        f"{what}Convert the text with CAST({column} AS DOUBLE), or TRY_CAST({column} AS DOUBLE), which gives null for "
        "what is not a number; in Python, with .cast(pl.Float64)"
    )


def _as_number(part: Part) -> str:
    if kind_of_type(part.dtype) == "object":
        name = next((field.name for field in part.dtype.fields), "k")
        return (
            f"{is_a(part)}, and has no single value; name one of its members, as in {_member(part)}. In Python, "
            f".struct.with_fields(pl.field({name!r}) * 2) computes with members and keeps the object"
        )
    column = in_sql(part)
    return (
        f"{is_a(part)}; name one of its elements, as in {column}[1], or write ARRAY_CONTAINS({column}, 1). In Python, "
        ".list.get(0, null_on_oob=True) is one, and .list.eval(pl.element() * 2) computes with each "
        "element"
    )


def _member(part: Part) -> str:
    fields = getattr(part.dtype, "fields", [])
    name = fields[0].name if fields else "k"
    return f"{in_sql(part)}.{name} in SQL and .struct.field({name!r}) in Python"


def _as_text(part: Part) -> str:
    """Return why an object or a list does not become text."""
    if kind_of_type(part.dtype) == "object":
        return (
            f"{is_a(part)}, which is not text; name one of its members, as in {_member(part)}, or write "
            ".struct.json_encode() in Python"
        )
    column = in_sql(part)
    encoded = (
        ".list.eval(pl.element().struct.json_encode()).list.join(',')"
        if kind_of_type(getattr(part.dtype, "inner", None)) == "object"
        else ".list.eval(pl.element().cast(pl.String)).list.join(',')"
    )
    return (
        f"{is_a(part)}, which is not text; name one of its elements, as in {column}[1], or write "
        f"ARRAY_TO_STRING({column}, ','); in Python, {encoded}"
    )


def _not_text(names: Sequence[str], part: Part) -> str:
    kind = kind_of_type(part.dtype)
    if kind in ("object", "list"):
        if kind == "list" and names[-1] == "StringExpr.LenChars":
            return f"{is_a(part)}, not text: write ARRAY_LENGTH({in_sql(part)}), in Python .list.len()"
        return _as_text(part)
    if kind == "time":
        return (
            f"{is_a(part)}, not text: write STRFTIME({in_sql(part)}, '%Y-%m-%d'), in Python .dt.to_string('%Y-%m-%d')"
        )
    if "StringExpr.Strptime" in names:
        return f"{is_a(part)}, not text. {_time_of_number(part)}"
    return f"{is_a(part)}, not text: write CAST({in_sql(part)} AS VARCHAR), in Python .cast(pl.String)"


def _read_as_time(part: Part, target: Any = None, beside: Any = None) -> str:
    """Return how text becomes a time: of a type, or to stand beside one."""
    column = in_sql(part)
    if isinstance(value := literal_value(part.tree), str):
        name = {pl.Date: "DATE", pl.Time: "TIME", pl.Duration: "INTERVAL"}.get(type(beside), "TIMESTAMP")
        return f"Write {name} {in_quotes(value)} in SQL; in Python, a value of datetime"
    if isinstance(target, pl.Time):
        return f"Read it with its format: TIME({column}, '%H:%M:%S') in SQL, .str.to_time('%H:%M:%S') in Python"
    if isinstance(target, pl.Date):
        return f"Read it with its format: DATE({column}, '%Y-%m-%d') in SQL, .str.to_date('%Y-%m-%d') in Python"
    also = f" (or DATE({column}, '%Y-%m-%d'))" if target is None else ""
    return (
        f"Read it with its format: TIMESTAMP({column}, '%Y-%m-%dT%H:%M:%SZ'){also} in SQL, "
        ".str.to_datetime('%Y-%m-%dT%H:%M:%SZ') in Python"
    )


def _time_of_number(part: Part) -> str:
    """Return how a number becomes a time, "" for a boolean."""
    if isinstance(part.dtype, pl.Boolean):
        return "Write CASE WHEN … THEN … END with both times, in Python pl.when(…)"
    name = name_of(part.tree)
    column = f'pl.col("{"x" if name is None else name}")'
    return (
        f"Seconds since 1970 are TIMESTAMP '1970-01-01' + INTERVAL '1 second' * {in_sql(part)} in SQL, and "
        f"pl.from_epoch({column}, time_unit=\"s\") in Python; for milliseconds write INTERVAL '1 millisecond', "
        'time_unit="ms"'
    )


def _not_time(part: Part) -> str:
    kind = kind_of_type(part.dtype)
    if kind == "text":
        return f"{is_a(part)}, not a date or time. {_read_as_time(part)}"
    if kind in ("number", "boolean"):
        return f"{is_a(part)}, not a date or time. {_time_of_number(part)}"
    return _as_number(part)


# --- casts ------------------------------------------------------------------------------------------------------------


def _of_cast(tree: Any, part: Part, *, sql: bool) -> Iterator[str]:
    """Yield why a cast is refused."""
    target = type_of(with_inputs(tree, [_NULL]), [])
    if part.dtype is None or target is None:
        return
    source, to = part.dtype, target
    while kind_of_type(source) == "list" and kind_of_type(to) == "list":
        source, to = source.inner, to.inner
    inner = Part(part.tree, source)
    kind, wanted = kind_of_type(source), kind_of_type(to)
    if kind in ("object", "list") and wanted not in (kind, None):
        yield _as_text(part) if wanted == "text" else _as_number(inner)
    elif kind in ("number", "boolean") and wanted == "time":
        written = (source.is_integer() or _is_scaled(part.tree)) and not sql and not isinstance(to, pl.Time)
        if not written:
            unit = "" if kind == "boolean" else f", {_UNIT} in the cast"
            yield f"{is_a(inner)}, not {type_noun(to)}{unit}. {_time_of_number(inner)}"
    elif kind == "time" and wanted in ("number", "boolean"):
        written = isinstance(source, pl.Date) and not sql and to.is_integer()
        if not written:
            yield f"{is_a(inner)}, not {type_noun(to)}, {_NUMBER_OF_TIME}"
    elif kind == "text" and wanted == "time" and "Literal" not in part.tree:
        yield f"{is_a(inner)}, not {type_noun(to)}. {_read_as_time(inner, to)}"
    elif kind == "text" and wanted == "boolean" and "Literal" not in part.tree:
        column = in_sql(inner)
        yield f"{is_a(inner)}, not true or false: compare it, as in {column} = 'true', in Python .eq('true')"


def _is_scaled(tree: Any) -> bool:
    """Return whether a number is multiplied by the units in a second or millisecond, as `pl.from_epoch` does."""
    match tree:
        case {"BinaryExpr": {"op": "Multiply", "right": right}}:
            return literal_value(right) in (1000, 1_000_000)
    return False
