"""The hashes in expressions: `extract` puts columns in their place, and `hashed` computes them in the kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from transform.errors import CalculationError
from transform.expressions.pseudonyms import MARK
from transform.expressions.tree import expression, load, show
from transform.native.binding import hashes


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash in an expression.

    Attributes:
        column: The column that is in its place.
        value: What is hashed.
        kind: `sha256` or `hmac_sha256`.
    """

    column: str
    value: pl.Expr
    kind: str


def extract(expr: pl.Expr, is_taken: Callable[[str], bool]) -> tuple[pl.Expr, list[Hash]]:
    """Return an expression with columns in place of its hashes, and the hashes, each before those that are made of it.

    Args:
        expr: The expression.
        is_taken: Whether a column has a name.

    Raises:
        CalculationError: It hashes the elements of a list.
    """
    if MARK.encode() not in expr.meta.serialize():
        return expr, []
    found: list[Hash] = []

    def rewritten(tree: Any, *, within: bool) -> Any:
        match tree:
            case {"Function": {"input": [mark, value], "function": function}} if mark == _MARK_TREE:
                if within:
                    raise CalculationError(
                        f"{show(expr)} is refused: elements of lists cannot be hashed, only members of objects"
                    )
                hashed = rewritten(value, within=within)
                kind = function["StringExpr"]["ConcatHorizontal"]["delimiter"]
                column = kind
                while is_taken(column) or any(column == other.column for other in found):
                    column += "'"
                found.append(Hash(column, expression(hashed), kind))
                return {"Column": column}
            case {"Eval": {"expr": inner, "evaluation": evaluation}}:
                parts = {"expr": rewritten(inner, within=within), "evaluation": rewritten(evaluation, within=True)}
                return {"Eval": tree["Eval"] | parts}
            case {"Literal": _}:
                return tree
            case dict():
                return {key: rewritten(part, within=within) for key, part in tree.items()}
            case list():
                return [rewritten(part, within=within) for part in tree]
        return tree

    return expression(rewritten(load(expr), within=False)), found


_MARK_TREE = {"Literal": {"Scalar": {"String": MARK}}}


def hashed(values: pl.Series, key: bytes | None) -> pl.Series:
    """Return the hash of each text, or its HMAC if there is a key; null where it is null."""
    from transform.decode import arrow  # noqa: PLC0415 - other calculations do not need it

    if not len(values):
        return pl.Series(values.name, [], pl.String)
    text = values.alias("").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())  # a large_string
    _, offsets, data = text.buffers()
    places = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    valid = values.is_not_null().to_numpy()
    digits = hashes(content, places, valid, key)
    return arrow.from_text(digits, np.arange(len(values) + 1, dtype=np.int64) * 64, valid).alias(values.name)
