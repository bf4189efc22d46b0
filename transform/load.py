"""Finding a calculation by reference."""

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

from transform.calculation import Calculation
from transform.errors import CalculationError, TransformError
from transform.schema import near_names

DEFAULT_NAME = "calculation"


def load(reference: str) -> Calculation:
    """Return the calculation that a reference names.

    Args:
        reference: `path/file.py:name` or `package.module:name`; without a name, `calculation`.

    Raises:
        CalculationError: There is none, or what is there is no `Calculation`.
    """
    place, _, name = reference.rpartition(":") if ":" in reference else (reference, "", DEFAULT_NAME)
    try:
        found = _run_file(Path(place)) if place.endswith(".py") else _import_module(place)
    except TransformError:
        raise
    except Exception as error:  # whatever the user's own code raises is theirs to mend
        line = _line_of(error, place)
        raise CalculationError(f"{place} does not load: {type(error).__name__}: {error}{line}") from error
    calculations = [n for n, value in found.items() if isinstance(value, Calculation)]
    if name not in found:
        there = f" It has {', '.join(f'`{n}`' for n in calculations)}." if calculations else ""
        raise CalculationError(f"{place} has no `{name}`.{near_names(name, calculations) or there}")
    calculation = found[name]
    if not isinstance(calculation, Calculation):
        raise CalculationError(
            f"`{name}` in {place} is a {type(calculation).__name__}, not a Calculation; "
            f"write for example: {name} = Calculation(result=pl.col('a') * pl.col('b'))"
        )
    return calculation


def _run_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CalculationError(f"{path}: no such file")
    directory = str(path.resolve().parent)
    sys.path.insert(0, directory)  # so that it can import what lies beside it, as a script can
    try:
        return runpy.run_path(str(path))
    finally:
        sys.path.remove(directory)


def _import_module(name: str) -> dict[str, Any]:
    directory = str(Path.cwd())
    sys.path.insert(0, directory)
    try:
        return vars(importlib.import_module(name))
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise CalculationError(
                f"there is no module `{name}`; a file is named with its suffix, as path/file.py:name"
            ) from None
        raise
    finally:
        sys.path.remove(directory)


def _line_of(error: BaseException, place: str) -> str:
    """Return ` (line N)` for the last line of the file that the error came through."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(place):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""
