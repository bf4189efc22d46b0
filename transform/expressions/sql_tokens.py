"""SQL text cut into tokens, and into the pieces that its commas separate; and pieces in words that polars understands.

`marked`, `with_truth_tests` and `with_doubles` write a piece so that polars parses what SQL means by it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    | (?P<string>[eE]'(?:[^'\\]|\\.|'')*+'|[xXnNbB]?'(?:[^']|'')*+'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"]|"")*+"|`(?:[^`]|``)*+`)
    | (?P<open>['"`].*|/\*.*)
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d][\w@$\#]*|[@\#][\w@$\#]+)
    | (?P<op><=>|->>|\#>>|!~\*|<>|!=|<=|>=|==|\|\||::|->|\#>|!~|~\*|\^@|&&|//|\*\*|<<|>>|.)
    """,
    re.DOTALL | re.VERBOSE,
)
BRACKETS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a SQL text.

    Attributes:
        kind: space (also a comment), string, quoted (a name), number, word, op, or open: a quote or comment that is not
            closed, with all that follows.
        text: As it is in the text.
        depth: The number of brackets around it.
    """

    kind: str
    text: str
    depth: int = 0

    def is_word(self, *words: str) -> bool:
        """Return whether it is one of the words, which are in capitals."""
        return self.kind == "word" and self.text.upper() in words

    def is_op(self, *ops: str) -> bool:
        """Return whether it is one of the operators."""
        return self.kind == "op" and self.text in ops


def tokens(text: str) -> list[Token]:
    """Return the tokens of a SQL text; put together, their texts are that text."""
    found, depth = list[Token](), 0
    for match in _TOKEN.finditer(text):
        kind = next(name for name in _TOKEN.groupindex if name != "tag" and match[name] is not None)
        depth -= match[0] in BRACKETS
        found.append(Token(kind, match[0], depth))
        depth += match[0] in BRACKETS.values()
    return found


def shown(piece: Sequence[Token]) -> str:
    """Return a piece of a text without its comments."""
    return "".join(
        " " if token.kind == "space" and token.text[:2] in ("--", "/*") else token.text for token in piece
    ).strip()


def pieces(text: str) -> Iterator[list[Token]]:
    """Yield the pieces of a text that its commas separate, other than those in brackets or quotes."""
    piece = list[Token]()
    for token in tokens(text):
        if token.is_op(",") and token.depth <= 0:
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


# --- pieces in words that polars understands -----------------------------------------------------------------------

ARGUMENTS = {
    "SUBSTR": (2, 3),
    "SUBSTRING": (2, 3),
    "LEFT": (2, 2),
    "RIGHT": (2, 2),
    "STRPOS": (2, 2),
    "POSITION": (2, 2),
    "BIT_AND": (2, 2),
    "BITAND": (2, 2),
    "BIT_OR": (2, 2),
    "BITOR": (2, 2),
    "REPLACE": (3, 3),
    "SPLIT_PART": (3, 3),
    "STRING_TO_ARRAY": (2, 2),
    "ARRAY_CONTAINS": (2, 2),
    "ARRAY_SUM": (1, 1),
    "ARRAY_TO_STRING": (2, 2),
    "SHA256": (1, 1),
    "HMAC_SHA256": (1, 1),
    "MASK": (1, 1),
}
"""The functions that are not left to polars, with the least and the largest number of their arguments."""
ONLY_HERE = ("SHA256", "HMAC_SHA256", "MASK")
"""The functions that polars does not have."""
OF_TEXT = (
    *("SUBSTR", "SUBSTRING", "LEFT", "RIGHT", "REPLACE", "SPLIT_PART", "ARRAY_TO_STRING"),
    *ONLY_HERE,
)


def marked(piece: Sequence[Token], mark: str) -> list[Token]:
    """Return a piece with a mark in the calls of `ARGUMENTS` and beside `&` and `|`, which nothing else in it has.

    polars makes the same of AND and of `&`, and of SUBSTR and RIGHT parts that occur in other expressions, too. `f(a)`
    becomes CONCAT_WS('f', mark, a), which keeps the arguments as they are, and `a & b` becomes `a & mark & b`. A number
    remains one for polars, which would make a text of `1` in `1 = f('a')` otherwise.
    """
    found = list(piece)
    places = [place for place, token in enumerate(piece) if token.kind != "space"]
    parts = [piece[place] for place in places]
    for index, (token, after) in enumerate(pairwise(parts)):
        if token.is_op("&", "|"):
            found[places[index]] = Token("op", f"{token.text} {mark} {token.text}")
        before = parts[index - 1] if index else Token("op", "")
        name = (token.text if token.kind == "word" else token.text[1:-1]).upper()
        if token.kind not in ("word", "quoted") or name not in ARGUMENTS or not after.is_op("("):
            continue
        if before.is_op(".", "::") or before.is_word("AS"):
            continue
        commas = {places[place]: comma for place, comma in _separators(parts, index + 1).items()}
        closing = next(place for place in range(index + 2, len(parts)) if parts[place].depth == after.depth)
        number = name not in OF_TEXT
        fewest, most = ARGUMENTS[name]
        if fewest <= len(commas) + 1 <= most:
            found[places[index]] = Token("op", f"{'LENGTH(' * number}CONCAT_WS")
            found[places[index + 1]] = Token("op", f"('{name}', {mark}, ")
            found[places[closing]] = Token("op", "))" if number else ")")
            for place, comma in commas.items():
                found[place] = Token("op", comma)
    return found


def count_arguments(parts: Sequence[Token], opening: int) -> int:
    """Return how many arguments a call has, given the place of its opening bracket; `parts` has no white space."""
    if opening + 1 < len(parts) and parts[opening + 1].is_op(")"):
        return 0
    return len(_separators(parts, opening)) + 1


def _separators(parts: Sequence[Token], opening: int) -> dict[int, str]:
    """Return where the arguments of a call are separated, with what stands for commas there."""
    name, found, cases = parts[opening - 1], dict[int, str](), 0
    for place in range(opening + 1, len(parts)):
        token, before = parts[place], parts[place - 1]
        if token.depth <= parts[opening].depth:
            break
        if token.depth > parts[opening].depth + 1 or before.is_op("."):
            continue
        cases += token.is_word("CASE") - token.is_word("END")
        words = ("FROM", "FOR") if name.is_word("SUBSTRING") else ("IN",) if name.is_word("POSITION") else ()
        if token.is_op(","):
            found[place] = ","
        elif token.is_word(*words) and not cases and not before.is_word("DISTINCT", "NOT") and len(found) < 2:
            found[place] = ", 1, " if token.is_word("FOR") and not found else " , "
    return found


def with_truth_tests(piece: Sequence[Token]) -> list[Token]:
    """Return a piece with `IS TRUE` and the like in other words, as polars gives null for null.

    `<=>` is equality with nulls, and binds as `=` does.
    """
    found = list(piece)
    places = [place for place, token in enumerate(piece) if token.kind != "space"]
    for index, place in enumerate(places):
        words = [found[later].text.upper() for later in places[index : index + 3]]
        if not found[place].is_word("IS"):
            continue
        negated = words[1:2] == ["NOT"]
        value = words[2 if negated else 1 :][:1]
        if value in (["TRUE"], ["FALSE"]):
            end = " = FALSE" if negated else ""
            found[place] = Token("op", f"<=> {value[0]}{end}")
        elif value == ["UNKNOWN"]:
            found[place] = Token("word", "IS NOT NULL" if negated else "IS NULL")
        else:
            continue
        for later in places[index + 1 : index + (3 if negated else 2)]:
            found[later] = Token("space", " ")
    return found


def with_doubles(piece: Sequence[Token]) -> list[Token]:
    """Return a piece with its decimal literals as doubles, as polars computes `0.1 + 0.2` with decimals at once.

    A literal that is cast to a decimal type stays what it is.
    """
    found = list(piece)
    places = [place for place, token in enumerate(piece) if token.kind != "space"]
    for index, place in enumerate(places):
        token = piece[place]
        if token.kind != "number" or "." not in token.text or "e" in token.text.lower():
            continue
        follow = [piece[later] for later in places[index + 1 : index + 3]]
        is_cast = len(follow) == 2 and (follow[0].is_op("::") or (follow[0].is_word("AS") and token.depth > 0))
        if not (is_cast and follow[1].is_word("DECIMAL", "NUMERIC", "DEC")):
            found[place] = Token("number", f"{token.text}e0", token.depth)
    return found
