"""Transforms JSON lines with polars expressions; everything that a calculation does not change stays byte for byte.

A `Calculation` is defined by polars expressions. A run reads the input in chunks of lines, decodes only the members
that the expressions read, evaluates the expressions on them as columns, and splices the results into the original bytes
of each line. The output is published complete or not at all, and rejected lines are kept beside it with the reason.

    lines → decode → evaluate → splice → output

    import polars as pl
    from transform import Calculation

    calculation = Calculation(review_score=pl.col("stars") * pl.col("review_count"))
    calculation.preview("businesses.json")
    calculation.run("businesses.json", "scored.json")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transform._process import available_cores
    from transform.by_prefix import CalculationsByPrefix
    from transform.calculation import Calculation
    from transform.decode.row_format import parse_paths
    from transform.engine.projection import parse_names
    from transform.engine.reject_file import read_rejects
    from transform.engine.run import Stream
    from transform.engine.summary import Reason, State, Summary
    from transform.errors import (
        AccessDeniedError,
        CalculationError,
        DamagedError,
        InputError,
        OptionError,
        OutputError,
        RejectedError,
        SchemaError,
        SourceChangedError,
        TransformError,
        UnavailableError,
        WidenError,
        WorkerError,
    )
    from transform.explore.compare import Comparison
    from transform.explore.profile import Profile
    from transform.expressions.origins import source
    from transform.expressions.pseudonyms import hmac_sha256, mask, sha256
    from transform.expressions.rules import parse_rules
    from transform.io.compression import Codec, codec_of_encoding, codec_of_name
    from transform.io.s3 import S3Failure, S3Object, filesystem
    from transform.io.s3_writer import MultipartUpload, PartBuffer, PartSizes, UploadedPart, prepare_sending
    from transform.line_function import LineFunction
    from transform.loading import load
    from transform.lookup_tables import lookup
    from transform.runnable import Runnable
    from transform.sizes import format_duration, format_exact_size, format_size, parse_duration, parse_size
    from transform.terminal_text import fit_to_terminal, printable, printable_json

__all__ = [
    "AccessDeniedError",
    "Calculation",
    "CalculationError",
    "CalculationsByPrefix",
    "Codec",
    "Comparison",
    "DamagedError",
    "InputError",
    "LineFunction",
    "MultipartUpload",
    "OptionError",
    "OutputError",
    "PartBuffer",
    "PartSizes",
    "Profile",
    "Reason",
    "RejectedError",
    "Runnable",
    "S3Failure",
    "S3Object",
    "SchemaError",
    "SourceChangedError",
    "State",
    "Stream",
    "Summary",
    "TransformError",
    "UnavailableError",
    "UploadedPart",
    "WidenError",
    "WorkerError",
    "available_cores",
    "codec_of_encoding",
    "codec_of_name",
    "filesystem",
    "fit_to_terminal",
    "format_duration",
    "format_exact_size",
    "format_size",
    "hmac_sha256",
    "load",
    "lookup",
    "mask",
    "parse_duration",
    "parse_names",
    "parse_paths",
    "parse_rules",
    "parse_size",
    "prepare_sending",
    "printable",
    "printable_json",
    "read_rejects",
    "sha256",
    "source",
]

_MODULES = {
    "Calculation": "calculation",
    "CalculationsByPrefix": "by_prefix",
    "Codec": "io.compression",
    "Comparison": "explore.compare",
    "LineFunction": "line_function",
    "MultipartUpload": "io.s3_writer",
    "PartBuffer": "io.s3_writer",
    "PartSizes": "io.s3_writer",
    "Profile": "explore.profile",
    "Reason": "engine.summary",
    "Runnable": "runnable",
    "S3Failure": "io.s3",
    "S3Object": "io.s3",
    "State": "engine.summary",
    "Stream": "engine.run",
    "Summary": "engine.summary",
    "UploadedPart": "io.s3_writer",
    "available_cores": "_process",
    "codec_of_encoding": "io.compression",
    "codec_of_name": "io.compression",
    "filesystem": "io.s3",
    "fit_to_terminal": "terminal_text",
    "format_duration": "sizes",
    "format_exact_size": "sizes",
    "format_size": "sizes",
    "hmac_sha256": "expressions.pseudonyms",
    "load": "loading",
    "lookup": "lookup_tables",
    "mask": "expressions.pseudonyms",
    "parse_duration": "sizes",
    "parse_names": "engine.projection",
    "parse_paths": "decode.row_format",
    "parse_rules": "expressions.rules",
    "parse_size": "sizes",
    "prepare_sending": "io.s3_writer",
    "printable": "terminal_text",
    "printable_json": "terminal_text",
    "read_rejects": "engine.reject_file",
    "sha256": "expressions.pseudonyms",
    "source": "expressions.origins",
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
