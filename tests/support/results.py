"""The results of a calculation as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from transform.expressions.evaluate import Evaluated


def as_texts(evaluated: Evaluated) -> pl.DataFrame:
    """Return the results as JSON texts, of which numbers are made here as the kernel makes them."""
    return evaluated.results.with_columns(pl.selectors.numeric().cast(pl.String).fill_null("null"))
