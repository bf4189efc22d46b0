"""Expressions computed on any number of rows in the way polars computes them on many.

polars takes a column of one value for a constant, and divides by a constant by multiplying with its reciprocal: with
`49.0 // 49` that gives 0, where among other rows it gives 1. The same goes for the elements of lists, where a frame has
but one. And some functions fail for want of rows. So what is single is computed with a copy of itself beside it.
"""

from collections.abc import Sequence

import polars as pl

from transform.tree import REFUSALS, nodes


def looks_into_lists(exprs: Sequence[pl.Expr]) -> bool:
    """Return whether any of the expressions evaluates others on the elements of lists."""
    return any(node.kind == "Eval" for expr in exprs for node in nodes(expr))


def compute_padded(frame: pl.DataFrame, exprs: Sequence[pl.Expr], *, into_lists: bool) -> pl.DataFrame:
    """Return the frame with the expressions' columns.

    Args:
        frame: The rows.
        exprs: Expressions with names.
        into_lists: Whether any of them looks into lists.
    """
    if frame.height > 1 and not into_lists:
        return frame.with_columns(exprs)
    if not frame.height:
        try:
            return frame.with_columns(exprs)
        except REFUSALS:
            nulls = pl.DataFrame({name: [None] * 2 for name in frame.columns}, frame.schema)
            return nulls.with_columns(exprs).clear()
    if not frame.width:
        return pl.DataFrame(height=2 * frame.height).with_columns(exprs).head(frame.height)
    twice = pl.DataFrame({column.name: pl.concat([column, column], rechunk=True) for column in frame})
    return twice.with_columns(exprs).head(frame.height)
