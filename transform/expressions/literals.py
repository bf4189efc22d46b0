"""Literals that an expression cannot mean: null in a comparison, formats of dates and times, patterns; and hashes.

polars takes most of them, and gives null for every row or rejects every line. `literal_objection` says what to write.

Formats are those of the Rust crate chrono: https://docs.rs/chrono/latest/chrono/format/strftime/index.html
"""

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from transform.expressions.tree import REFUSALS, Node

_COMPARISONS = {"Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq"}
_NULL = (
    "compares with null, which is neither true nor false for any line; write IS NULL or IS NOT NULL in SQL, .is_null() "
    "or .is_not_null() in Python"
)
_NULL_CONDITION = "has a condition that is always null; write TRUE or FALSE, or a comparison"
_NULL_IN = (
    "looks for null in a list, which null is not equal to; take None out of the list and add `| x.is_null()`, or set "
    "nulls_equal=True"
)
_HASH = (
    "is a hash, which polars does not promise to be the same in its next version; take sha256(…) or hmac_sha256(…) of "
    "transform, or hashlib in a Python function: .map_elements(…, return_dtype=pl.String) and .assume_pure()"
)


def literal_objection(node: Node, schema: Mapping[str, pl.DataType]) -> str | None:
    """Return why a node cannot mean what it says because of a literal in it; None if it can.

    Args:
        node: A node of the tree of an expression.
        schema: The columns it is evaluated on.
    """
    match node.kind, node.body:
        case "BinaryExpr", {"op": op, "left": left, "right": right} if op in _COMPARISONS:
            return _NULL if _is_null(left) or _is_null(right) else None
        case "Ternary", {"predicate": predicate}:
            return _NULL_CONDITION if _is_null(predicate) else None
        case "Function", {"function": "Hash" | {"Hash": _}}:
            return _HASH
        case "Function", {"function": {"Boolean": {"IsIn": {"nulls_equal": False}}}, "input": [_, {"Literal": given}]}:
            return _NULL_IN if _holds_null(given) else None
        case "Function", {"function": {"StringExpr": function}, "input": given}:
            return _text_objection(function, given)
        case "Function", {"function": {"TemporalExpr": {"ToString": form}}}:
            return None if form in _NAMED_FORMATS else format_objection(form) or _unwritten(form, node, schema)
    return None


def _text_objection(function: Any, given: list[Any]) -> str | None:
    match function:
        case {"Strptime": [dtype, {"format": str(form)}]}:
            return format_objection(form, dtype)
        case {"ExtractGroups": {"pat": str(pattern)}}:
            return pattern_objection(pattern)
    if _takes_pattern(function):
        match given[1:2]:
            case [{"Literal": {"Scalar": {"String": pattern}}}]:
                return pattern_objection(pattern)
    return None


def _is_null(tree: Any) -> bool:
    match tree:
        case {"Literal": {"Scalar": {"Null": _}}}:
            return True
        case {"Cast": {"expr": inner}}:
            return _is_null(inner)
    return False


def _holds_null(literal: Any) -> bool:
    try:
        values = pl.select(Node("Literal", literal).as_expression()).to_series()
        return bool(values.dtype == pl.List and values.explode().null_count()) or values.null_count() > 0
    except REFUSALS:
        return False


# --- patterns ---------------------------------------------------------------------------------------------------------

_WITH_PATTERN = {"Contains", "CountMatches", "Extract", "ExtractAll", "Find", "Replace", "SplitRegex"}
_PATTERN_ERRORS = (
    (
        "look-around",
        "look-ahead and look-behind, as in (?=…) and (?<!…), are not supported: match the text around it, "
        "too, and take a group of it with .str.extract(r'…(…)…'), or use two conditions",
    ),
    (
        "backreference",
        r"references back to a group, as in \1, are not supported in a pattern: extract the parts, and "
        "compare them",
    ),
    ("size limit", "the pattern is too large; make its repetitions, as in {1000}, smaller"),
    ("unclosed group", "a `(` is not closed; a bracket that is meant as such is written `\\(`"),
    ("unopened group", "a `)` closes nothing; a bracket that is meant as such is written `\\)`"),
    ("unclosed character class", "a `[` is not closed; a bracket that is meant as such is written `\\[`"),
    (
        "missing expression",
        "a `*`, `+`, `?` or `{…}` has nothing before it to repeat; the character itself is written "
        "with a backslash before it",
    ),
    (
        "unrecognized flag",
        "groups are (…), (?:…), (?P<name>…) and (?i) with the flags i, m, s, U and x; atomic groups, "
        "comments and references to names are not supported",
    ),
    ("unrecognized escape", "there is no such escape; the end of a text is `$` or `\\z`, and a backslash is `\\\\`"),
)


def _takes_pattern(function: Any) -> bool:
    if isinstance(function, str):
        return function in _WITH_PATTERN
    ((name, options),) = function.items()
    # CountMatches holds a bool: whether it is a text; Extract the number of the group
    return name in _WITH_PATTERN and options is not True and not (isinstance(options, dict) and options.get("literal"))


def pattern_objection(pattern: str) -> str | None:
    r"""Return why a regular expression is refused, None if it is understood.

    Example:
        >>> pattern_objection(r"^\d+$")
        >>> pattern_objection("a(?=b)")[:50]
        'has the pattern `a(?=b)`: look-ahead and look-behi'
    """
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except REFUSALS as error:
        said = str(error)
        reason = next((advice for part, advice in _PATTERN_ERRORS if part in said), None)
        found = re.search(r"^error: (.*)$", said, re.MULTILINE)
        return f"has the pattern `{pattern}`: {reason or (found[1] if found else said.partition(chr(10))[0])}"
    return None


# --- formats of dates and times ---------------------------------------------------------------------------------------

_NAMED_FORMATS = {"iso", "iso:strict", "polars"}
_DIRECTIVE = re.compile(r"%(?:\.[369]?f|[369]f|:{1,3}z|#z|[-_0]?[A-Za-z]|%|\+|.?)", re.DOTALL)
_SPECIAL = {"%.f", "%.3f", "%.6f", "%.9f", "%3f", "%6f", "%9f", "%:z", "%::z", "%:::z", "%#z", "%%", "%+", "%n", "%t"}
_LETTERS = set("YCyqmbBhdeaAwuUWGgVjDxFvHkIlPpMSRTXrZzsc")
_SAMPLE = pl.lit(dt.datetime(2024, 11, 28, 13, 5, 9, 123456)).dt.replace_time_zone("Europe/Berlin")
_HINTS = {
    "%L": "milliseconds are `%3f`, with the point before them `%.3f`",
    "%N": "nanoseconds are `%9f`",
    "%i": "minutes are `%M`",
    "%E": "there are no alternative forms",
    "%O": "there are no alternative forms",
}
_FRACTION = (
    "has the format `{}`, in which `{}` is a number of nanoseconds, so that .312 becomes .000000312; fractions of a "
    "second are `%.f` with their point (`%S%.f` in place of `%S.%f`), and `%3f`, `%6f` or `%9f` with that many digits"
)


def format_objection(form: str, dtype: Any = None) -> str | None:
    """Return why a format of dates or times is refused, None if it is understood.

    Args:
        form: The format.
        dtype: The type that texts are parsed as, as polars serialises it; None if texts are written.

    Example:
        >>> format_objection("%Y-%m-%d")
        >>> format_objection("%H:%M:%S.%f")[:60]
        'has the format `%H:%M:%S.%f`, in which `%f` is a number of n'
    """
    directives = _DIRECTIVE.findall(form)
    for directive in directives:
        letter = "%" + directive[-1]
        if letter == "%f" and directive not in _SPECIAL:
            return _FRACTION.format(form, directive)
        if directive not in _SPECIAL and (letter[1] not in _LETTERS or len(directive) == 1):
            hint = f": {_HINTS[letter]}" if letter in _HINTS else ""
            return f"has the format `{form}`, in which there is no directive `{directive}`{hint}. {_SOURCE}"
    if not set(directives) - {"%%", "%n", "%t"}:
        return f"has the format `{form}`, which has no directive, such as %Y-%m-%d or %H:%M:%S. {_SOURCE}"
    if dtype is None:
        return f"has the format `{form}`, but `%#z` is for parsing only; write `%:z`" if "%#z" in directives else None
    if any(directive.endswith("Z") for directive in directives):
        return (
            f"has the format `{form}`, but the name of a zone (`%Z`) is skipped, so the time would be read "
            "without its zone; parse an offset with `%:z`, or write a letter that is always there as it is, as in `%SZ`"
        )
    return _unparsed(form, dtype)


_SOURCE = "Directives are those of chrono: https://docs.rs/chrono/latest/chrono/format/strftime/"


_SAMPLES: Mapping[type[pl.DataType], Any] = {pl.Date: dt.date(2024, 11, 28), pl.Time: dt.time(13, 5, 9)}


def _unwritten(form: str, node: Node, schema: Mapping[str, pl.DataType]) -> str | None:
    """Return why a format does not fit the type of the values, None if it does or the type is not known."""
    try:
        (value,) = (given.as_expression().alias("") for given in node.inputs())
        (dtype,) = pl.LazyFrame(schema=schema).select(value).collect_schema().dtypes()
    except REFUSALS:
        return None
    sample = _SAMPLES.get(type(dtype))
    try:
        pl.select(pl.lit(sample).dt.to_string(form) if sample is not None else None)
    except REFUSALS:
        parts = "hours and the like" if isinstance(dtype, pl.Date) else "days and the like"
        return f"has the format `{form}`, but a {dtype} has no {parts}"
    return None


def _unparsed(form: str, dtype: Any) -> str | None:
    """Return why no text can be parsed with a format, or none that is meant: no day, or no minute, or no year."""
    kind = next(iter(dtype["Literal"]), "") if isinstance(dtype.get("Literal"), dict) else dtype.get("Literal")
    target = {"Date": pl.Date, "Time": pl.Time}.get(str(kind), pl.Datetime("us"))
    try:
        text = _SAMPLE.dt.to_string(form.replace("%#z", "%z"))
        value = pl.select(text.str.strptime(target, form, strict=False)).item()
    except REFUSALS as error:
        reason = str(error).partition("\n")[0].removeprefix("Invalid format string: ")
        return f"has the format `{form}`, with which no text can be parsed as {kind}: {reason}"
    if value is None:
        return f"has the format `{form}`, which does not say all that a {kind} needs"
    if isinstance(value, dt.date) and value.year != 2024:
        return f"has the format `{form}`, which does not say the year of a {kind}; for times there is TIME(x, '%H:%M')"
    return None
