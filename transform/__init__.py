"""Transforms JSON lines with polars expressions, without losing or bending a byte.

A `Calculation` says what to compute, in polars' own manner. Running it streams an input in chunks of lines, decodes
only the members that the expressions read, evaluates them as columns, and splices the results into the original bytes
of each line: what nobody touched is never decoded and encoded again. The output appears whole or not at all, and lines
that are no good are kept beside it, with the reason.

    lines → decode → evaluate → splice → sink

    import polars as pl
    from transform import Calculation

    calculation = Calculation(review_score=pl.col("stars") * pl.col("review_count"))
    calculation.preview("businesses.json")
    calculation.run("businesses.json", "scored.json")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transform.by_prefix import CalculationsByPrefix
    from transform.calculation import Calculation
    from transform.errors import (
        CalculationError,
        InputError,
        OutputError,
        RejectedError,
        SchemaError,
        TransformError,
        WorkerError,
    )
    from transform.line_function import LineFunction
    from transform.loading import load
    from transform.summary import Reason, Summary
    from transform.tables import lookup

__all__ = [
    "Calculation",
    "CalculationError",
    "CalculationsByPrefix",
    "InputError",
    "LineFunction",
    "OutputError",
    "Reason",
    "RejectedError",
    "SchemaError",
    "Summary",
    "TransformError",
    "WorkerError",
    "load",
    "lookup",
]

_MODULES = {
    "Calculation": "calculation",
    "CalculationsByPrefix": "by_prefix",
    "LineFunction": "line_function",
    "Reason": "summary",
    "Summary": "summary",
    "load": "loading",
    "lookup": "tables",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command answers `--help` without waiting for polars."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
