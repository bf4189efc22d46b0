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
    from transform._process import available_cores, keep_freed_memory
    from transform.by_prefix import CalculationsByPrefix
    from transform.calculation import Calculation
    from transform.compare import Comparison
    from transform.compression import Codec, codec_of_encoding, codec_of_name
    from transform.errors import (
        AccessDeniedError,
        CalculationError,
        InputError,
        OutputError,
        RejectedError,
        SchemaError,
        SourceChangedError,
        TransformError,
        UnavailableError,
        WidenError,
        WorkerError,
    )
    from transform.line_function import LineFunction
    from transform.loading import load
    from transform.profile import Profile
    from transform.reject_file import read_rejects
    from transform.run import Stream
    from transform.runnable import Runnable
    from transform.s3 import S3Object, part_size, spare_copies
    from transform.state import State
    from transform.summary import Reason, Summary
    from transform.tables import lookup

__all__ = [
    "AccessDeniedError",
    "Calculation",
    "CalculationError",
    "CalculationsByPrefix",
    "Codec",
    "Comparison",
    "InputError",
    "LineFunction",
    "OutputError",
    "Profile",
    "Reason",
    "RejectedError",
    "Runnable",
    "S3Object",
    "SchemaError",
    "SourceChangedError",
    "State",
    "Stream",
    "Summary",
    "TransformError",
    "UnavailableError",
    "WidenError",
    "WorkerError",
    "available_cores",
    "codec_of_encoding",
    "codec_of_name",
    "keep_freed_memory",
    "load",
    "lookup",
    "part_size",
    "read_rejects",
    "spare_copies",
]

_MODULES = {
    "Calculation": "calculation",
    "CalculationsByPrefix": "by_prefix",
    "Codec": "compression",
    "Comparison": "compare",
    "LineFunction": "line_function",
    "Profile": "profile",
    "Reason": "summary",
    "Runnable": "runnable",
    "S3Object": "s3",
    "State": "state",
    "Stream": "run",
    "Summary": "summary",
    "available_cores": "_process",
    "codec_of_encoding": "compression",
    "codec_of_name": "compression",
    "keep_freed_memory": "_process",
    "load": "loading",
    "lookup": "tables",
    "part_size": "s3",
    "read_rejects": "reject_file",
    "spare_copies": "s3",
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
