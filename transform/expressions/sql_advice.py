"""What to write instead of a SQL text that polars does not understand."""

import re
from collections.abc import Callable, Sequence

from transform.expressions.sql_tokens import Token, shown

_INSTEAD: tuple[tuple[str, str], ...] = (
    (r"[‘’‚“”„«»]", "quotes are straight: 'text' and \"name\", not the typographic ones"),
    (r"''\w", "a single quote within a text is doubled: `'it''s'`"),
    (r"===?=|!==", "write `=` in place of `===`, and `<>` in place of `!==`"),
    (r"[!=~]~?\s*/[^/]*/", "a pattern is a text in single quotes: `path ~ 'a.*'`"),
    (
        r"(?i)^\s*\w+\s*:(?!:)",
        "a result is named with AS, after its expression: `status * 2 AS s`",
    ),
    (r"(?i)\bIS\s+(NOT\s+)?''", "write `=` or `<>` to compare with a text; IS takes NULL, TRUE and FALSE"),
    (r"(?i)\bIS\s+(NOT\s+)?-?\d", "write `=` or `<>` to compare with a number; IS takes NULL, TRUE and FALSE"),
    (r"(?i)\bcontains\s*''", "write `path LIKE '%a%'` for a text with `a` in it, or `ARRAY_CONTAINS(l, 'a')`"),
    (r"(?i)\bstarts_?with\s*''", "write `STARTS_WITH(path, 'a')`"),
    (r"(?i)\bends_?with\s*''", "write `ENDS_WITH(path, 'a')`"),
    (r"(?i)\bmatches\s*''", "write `path ~ 'a.*'`"),
    (r"(?i)\bIN\s*\[", "the values of IN are in parentheses: `status IN (200, 404)`"),
    (r"(?i)^\s*\[\s*[^\W\d]\w*(\s+\w+)*\s*\]", 'a name is written in double quotes, not in brackets: `"order id"`'),
    (r"(?i)\b(STRFTIME|STRPTIME|DATE|TIME|TIMESTAMP)\s*\(\s*''\s*,", "the format comes second: `STRFTIME(t, '%Y')`"),
    (r"(?i)^\s*(LIKE|ILIKE|IN|BETWEEN|RLIKE|REGEXP)\b", "there is nothing before the operator: write `name LIKE 'a%'`"),
    (
        r"->>?\s*(''|\w+)\s*(?!->|::)([-+*/%<>=|&]|\b(AND|OR|IN|LIKE|IS|BETWEEN)\b)",
        "put the path in parentheses, as in `(l[1] -> 'price') * 2`: without them what follows belongs to it",
    ),
    (r"(?i)([-+*/%=<>|]|\b(AND|OR|NOT|XOR|LIKE|ILIKE|IN|IS|BETWEEN))\s*$", "there is nothing after the last operator"),
    (r"(?i)([-+*/%=<>|]|\b(AND|OR|NOT|XOR))\s+AS\s+\w+\s*$", "there is nothing after the operator before AS"),
    (r";", "write one list of expressions, separated by commas, without `;`"),
    (r"&&", "write `AND` in place of `&&`"),
    (r"\*\*|\^(?!@)", "write `POWER(a, 2)` in place of `a ^ 2` or `a ** 2`"),
    (r"<<|>>", "write `a * 2` or `a // 2` in place of a shift"),
    (r"(?i)\bDIV\b", "write `DIV(a, 3)` or `a // 3` in place of `a DIV 3`"),
    (r"(?i)\bSIMILAR\s+TO\b", "write `s ~ '^(?:pattern)$'` in place of SIMILAR TO"),
    (r"(?i)\bGLOB\b", "write `s LIKE 'a%'` in place of GLOB"),
    (r"(?i)\bESCAPE\b", "LIKE has no ESCAPE here: write `s ~ '^50%'`, as `%` and `_` are ordinary characters there"),
    (r"(?i)\bI?LIKE\s+(ANY|ALL|SOME)\b", "write `s LIKE 'a%' OR s LIKE 'b%'`"),
    (
        r"(?i)\bI?LIKE\b(?!\s*'')",
        "the pattern of LIKE must be a text; for one that a member holds there are "
        "`STARTS_WITH(s, t)`, `ENDS_WITH(s, t)` and `STRPOS(s, t) > 0`",
    ),
    (r"(?i)\bCOLLATE\b", "text is compared by its code points; write `LOWER(a)` on both sides to ignore case"),
    (r"(?i)\bAT\s+TIME\s+ZONE\b", "in Python, .dt.convert_time_zone('Europe/Berlin') does that"),
    (
        r"(?i)\bTRIM\s*\((?!\s*(BOTH|LEADING|TRAILING)\b)",
        "characters to trim are written `TRIM(BOTH 'x' FROM s)`, `LTRIM(s, 'x')` or `RTRIM(s, 'x')`",
    ),
    (r"(?i)\b[LR]PAD\s*\(", "the third argument of LPAD and RPAD is one character"),
    (r"(?i)\bDISTINCT\b(?!\s+FROM)", "DISTINCT looks at other lines, and a line's result may depend on that line only"),
    (
        r"\[[^\]]*\]\s*(\.|\[)|\)\s*\.",
        "a member of an element is written `l[1] -> 'k'`, an element of an element `l[1] -> 0`",
    ),
    (r"\[[^\]]*:[^\]]*\]", "in Python, .list.slice(0, 2) does that"),
    (r"(?i)\bARRAY\s*\[|(?<![\w\])\"])\s*\[", "a list of members is written in Python: pl.concat_list('a', 'b')"),
    (r"(?i)\{|\bSTRUCT\s*\(", "an object is written in Python: pl.struct('a', 'b')"),
    (r"(?i)\b[en]''", "a text is written in plain single quotes, with `''` for a quote in it"),
    (r"(?i)\b(TRY_)?CONVERT\s*\(", "write `CAST(a AS BIGINT)`"),
    (r"(?i)\bOVERLAY\s*\(", "write `CONCAT(LEFT(s, 2), 'new', SUBSTR(s, 5))`"),
    (r"\?", "a condition is written `CASE WHEN a THEN b ELSE c END` or `IF(a, b, c)`"),
    (r"(?i)\bCASE\b(?!.*\bEND\b)", "CASE has no END: write `CASE WHEN a THEN b ELSE c END`"),
    (r"(?i)\bBETWEEN\b(?!.*\bAND\b)", "write `a BETWEEN 1 AND 9`"),
    (r"(?i)\bIN\b(?!\s*\()", "the values of IN are in parentheses: `a IN (1, 2)`"),
    (r"~(?![*'])\s*\w", "write `BIT_NOT(a)` or `NOT a` in place of `~a`; a pattern must be a text: `s ~ 'a.*'`"),
    (r"!(?![=~])", "write `NOT a` in place of `!a`"),
    (r"(?<!:)[$:]\w", "there are no parameters: write the value itself"),
    (r"^\s*(AS\b|$)", "there is no expression before AS"),
    (r"(?i)\bAS\s*$", "there is no name after AS"),
)
_EXAMPLES = tuple((re.compile(pattern, re.DOTALL), instead) for pattern, instead in _INSTEAD)


def advice(piece: Sequence[Token], is_read: Callable[[Sequence[Token]], bool]) -> str:
    """Return how to write a piece that polars does not understand, "" if there is no more to say than polars does.

    Args:
        piece: A piece of a text.
        is_read: Whether a piece is understood.
    """
    if quoted := _with_quotes(piece, is_read):
        return quoted
    return instead(piece)


def instead(piece: Sequence[Token]) -> str:
    """Return what to write in place of something known that a piece has, "" if it has nothing of the kind."""
    skeleton = shown([Token(token.kind, _emptied(token)) for token in piece])
    return next((instead for pattern, instead in _EXAMPLES if pattern.search(skeleton)), "")


def _emptied(token: Token) -> str:
    if token.kind == "string":
        return f"{token.text[0]}''" if token.text[0] in "eEnN" else "''"
    return '""' if token.kind == "quoted" else token.text


def _with_quotes(piece: Sequence[Token], is_read: Callable[[Sequence[Token]], bool]) -> str:
    """Return which word is a name that must be quoted, a keyword or a name of two words; "" if quotes do not help."""
    for start, token in enumerate(piece):
        if token.kind not in ("word", "number"):
            continue
        for end in range(start + 1, min(start + _TOKENS_OF_A_NAME, len(piece)) + 1):
            part = piece[start:end]
            if part[-1].kind not in ("word", "number", "space"):
                break
            if part[-1].kind == "space" or (len(part) == 1 and token.kind == "number"):
                continue
            follows_bracket = end < len(piece) and piece[end].is_op("(", "[", "{")
            if follows_bracket or any(other.is_word(*_OPERATORS) for other in part if len(part) > 1):
                continue
            name = "".join(other.text for other in part)
            if is_read([*piece[:start], Token("quoted", f'"{name}"'), *piece[end:]]):
                what = (
                    "is a keyword of SQL: the name of a member"
                    if len(part) == 1
                    else "must be quoted if it is a name: it"
                )
                return f'`{name}` {what} is written `"{name}"`, in double quotes'
    return ""


_TOKENS_OF_A_NAME = 5
_OPERATOR_WORDS = (
    "AND OR NOT IS IN LIKE ILIKE BETWEEN THEN ELSE WHEN CASE END DISTINCT FROM XOR DIV AS RLIKE REGEXP SIMILAR TO GLOB "
    "INTERVAL ESCAPE COLLATE AT TIME ZONE NULL TRUE FALSE JSON"
)
_OPERATORS = tuple(_OPERATOR_WORDS.split())

_UNEXPECTED = re.compile(r"unexpected token '(.*)'\)", re.DOTALL)
_UNSUPPORTED = re.compile(
    r"^(?:expression|operator|value) (\w+)\b.* is not (?:currently supported|a supported literal type)", re.DOTALL
)
_DEBUG = re.compile(r"\w+(?:\(|\(?\[| \{ ?)\w+(?:\(| \{|: )|ValueWithSpan|Span\(|Ident \{")
"""Values as the parser prints them for its own developers."""
_DATA_TYPE = re.compile(r'datatype "?(.*?)"? is not currently supported')


def plain(error: BaseException) -> str:
    """Return what polars says, in plain words."""
    said = str(error).strip().partition("\n")[0]
    if found := _UNEXPECTED.search(said):
        return f"`{found[1]}` is not expected there: is a comma, an operator or AS missing before it?"
    if said.startswith(("unable to parse", "sql parser error", "expected an expression")):
        return "it is not a complete expression: is something missing, such as a value after an operator?"
    if found := _DATA_TYPE.search(said):
        return f"there is no type {found[1]}: types are BIGINT, HUGEINT, DOUBLE, DECIMAL(38, 2), VARCHAR, BOOLEAN, DATE"
    if found := _UNSUPPORTED.search(said):
        return f"expressions of this kind ({found[1]}) are not supported"
    if debug := _DEBUG.search(said):
        before = said[: debug.start()].strip(" :")
        return f"{before}: a text in quotes or a number is needed in its place, or parentheses around a part"
    return said
