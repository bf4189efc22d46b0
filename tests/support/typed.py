"""A probe of how a column is typed: a result that is a column's value, decoded by its type and encoded again.

A bare column is passed on as bytes and has no type, so tests of types compute something that needs one and changes
nothing: a value of any type, arrays and objects too.
"""

from __future__ import annotations

import polars as pl


def typed(name: str) -> pl.Expr:
    """Return an expression that reads the whole value of a column, and is that value."""
    return pl.when(pl.lit(True)).then(pl.col(name))


def typed_sql(name: str) -> str:
    """Return the same as SQL; `name` is written as SQL has it."""
    return f"CASE WHEN TRUE THEN {name} END"
