"""Expressions as a user gives them, in SQL or in polars: the names of their results, and the columns that they read."""

import re
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from transform.errors import CalculationError

_COMMENT = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)|--[^\n]*|/\*.*?\*/""", re.DOTALL)
# All that is closed, then what is left: a quote or a comment that is not, and all that follows it.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+"|`(?:[^`]|``)*+`|(\$\w*\$).*?\1|--[^\n]*|/\*.*?\*/|(?P<open>(?:['"`]|/\*).*)""",
    re.DOTALL,
)
_SHOWN_CHARACTERS = 40
_CLOCK = re.compile(r"\b(now|current_date|current_time|current_timestamp|localtime|localtimestamp)\b", re.IGNORECASE)
_REFUSALS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def name_results(exprs: Sequence[object], named: Mapping[str, object]) -> dict[str, pl.Expr]:
    """Return the results by name, in order.

    Raises:
        CalculationError: A value is not an expression, has no name or several columns, or two have the same name.
    """
    results: dict[str, pl.Expr] = {}
    pairs = [(None, value) for value in exprs] + [(str(name), value) for name, value in named.items()]
    for keyword, value in pairs:
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
        expr = pl.col(value)
    elif literal and (value is None or isinstance(value, bool | int | float)):
        expr = pl.lit(value)
    else:
        raise CalculationError(f"expected a polars expression, got {type(value).__name__}: {value!r:.80}")
    try:
        several = expr.meta.has_multiple_outputs()
    except pl.exceptions.PolarsError:
        several = False  # unknown without the columns, as for a selector
    if several:
        raise CalculationError(
            f"`{expr}` stands for several columns, or for columns by their place; name one column in each expression"
        )
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
        raise CalculationError(f"`{expr}`: {first_line(error)}") from None
    if unnamed and not expr.meta.is_column():
        raise CalculationError(
            f"`{expr}` needs a name for its result: write it with AS in SQL, as a keyword or with .alias(…) in "
            f"Python. (polars alone would name it `{name}` and replace that member.)"
        )
    return name


def columns_read(exprs: Iterable[pl.Expr]) -> list[str]:
    """Return the names of the columns that the expressions read, each once, in order of appearance."""
    return list(dict.fromkeys(name for expr in exprs for name in expr.meta.root_names()))


def parse_sql(text: str) -> list[pl.Expr]:
    """Return the expressions of a SQL text, separated as in a SELECT list.

    polars parses one expression at a time, so the text is cut at its commas. A piece that does not parse is joined with
    the next one: before a comma in brackets or quotes something is open, so that the piece does not parse.

    Raises:
        CalculationError: polars does not understand the text, or it reads the clock.
    """
    exprs: list[pl.Expr] = []
    rest, error = _COMMENT.sub(lambda found: found[1] or " ", text).split(","), None
    while rest:
        for size in range(1, len(rest) + 1):
            piece = ",".join(rest[:size])
            try:
                expr = pl.sql_expr(piece)
            except _REFUSALS as found:
                error = found
                continue
            _refuse_clock(piece, expr)
            exprs.append(expr)
            rest, error = rest[size:], None
            break
        else:
            left = ",".join(rest).strip()
            if not left:
                raise CalculationError(f"the SQL `{text.strip()}` has no expression at its end")
            reason = _describe_unclosed(text) or first_line(error)
            raise CalculationError(f"polars does not understand the SQL `{left}`: {reason}")
    return exprs


def _describe_unclosed(text: str) -> str:
    """Return which quote or comment of a SQL text is not closed, nothing if all are."""
    opened = next((found["open"] for found in _QUOTED.finditer(text) if found["open"]), "")
    what = "comment" if opened.startswith("/*") else "quote"
    return f"the {what} that starts with `{opened[:_SHOWN_CHARACTERS]}` is not closed" if opened else ""


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


def _refuse_clock(text: str, expr: pl.Expr) -> None:
    """Raise if a SQL expression reads the clock.

    The parsed expression does not show it, because polars puts the current time there as a literal. So each word that
    may name a clock is changed a little, and the text is parsed again. If polars took the word for a clock, it is now
    an unknown function or one more column; strings, quoted names, columns and comments stay what they are.
    """
    changed, count = _CLOCK.subn(r"\1_", text)
    if not count:
        return
    try:
        if len(pl.sql_expr(changed).meta.root_names()) == len(expr.meta.root_names()):
            return
    except _REFUSALS:
        pass
    raise CalculationError(
        f"the SQL `{text.strip()}` reads the clock: the output would depend on when it ran, and one tried again would "
        "mix two times. Give the time as a literal, such as TIMESTAMP '2026-01-31 12:00:00' or DATE '2026-01-31'."
    )


def first_line(error: object) -> str:
    """Return the first line of an error's text; polars appends its resolved plan and hints."""
    return str(error).strip().partition("\n")[0]
