"""Expressions as a user gives them, in SQL or in polars: the names of their results, and the columns that they read."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from transform.errors import CalculationError
from transform.expressions import sql
from transform.expressions.origins import COLUMNS
from transform.expressions.pseudonyms import as_text
from transform.expressions.sql_tokens import pieces, shown
from transform.terminal_text import has_lone_surrogate

_CLOCK = re.compile(r"\b(now|current_date|current_time|current_timestamp|localtime|localtimestamp)\b", re.IGNORECASE)
_MOMENT = re.compile(r"\b(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d{6})|\b(\d{10}\.\d+)\b")
"""A time as `datetime.now()` and `time.time()` give it, in the text of an expression."""
_JUST_NOW_S = 60
NEGATIVE_DIGITS = 1_000_000
"""What is added to the number of digits of ROUND in SQL where it is negative; polars parses only positive ones."""
_SQL_PART = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\bround\s*\(|[(\[\]),]""", re.IGNORECASE)
_NEGATIVE = re.compile(r"\s*-\s*(\d{1,5})\s*")


def name_results(exprs: Sequence[object], named: Mapping[str, object]) -> dict[str, pl.Expr]:
    """Return the results by name, in order.

    Raises:
        CalculationError: A value is not an expression, has no name or several columns, or two have the same name.
    """
    results: dict[str, pl.Expr] = {}
    pairs = [(None, value) for value in exprs] + [(str(name), value) for name, value in named.items()]
    for keyword, value in pairs:
        if keyword is not None and has_lone_surrogate(keyword):
            raise CalculationError(f"the name of a result is not valid Unicode: {keyword!r:.80}")
        expr = to_expression(value, literal=keyword is not None)
        name = keyword if keyword is not None else _own_name(expr)
        if name in results:
            raise CalculationError(f"two results are named `{name}`; give one of them another name")
        results[name] = expr if _output_name(expr) == name else expr.alias(name)
    return results


def to_expression(value: object, *, literal: bool = False) -> pl.Expr:
    """Return a value as an expression of one column.

    Args:
        value: An expression, or the name of a column.
        literal: Whether it may also be a number, a boolean or None.

    Raises:
        CalculationError: It is none of these, or has several columns.
    """
    if isinstance(value, pl.Expr):
        expr = value
    elif isinstance(value, str):
        if has_lone_surrogate(value):
            raise CalculationError(f"the name of a column is not valid Unicode: {value!r:.80}")
        expr = pl.col(value)
    elif literal and (value is None or isinstance(value, bool | int | float)):
        expr = pl.lit(value)
    else:
        instead = (
            "a function that takes a whole line is LineFunction(function)"
            if callable(value)
            else "write a value as pl.lit(…)"
        )
        raise CalculationError(f"expected a polars expression, got {type(value).__name__}: {value!r:.80}; {instead}")
    try:
        several = expr.meta.has_multiple_outputs()
    except pl.exceptions.PolarsError:
        several = False  # unknown without the columns, as for a selector
    if several:
        raise CalculationError(
            f"`{as_text(expr)}` selects several columns, or columns by position; name one column in each expression"
        )
    _refuse_moment(expr)
    return expr


def _output_name(expr: pl.Expr) -> str | None:
    try:
        return expr.meta.output_name()
    except pl.exceptions.PolarsError:
        return None


def _own_name(expr: pl.Expr) -> str:
    try:
        name = expr.meta.output_name()
        unnamed = expr.meta.undo_aliases().meta.eq(expr)
    except pl.exceptions.PolarsError as error:
        raise CalculationError(f"`{as_text(expr)}`: {first_line(error)}") from None
    if unnamed and (not expr.meta.is_column() or name in COLUMNS):
        raise CalculationError(
            f"`{as_text(expr)}` needs a name for its result: write it with AS in SQL, as a keyword or with .alias(…) "
            f"in Python. (polars alone would name it `{name}` and replace that member.)"
        )
    return name


def parse_sql(text: str) -> list[pl.Expr]:
    """Return the expressions of a SQL text, separated as in a SELECT list.

    Raises:
        CalculationError: polars does not understand the text, it calls a function that is not taken, or it reads the
            clock.
    """
    if has_lone_surrogate(text):
        raise CalculationError(f"the SQL {text!r:.80} is not valid Unicode")
    exprs: list[pl.Expr] = []
    cut = list(pieces(text))
    for place, piece in enumerate(cut, 1):
        found = shown(piece)
        if not found:
            where = "at its end" if place == len(cut) else "before a comma"
            raise CalculationError(f"the SQL `{text.strip()}` has no expression {where}")
        try:
            piece = sql.with_sources(piece)  # noqa: PLW2901 - what follows reads that
            expr = sql.read(piece, _readable)
        except sql.SqlError as error:
            raise CalculationError(_describe(found, error)) from None
        _refuse_clock(shown(piece))
        try:
            sql.check_functions(piece)
        except sql.SqlError as error:
            raise CalculationError(_describe(found, error)) from None
        exprs.append(_without_decimals(expr))
    return exprs


def parse_condition(text: str) -> pl.Expr:
    """Return the condition of a SQL text.

    Raises:
        CalculationError: As `parse_sql` does, or the text has several expressions.
    """
    predicates = parse_sql(text)
    if len(predicates) != 1:
        raise CalculationError(f"expected one condition, got {len(predicates)}: `{text}`; join them with AND")
    return predicates[0]


def _describe(text: str, error: sql.SqlError) -> str:
    if isinstance(error, sql.RefusedError):
        return f"`{text}` {error}" if str(error).startswith("is not row-wise: ") else f"the SQL `{text}`: {error}"
    return f"polars does not understand the SQL `{text}`: {error}"


def parse_texts(texts: Sequence[str]) -> list[pl.Expr]:
    """Return the expressions of several SQL texts, each parsed on its own: a comment in one does not reach the next.

    Raises:
        CalculationError: As `parse_sql` does, saying which text is at fault.
    """
    exprs: list[pl.Expr] = []
    for number, text in enumerate(texts, 1):
        try:
            exprs += parse_sql(text)
        except CalculationError as error:
            which = f"expression {number} of {len(texts)}: " if len(texts) > 1 else ""
            raise CalculationError(f"{which}{error}") from None
    return exprs


def shown_pieces(texts: Sequence[str]) -> list[str]:
    """Return the pieces of SQL texts, one for each expression, as messages show them."""
    return [shown(piece) for text in texts for piece in pieces(text)]


def in_sql(message: str, exprs: Sequence[pl.Expr], written: Sequence[str]) -> str:
    """Return a message with the SQL of expressions as it was written."""
    for expr, text in zip(exprs, written, strict=False):
        message = message.replace(f"`{as_text(expr)}`", f"`{text}`")
    return message


def joined_text(texts: Sequence[str], exprs: Sequence[pl.Expr]) -> str | None:
    """Return SQL texts as one, joined with commas; None if that does not stand for the same expressions."""
    text = ", ".join(texts)
    if len(texts) < 2:
        return text
    try:
        joined = parse_sql(text)
    except CalculationError:
        return None
    same = len(joined) == len(exprs) and all(one.meta.eq(other) for one, other in zip(joined, exprs, strict=True))
    return text if same else None


def _refuse_clock(text: str) -> None:
    """Raise if a SQL expression reads the clock.

    The parsed expression does not show it, because polars puts the current time there as a literal. So each word that
    may name a clock is changed a little, and the text is parsed again. If polars took the word for a clock, it is now
    an unknown function or one more column; strings, quoted names, columns and comments stay what they are.
    """
    changed, count = _CLOCK.subn(r"\1_", text)
    if not count:
        return
    try:
        parsed, again = (pl.sql_expr(_readable(given)).meta.root_names() for given in (text, changed))
        if len(parsed) == len(again):
            return
    except sql.REFUSALS:
        pass
    raise CalculationError(
        f"the SQL `{text.strip()}` reads the clock: the output would depend on when it ran, and one tried again would "
        "mix two times. Give the time as a literal, such as TIMESTAMP '2026-01-31 12:00:00' or DATE '2026-01-31'."
    )


def _refuse_moment(expr: pl.Expr) -> None:
    """Raise if an expression has a literal that Python's clock gave: to the microsecond, and within the last minute.

    A literal does not show where it is from; no one writes such a time by hand while it is the present one.
    """
    try:
        text = str(expr)
    except sql.REFUSALS:  # it is too long, which is said later
        return
    local, universal = datetime.now().replace(tzinfo=None), datetime.now(UTC).replace(tzinfo=None)
    for moment in _MOMENT.finditer(text):
        found = datetime.fromisoformat(moment[1]) if moment[1] else datetime.fromtimestamp(float(moment[2]))
        if any(0 <= (now - found).total_seconds() < _JUST_NOW_S for now in (local, universal)):
            raise CalculationError(
                f"the literal `{moment[0]}` is the present time: the output would depend on when it ran, and one tried "
                "again would mix two times. Give a fixed time, such as pl.datetime(2026, 1, 31, 12)."
            )


def first_line(error: object) -> str:
    """Return the first line of an error's text; polars appends its resolved plan and hints."""
    return str(error).strip().partition("\n")[0]


def _readable(text: str) -> str:
    """Return SQL with the negative numbers of digits in ROUND replaced by ones that polars parses."""
    negative: list[tuple[int, int, int]] = []
    open_brackets: list[tuple[bool, int]] = []
    for found in _SQL_PART.finditer(text):
        part = found[0]
        if part[-1] in "([":
            open_brackets.append((part[0] in "rR", 0))
        elif part == "," and open_brackets:
            open_brackets[-1] = open_brackets[-1][0], found.end()
        elif part in (")", "]") and open_brackets:
            rounds, start = open_brackets.pop()
            digits = _NEGATIVE.fullmatch(text, start, found.start()) if rounds and start else None
            if digits:
                negative.append((start, found.start(), NEGATIVE_DIGITS + int(digits[1])))
    for start, stop, number in reversed(negative):
        text = f"{text[:start]} {number}{text[stop:]}"
    return text


def _without_decimals(expr: pl.Expr) -> pl.Expr:
    """Return an expression of SQL with doubles in place of the decimals that polars makes of literals."""
    if not any(name in expr.meta.serialize() for name in (b"Decimal", b"List", b"Series")):
        return expr
    from transform.expressions.arithmetic import sql_literals  # noqa: PLC0415 - takes more libraries

    return sql_literals(expr, every=True)
