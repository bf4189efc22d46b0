"""SQL text read as expressions: what is meant by it, or a reason why it is refused and how to write it.

polars parses one expression, and takes much for granted that SQL does not say: a word after an expression is its new
name, `AS` may be a column, `a IS TRUE` is null where `a` is. `read` gives what is meant, or says how to write it.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions.origins import column_of
from transform.expressions.sql_advice import advice, instead, plain
from transform.expressions.sql_functions import (
    FUNCTIONS,
    RULE,
    SYNTAX,
    call,
    constant,
    expression_of,
    objection,
    operation,
    padded,
    tree_of,
)
from transform.expressions.sql_tokens import (
    ARGUMENTS,
    BRACKETS,
    OF_TEXT,
    ONLY_HERE,
    Token,
    count_arguments,
    marked,
    shown,
    with_doubles,
    with_truth_tests,
)

REFUSALS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises if it cannot do something."""
_SHOWN_CHARACTERS = 40
_MARK = 7_380_418_366_219_052


class SqlError(Exception):
    """A SQL text is not understood; the message is the reason, without the text."""


class RefusedError(SqlError):
    """A SQL text is understood, and refused."""


def read(piece: Sequence[Token], prepare: Callable[[str], str] = str) -> pl.Expr:
    """Return the expression of a piece of text.

    Args:
        piece: The piece.
        prepare: Makes text that polars parses of text that has been checked.

    Raises:
        SqlError: polars does not understand it, or understands something else than what is meant.
    """
    tokens = [token for token in piece if token.kind != "space"]
    _check_closed(tokens)
    _check_clauses(tokens)
    _check_name(tokens)
    _check_distinct(tokens)
    _check_any(tokens)
    _check_intervals(tokens)
    _check_arguments(tokens)
    mark = _MARK
    while any(str(mark) in token.text for token in piece):
        mark += 1
    try:
        try:
            expr = _parse(prepare(shown(with_doubles(with_truth_tests(marked(piece, str(mark)))))))
        except (*REFUSALS, SqlError):
            expr = _parse(prepare(shown(with_doubles(with_truth_tests(piece)))))
            raise
    except REFUSALS as error:
        _check_functions(tokens)
        raise SqlError(advice(piece, _is_read) or plain(error)) from None
    except SqlError as error:
        raise SqlError(advice(piece, _is_read) or str(error)) from None
    return _as_meant(expr, mark)


def with_sources(piece: Sequence[Token]) -> list[Token]:
    """Return a piece with the names of columns in place of calls such as `SOURCE('key')`.

    Raises:
        SqlError: A call has something else than the name of a field.
    """
    found = list(piece)
    places = [place for place, token in enumerate(piece) if token.kind != "space"]
    for index, place in enumerate(places):
        call = [piece[later] for later in places[index : index + 4]]
        if not call[0].is_word("SOURCE") or len(call) < 2 or not call[1].is_op("("):
            continue
        if len(call) < 4 or call[2].kind != "string" or not call[3].is_op(")"):
            raise RefusedError("SOURCE takes one name in single quotes, as in SOURCE('key')")
        try:
            name = column_of(call[2].text[1:-1])
        except CalculationError as error:
            raise RefusedError(str(error)) from None
        found[place] = Token("quoted", f'"{name}"', call[0].depth)
        for later in places[index + 1 : index + 4]:
            found[later] = Token("space", "")
    return found


def check_functions(piece: Sequence[Token]) -> None:
    """Raise if a piece of text calls a function that is not taken.

    Raises:
        SqlError: It does; the message names the function, and what to write instead.
    """
    _check_functions([token for token in piece if token.kind != "space"])


def _parse(text: str) -> pl.Expr:
    expr = pl.sql_expr(text)
    if any(name.upper() == "AS" for name in expr.meta.root_names()) and not re.search(r'["`]as["`]', text, re.I):
        raise SqlError("there is no expression before AS")
    return expr


def _is_read(piece: Sequence[Token]) -> bool:
    try:
        _check_name([token for token in piece if token.kind != "space"])
        _parse(shown(piece))
    except (*REFUSALS, SqlError):
        return False
    return True


# --- what is not an expression of a SELECT list -----------------------------------------------------------------------

_CLAUSES = {
    "SELECT": "write only the expressions, without SELECT: the members of a line stay in it",
    "FROM": "write only the expressions, without FROM: the lines of the input are the rows",
    "WHERE": "a condition is given apart: with -w (--where), or where=… in Python",
    "HAVING": "a condition is given apart: with -w (--where), or where=… in Python",
    "GROUP": "lines are not grouped: a result may depend on one line only",
    "ORDER": "lines keep their order",
    "LIMIT": "all lines are transformed; a preview shows the first",
    "UNION": "write one list of expressions, separated by commas",
    "QUALIFY": "a result may depend on one line only",
}
_SECOND_WORDS = {"GROUP": ("BY",), "ORDER": ("BY",), "UNION": ("ALL", "SELECT", "DISTINCT")}


def _check_closed(piece: Sequence[Token]) -> None:
    unclosed = list[Token]()
    for token in piece:
        if token.kind == "open":
            what = "comment" if token.text.startswith("/*") else "quote"
            doubled = "; a single quote within a text is doubled: `'it''s'`" if token.text.startswith("'") else ""
            raise SqlError(f"the {what} that starts with `{token.text[:_SHOWN_CHARACTERS]}` is not closed{doubled}")
        if token.is_op(*BRACKETS.values()):
            unclosed.append(token)
        elif token.is_op(*BRACKETS) and (not unclosed or unclosed.pop().text != BRACKETS[token.text]):
            raise SqlError(f"the bracket `{token.text}` closes none: one `{BRACKETS[token.text]}` is missing")
    if unclosed:
        raise SqlError(f"the bracket `{unclosed[-1].text}` is not closed")


def _check_clauses(piece: Sequence[Token]) -> None:
    """Raise if there is more of a query than an expression: a clause, a subquery, a window, a star."""
    for place, token in enumerate(piece):
        before = piece[place - 1] if place else Token("op", "(")
        after = piece[place + 1] if place + 1 < len(piece) else Token("op", "")
        if (before.is_op(".") and not token.is_op("*")) or before.is_word("AS"):
            continue
        if token.is_word("SELECT", "WITH", "VALUES") and token.depth > 0 and before.is_op("("):
            raise RefusedError(f"is not row-wise: it is a query of its own. {RULE}")
        if token.is_word("OVER") and (after.is_op("(") or after.kind == "word") and before.is_op(")"):
            raise RefusedError(f"is not row-wise: `OVER` looks at other rows. {RULE}")
        if token.is_word(*_POSTFIXES) and place and not after.is_op("("):
            raise SqlError(f"write `{_POSTFIXES[token.text.upper()]}` in place of `{token.text}`")
        if token.kind == "string" and before.is_op("[") and after.is_op("]") and place > 1 and _ends(piece[place - 2]):
            raise SqlError("a member of an object is written `o.k`, or `o -> 'k'`, in place of `o['k']`")
        if token.is_op("*") and (place == 0 or before.is_op(".")):
            raise SqlError("name the members that are meant, one by one; all members stay in the line as they are")
        clause = token.text.upper() if token.kind == "word" and token.depth == 0 else ""
        if clause not in _CLAUSES or (clause == "FROM" and before.is_word("DISTINCT")) or after.is_op("("):
            continue
        wanted = _SECOND_WORDS.get(clause)
        follows = bool(after.text) and not after.is_word("AS") and after.kind != "op"
        if after.is_word(*wanted) if wanted else follows or (not after.text and place):
            raise SqlError(_CLAUSES[clause])


def _ends(token: Token) -> bool:
    """Return whether a token can be the last of an operand."""
    return token.kind in ("word", "quoted") or token.is_op(")", "]")


_ENDS = ("NULL", "TRUE", "FALSE", "END", "UNKNOWN")
_WORDS_BEFORE_OPERANDS = (
    "AND OR NOT IS IN LIKE ILIKE BETWEEN THEN ELSE WHEN CASE DISTINCT FROM XOR DIV AS RLIKE REGEXP SIMILAR TO GLOB "
    "INTERVAL DATE TIME TIMESTAMP DATETIME ARRAY SELECT ANY ALL SOME ESCAPE COLLATE AT ZONE"
)
_LEADS = tuple(_WORDS_BEFORE_OPERANDS.split())


def _check_name(piece: Sequence[Token]) -> None:
    """Raise if the name of a result has no AS before it, as a missing comma or quote looks the same."""
    if len(piece) > 1 and piece[0].is_word(*_BINARY) and piece[1].kind in ("string", "number"):
        raise SqlError(f"there is nothing before `{piece[0].text}`")
    if len(piece) < 2 or piece[-1].kind not in ("word", "quoted", "string") or piece[-1].is_word(*_ENDS):
        return
    name, before = piece[-1], piece[-2]
    is_operand = before.kind in ("word", "quoted", "string", "number") or before.is_op(")", "]")
    if not is_operand or before.is_word(*(word for word in _LEADS if name.kind == "string" or word not in _TYPED)):
        return
    if len(piece) > 2 and (piece[-3].is_word("INTERVAL", "AS") or piece[-3].is_op("::")):
        return
    words = " ".join(token.text for token in piece)
    if name.is_word(*_BINARY) or (name.is_word("NOT") and len(piece) > 2):
        raise SqlError(f"there is nothing after `{name.text}`")
    if name.kind == "string" and (known := instead([part for token in piece for part in (token, _SPACE)])):
        raise SqlError(known)
    if name.is_word("AS"):
        raise SqlError("there is no name after AS")
    quoted = (
        f'; a member of the name `{words}` is written in double quotes: `"{words}"`'
        if len(piece) == 2 and _plain_words(piece)
        else ""
    )
    raise SqlError(
        f"`{name.text}` follows an expression: write `AS {name.text}` if it is the name of the result, or a comma "
        f"before it if it is another expression{quoted}"
    )


_SPACE = Token("space", " ")
_BINARY = ("AND", "OR", "XOR", "IN", "IS", "LIKE", "ILIKE", "BETWEEN", "RLIKE", "REGEXP")
_TYPED = ("DATE", "TIME", "TIMESTAMP", "DATETIME")
_POSTFIXES = {"ISNULL": "IS NULL", "NOTNULL": "IS NOT NULL"}


def _plain_words(piece: Sequence[Token]) -> bool:
    return all(token.kind == "word" for token in piece)


def _check_distinct(piece: Sequence[Token]) -> None:
    """Raise if AND or OR follows `a IS DISTINCT FROM b`, as polars takes all that follows for its second part."""
    for place, token in enumerate(piece):
        if not (token.is_word("FROM") and place and piece[place - 1].is_word("DISTINCT")):
            continue
        for later in piece[place + 1 :]:
            if later.depth < token.depth or (later.depth == token.depth and later.is_op(",")):
                break
            if later.depth == token.depth and later.is_word("WHEN", "THEN", "ELSE", "END"):
                break
            if later.depth == token.depth and later.is_word("AND", "OR", "XOR"):
                raise SqlError(
                    f"put `a IS DISTINCT FROM b` in parentheses before {later.text.upper()}: without them the "
                    f"{later.text.upper()} belongs to its second part"
                )


def _check_functions(piece: Sequence[Token]) -> None:
    for place, (token, after) in enumerate(pairwise(piece)):
        before = piece[place - 1] if place else Token("op", "")
        name = token.text if token.kind == "word" else token.text[1:-1]
        is_type = before.is_op("::") or (before.is_word("AS") and token.depth > 0)
        if is_type and token.is_word("JSON", "JSONB"):
            raise RefusedError("a text is not read as JSON in SQL; in Python, .str.json_decode(dtype) does that")
        if token.kind not in ("word", "quoted") or not after.is_op("(") or is_type or before.is_word("AS"):
            continue
        part = piece[place + 2].text.strip("'").lower() if place + 2 < len(piece) else ""
        if name.lower() in ("extract", "date_part") and part == "epoch":
            raise RefusedError(_EPOCH)
        given = piece[place + 2] if place + 2 < len(piece) else Token("op", ")")
        reason = None if token.is_word(*_SYNTAX) else objection(name, given.text if given.kind == "word" else "x")
        if reason:
            raise RefusedError(reason)


_SYNTAX = tuple(word.upper() for word in SYNTAX)
_EPOCH = "EPOCH is null for dates before 1677 and after 2262; in Python, .dt.timestamp('ms') is right for all dates"


# --- what polars evaluates in another way than SQL does --------------------------------------------------------------


def _check_any(piece: Sequence[Token]) -> None:
    for place, token in enumerate(piece[1:-1], 1):
        before = piece[place - 1]
        if token.is_word("ANY", "ALL", "SOME") and piece[place + 1].is_op("(") and before.is_op(*_COMPARISONS):
            if before.is_op("=", "==") and not token.is_word("ALL"):
                continue
            raise SqlError(
                f"`{before.text} {token.text}` is not taken, only `a = ANY(l)` is: write `NOT ARRAY_CONTAINS(l, a)` if "
                "no element is to be equal; other comparisons are in Python, as in "
                "pl.col('l').list.eval(pl.element() > 3).list.any()"
            )


def _check_intervals(piece: Sequence[Token]) -> None:
    """Raise if an interval is longer than polars has them, or if a date without hours is moved by hours."""
    for place, (token, after) in enumerate(pairwise(piece)):
        if not token.is_word("INTERVAL") or after.kind != "string":
            continue
        parts = _INTERVAL_PART.findall(after.text.lower())
        if sum(abs(float(number)) * _DAYS[unit] for number, unit in parts if unit in _DAYS) > _MAX_DAYS:
            raise SqlError(
                f"`INTERVAL {after.text}` is longer than 292 years; write a product, as in `INTERVAL '1 day' * 200000`"
            )
        moved = place > 2 and piece[place - 1].is_op("+", "-") and piece[place - 3].is_word("DATE")
        if moved and any(unit in _DAYS and _DAYS[unit] < 1 for _, unit in parts):
            raise SqlError(f"a date has no hours to move it by {after.text}: write TIMESTAMP in place of DATE")


def _check_arguments(piece: Sequence[Token]) -> None:
    """Raise if a call has no argument, or if one of `ONLY_HERE` has another number of arguments than it takes.

    polars panics in some calls without arguments, and does not know the names in `ONLY_HERE`.
    """
    for place, (token, after) in enumerate(pairwise(piece)):
        name = token.text.upper()
        before = piece[place - 1] if place else Token("op", "")
        is_call = token.kind == "word" and after.is_op("(") and not before.is_op(".", "::") and not before.is_word("AS")
        if not is_call or name == "PI" or (name not in ARGUMENTS and name.lower() not in FUNCTIONS):
            continue
        count = count_arguments(piece, place + 1)
        if not count:
            raise RefusedError(f"{name} needs an argument")
        if name in ONLY_HERE and count != ARGUMENTS[name][0]:
            raise RefusedError(f"{name} takes one argument, not {count}")


_INTERVAL_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+?)s?(?![a-z])")
_DAYS = {"week": 7, "day": 1, "hour": 1 / 24, "minute": 1 / 1440, "second": 1 / 86_400, "millisecond": 1 / 86_400_000}
_MAX_DAYS = 106_751  # 64 bits of nanoseconds


def _as_meant(expr: pl.Expr, mark: int) -> pl.Expr:
    """Return an expression with what polars makes of null and of integers as SQL has it.

    `STRPOS(s, '.')` counts characters up to that text, where polars counts bytes up to what a pattern matches, and
    gives 0 for null. `RIGHT(s, 3)` of "ab" is "ab", and not "b"; `SUBSTR(s, n)` where n is 0 is all of it, and null
    where its length is null. AND and OR take integers for true or false, where polars takes their bits.
    """
    if expr.meta.undo_aliases().meta.is_column():
        return expr
    try:
        tree = tree_of(expr)
        changed = _changed(tree, mark)
        return expr if changed == tree else expression_of(changed)
    except (*REFUSALS, RecursionError):
        raise SqlError("it is nested too deeply; write it as several results, or in Python") from None


_LOGIC = ("And", "Or")
_COMPARISONS = ("=", "==", "<>", "!=", "<", "<=", ">", ">=")
_MIRRORED = {"Eq": "Eq", "NotEq": "NotEq", "Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_TRUTHS = (*_MIRRORED, "EqValidity", "NotEqValidity")


def _changed(tree: Any, mark: int) -> Any:
    match tree:
        case {"Literal": _}:
            return tree
        case {"Function": {"input": [inner], "function": {"StringExpr": "LenChars"}}} if _is_call(inner, mark, OF_TEXT):
            return _changed(inner, mark)
        case {"Function": {"input": [_, *given], "function": function}} if _is_call(tree, mark):
            return call(function["StringExpr"]["ConcatHorizontal"]["delimiter"], [_changed(x, mark) for x in given])
        case {"Function": {"input": [{"Function": pad}, _, count], "function": {"StringExpr": "Slice"}}} if _is_padding(
            pad, count
        ):
            return padded(_changed(pad["input"][0], mark), _changed(count, mark), pad["function"])
        case {"BinaryExpr": {"left": {"BinaryExpr": {"left": left}} as both, "op": op, "right": right}} if _is_marked(
            both, mark
        ):
            return operation(_changed(left, mark), op, _changed(right, mark))
        case {"BinaryExpr": {"left": left, "op": op, "right": right}} if op in _LOGIC:
            return operation(_truth(left, mark), op, _truth(right, mark))
        case {"BinaryExpr": {"left": left, "op": op, "right": right}} if (
            op in _MIRRORED and not _has_columns(left) and _has_columns(right)
        ):
            # polars fails on a constant before an expression that is null in all rows
            return operation(_changed(right, mark), _MIRRORED[op], _changed(left, mark))
        case dict():
            return {key: _changed(part, mark) for key, part in tree.items()}
        case list():
            return [_changed(part, mark) for part in tree]
    return tree


def _truth(tree: Any, mark: int) -> Any:
    """Return an operand of AND or OR as true, false or null."""
    changed = _changed(tree, mark)
    match tree:
        case {"Literal": {"Dyn": found}}:
            value = found.get("Float", constant(tree))
            if value not in (0, 1):
                raise RefusedError(
                    f"`{value}` beside AND or OR is true for every line: write the comparison again, as in "
                    f"`a = 1 OR a = {value}`, or `a IN (1, {value})`"
                )
        case {"BinaryExpr": {"op": op, "left": left}} if op in _TRUTHS:
            return changed
        case {"BinaryExpr": {"op": op, "left": left}} if op in _LOGIC and not _is_marked(left, mark):
            return changed
        case {"Function": {"function": {"Boolean": _}}} | {"Cast": {"dtype": {"Literal": "Boolean"}}}:
            return changed
    return {"Cast": {"expr": changed, "dtype": {"Literal": "Boolean"}, "options": "Strict"}}


def _is_call(tree: Any, mark: int, but: Sequence[str] = ()) -> bool:
    """Return whether a tree is a call with a mark, of another function than some."""
    match tree:
        case {
            "Function": {"input": [first, *_], "function": {"StringExpr": {"ConcatHorizontal": {"delimiter": name}}}}
        }:
            return constant(first) == mark and name not in but
    return False


def _is_padding(function: Any, count: Any) -> bool:
    """Return whether a function is LPAD or RPAD to a length that may be negative."""
    match function:
        case {"input": [_, width], "function": {"StringExpr": {"PadStart": _} | {"PadEnd": _}}}:
            return bool(width == count) and (constant(count) or -1) < 0
    return False


def _is_marked(tree: Any, mark: int) -> bool:
    return "BinaryExpr" in tree and constant(tree["BinaryExpr"]["right"]) == mark


def _has_columns(tree: Any) -> bool:
    return bool(expression_of(tree).meta.root_names())
