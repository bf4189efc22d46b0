"""Loads a calculation by its reference: a file or a module, and a name in it."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import transform.engine.plan  # noqa: F401 - a calculation that is loaded will be run; a job should not wait for this
from transform.by_prefix import CalculationsByPrefix
from transform.decode.near_names import near_names
from transform.engine.spec import digest
from transform.errors import CalculationError, OptionError, TransformError
from transform.line_function import LineFunction
from transform.local_imports import LocalImports
from transform.lookup_tables import noting_tables
from transform.runnable import Runnable

_DEFAULT_NAMES = ("calculation", "calculations")
_RUN = "<run_path>"  # the name of the module that a file is executed as
_parts_within: ContextVar[list[bytes] | None] = ContextVar("parts within", default=None)


def load(reference: str | os.PathLike[str]) -> Runnable:
    """Return the calculation that a reference names.

    It is a `Calculation`; or a `LineFunction` of a plain function `def calculation(json_obj)`; or the
    `CalculationsByPrefix` of a dict of either.

    Args:
        reference: `path/file.py:name` or `package.module:name`; without a name, `calculation` or `calculations`. It
            can be a path.

    Raises:
        CalculationError: The file, module or name does not exist, or is something else.
        OptionError: The reference is not text or a path.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        ...     _ = file.write("from transform import Calculation; double = Calculation.from_sql('a * 2 AS b')")
        ...     file.flush()
        ...     load(f"{file.name}:double").results
        ('b',)
    """
    reference = os.fspath(reference) if isinstance(reference, str | os.PathLike) else reference
    if not isinstance(reference, str):
        raise OptionError(f"a calculation is named as path/file.py:name or package.module:name, not {reference!r:.80}")
    place, _, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    with noting_tables() as tables:
        try:
            loaded = _run_file(Path(place)) if place.endswith(".py") else _import_module(place)
        except _NotThereError as error:
            raise CalculationError(str(error)) from None
        except (Exception, SystemExit) as error:
            kind = "" if isinstance(error, TransformError) else f"{type(error).__name__}: "
            said = error.msg if isinstance(error, SyntaxError) else error  # the full text also contains the line
            raise CalculationError(f"{place} does not load: {kind}{said}{_line_of(error, place)}") from error
    found = loaded.names
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
    parts = (loaded.code, name.encode(), *loaded.imports.parts(), *loaded.imports.parts_of_tables(tables))
    outer = _parts_within.get()
    if outer is not None:  # a file that loads another one is made from both
        outer.append(digest(parts).encode())
    return runnable.made_from((*parts, *sorted(loaded.within))).with_modules(loaded.imports.modules)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file or module that was executed.

    Attributes:
        names: What it defines.
        code: The bytes of the file.
        imports: The modules beside it.
        within: The digests of the calculations that it has loaded itself.
    """

    names: dict[str, Any]
    code: bytes
    imports: LocalImports
    within: list[bytes]


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


def _run_file(path: Path) -> _Loaded:
    if not path.is_file():
        raise _NotThereError(f"{path}: no such file")
    code = path.read_bytes()
    module = ModuleType(_RUN)
    module.__file__ = str(path)
    imports = LocalImports(path.resolve().parent)
    with imports.recording(), _noting_parts() as within:
        outer = sys.modules.get(_RUN)
        sys.modules[_RUN] = module  # dataclasses look for the module that they are in
        try:
            exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - this is its purpose
        finally:
            del sys.modules[_RUN]
            if outer is not None:
                sys.modules[_RUN] = outer
        imports.add_named(code)
        imports.add_referred(module.__dict__)
    return _Loaded(module.__dict__, code, imports, within)


def _import_module(name: str) -> _Loaded:
    imports = LocalImports(Path.cwd(), name.partition(".")[0])
    try:
        with imports.recording(), _noting_parts() as within:
            module = importlib.import_module(name)
            imports.add_module(name)
            imports.add_referred(module.__dict__)
        file = getattr(module, "__file__", None)
        code = Path(file).read_bytes() if file and name not in imports.modules else b""  # of a module of this package
        return _Loaded(vars(module), code, imports, within)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            if Path(name).is_file():
                raise _NotThereError(f"{name} is not a Python file; a calculation is in one, path/file.py") from None
            raise _NotThereError(
                f"there is no module `{name}`; a file is named with its suffix, as path/file.py:name"
            ) from None
        raise


@contextlib.contextmanager
def _noting_parts() -> Iterator[list[bytes]]:
    """Note the calculations that are loaded within the context; yield their digests."""
    parts: list[bytes] = []
    token = _parts_within.set(parts)
    try:
        yield parts
    finally:
        _parts_within.reset(token)


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
