"""Loads a calculation by its reference: a file or a module, and a name in it."""

import importlib
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import transform.engine.plan  # noqa: F401 - a calculation that is loaded will be run; a job should not wait for this
from transform.by_prefix import CalculationsByPrefix
from transform.decode.schema import near_names
from transform.errors import CalculationError, TransformError
from transform.line_function import LineFunction
from transform.lookup_tables import noting_tables
from transform.runnable import Runnable

_DEFAULT_NAMES = ("calculation", "calculations")


def load(reference: str) -> Runnable:
    """Return the calculation that a reference names.

    It is a `Calculation`; or a `LineFunction` of a plain function `def calculation(json_obj)`; or the
    `CalculationsByPrefix` of a dict of either.

    Args:
        reference: `path/file.py:name` or `package.module:name`; without a name, `calculation` or `calculations`.

    Raises:
        CalculationError: The file, module or name does not exist, or is something else.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        ...     _ = file.write("from transform import Calculation; double = Calculation.from_sql('a * 2 AS b')")
        ...     file.flush()
        ...     load(f"{file.name}:double").results
        ('b',)
    """
    place, _, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    with noting_tables() as tables:
        try:
            found = _run_file(Path(place)) if place.endswith(".py") else _import_module(place)
        except _NotThereError as error:
            raise CalculationError(str(error)) from None
        except (Exception, SystemExit) as error:
            kind = "" if isinstance(error, TransformError) else f"{type(error).__name__}: "
            said = error.msg if isinstance(error, SyntaxError) else error  # the full text also contains the line
            raise CalculationError(f"{place} does not load: {kind}{said}{_line_of(error, place)}") from error
    name = name or next((n for n in _DEFAULT_NAMES if n in found), _DEFAULT_NAMES[0])
    there = [n for n, value in found.items() if _as_runnable(value) is not None and not n.startswith("_")]
    if name not in found:
        known = f" It has {', '.join(f'`{n}`' for n in there)}." if there else ""
        raise CalculationError(f"{place} has no `{name}`.{near_names(name, there) or known}")
    runnable = _as_runnable(found[name])
    if runnable is None:
        raise CalculationError(
            f"`{name}` in {place} is of type {type(found[name]).__name__}, which is no calculation; "
            f"write for example: {name} = Calculation(result=pl.col('a') * pl.col('b'))"
        )
    source = found.get("__file__")
    code = Path(source).read_bytes() if source else b""
    parts = (code, name.encode(), *(part for n in sorted(tables) for part in (n.encode(), tables[n])))
    return runnable.made_from(parts)


class _NotThereError(Exception):
    """There is nothing to load."""


def _as_runnable(value: object) -> Runnable | None:
    if isinstance(value, Runnable):
        return value
    if isinstance(value, FunctionType):
        return LineFunction(value)
    if isinstance(value, Mapping) and value and all(isinstance(prefix, str) for prefix in value):
        calculations = {prefix: _as_runnable(found) for prefix, found in value.items()}
        if all(calculations.values()):
            return CalculationsByPrefix({prefix: found for prefix, found in calculations.items() if found})
    return None


def _run_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _NotThereError(f"{path}: no such file")
    directory = str(path.resolve().parent)
    sys.path.insert(0, directory)  # so that it can import modules beside it, as a script can
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
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            if Path(name).is_file():
                raise _NotThereError(f"{name} is not a Python file; a calculation is in one, path/file.py") from None
            raise _NotThereError(
                f"there is no module `{name}`; a file is named with its suffix, as path/file.py:name"
            ) from None
        raise
    finally:
        sys.path.remove(directory)


def _line_of(error: BaseException, place: str) -> str:
    """Return ` (line N)` for the last line of the user's file that the error came through."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    file = place if place.endswith(".py") else place.replace(".", "/") + ".py"
    trace, line = error.__traceback__, None
    while trace is not None:
        if os.path.realpath(trace.tb_frame.f_code.co_filename) == os.path.realpath(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""
