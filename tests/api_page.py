"""The page docs/api.md, made from the names that `transform` exports: `python -m tests.api_page` writes it."""

from __future__ import annotations

import inspect

import transform
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "api.md"

GROUPS = {
    "Calculations": (
        *("Calculation", "LineFunction", "CalculationsByPrefix", "Runnable"),
        *("load", "lookup", "source", "mask", "sha256", "hmac_sha256", "parse_names", "parse_paths", "parse_rules"),
    ),
    "Results": ("Summary", "Reason", "State", "Stream", "Comparison", "Profile", "read_rejects"),
    "Errors": (
        *("TransformError", "OptionError", "CalculationError", "SchemaError", "WidenError", "RejectedError"),
        *("InputError", "SourceChangedError", "AccessDeniedError", "UnavailableError", "DamagedError"),
        *("OutputError", "WorkerError"),
    ),
    "Objects in S3": (
        *("S3Object", "S3Failure", "MultipartUpload", "UploadedPart", "PartBuffer", "PartSizes", "prepare_sending"),
        *("Codec", "codec_of_encoding", "codec_of_name", "filesystem"),
    ),
    "Texts": (
        *("parse_size", "format_size", "format_exact_size", "parse_duration", "format_duration"),
        *("printable", "printable_json", "fit_to_terminal", "available_cores"),
    ),
}
"""Each name that the package exports, below the heading that it belongs to."""

_START = """# Python API

The names that `transform` exports. The site, which `make docs` builds, shows the docstring of each; this page of the
repository shows the first lines, and `help(Calculation)` in Python prints all of one. The last two groups are for
programs that write objects themselves, as the worker does.

Made from the docstrings by `python -m tests.api_page`; a test compares the two.
"""


def page() -> str:
    """Return what the page is to hold."""
    return "\n".join([_START, *(f"## {title}\n\n{_entries(names)}" for title, names in GROUPS.items())])


def _entries(names: tuple[str, ...]) -> str:
    return "".join(f"- [`{name}`](../{_file(name)}): {_summary(name)}\n" for name in names)


def _file(name: str) -> str:
    module: str = getattr(transform, name).__module__
    return f"{module.replace('.', '/')}.py"


def _summary(name: str) -> str:
    """Return the first sentence of a docstring, without its full stop."""
    return inspect.cleandoc(getattr(transform, name).__doc__ or "").partition("\n")[0].removesuffix(".")


if __name__ == "__main__":
    PAGE.write_text(page())
