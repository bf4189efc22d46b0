"""Small tables beside a calculation, for `replace_strict` and `is_in`, which take the place of a join."""

import contextlib
import contextvars
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import polars as pl

from transform.decode.near_names import near_names
from transform.errors import CalculationError, OptionError
from transform.expressions.parse import first_line

_tables_read: contextvars.ContextVar[dict[str, bytes] | None] = contextvars.ContextVar("tables read", default=None)


@overload
def lookup(path: str | os.PathLike[str], key: str) -> list[Any]: ...
@overload
def lookup(path: str | os.PathLike[str], key: str, value: str) -> dict[Any, Any]: ...
def lookup(path: str | os.PathLike[str], key: str, value: str | None = None) -> list[Any] | dict[Any, Any]:
    """Return the values of a column of a table, or a mapping from one column to another.

    Args:
        path: A CSV file with a header, or a JSON-lines file (`.json`, `.jsonl`, `.ndjson`); relative to the file that
            calls this. Its content is part of the identity of the calculation, as that of the calculation's file is.
        key: The column to look up in.
        value: The column to look up, if any.

    Raises:
        CalculationError: The file or a column does not exist, or a key has two values.
        OptionError: The path is neither text nor a path.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("state,region AZ,west PA,east".replace(" ", chr(10)))
        ...     file.flush()
        ...     known, regions = lookup(file.name, "state"), lookup(file.name, "state", "region")
        >>> is_known = pl.col("state").is_in(known)
        >>> region = pl.col("state").replace_strict(regions, default=None)
        >>> regions
        {'AZ': 'west', 'PA': 'east'}
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"a table is named by a path, not {path!r:.80}")
    caller = sys._getframe(1).f_globals.get("__file__")  # noqa: SLF001 - paths are relative to the caller's file
    found = Path(caller).parent / path if caller else Path(path)
    table = _read(found)
    for column in [key] if value is None else [key, value]:
        if column not in table.columns:
            raise CalculationError(f"{found}: there is no column `{column}`.{near_names(column, table.columns)}")
    if value is None:
        return table[key].unique(maintain_order=True).to_list()
    pairs = table.select(key, value).unique(maintain_order=True)
    doubled = pairs.filter(pl.col(key).is_duplicated())
    if doubled.height:
        raise CalculationError(f"{found}: `{doubled[key][0]}` in `{key}` has more than one `{value}`")
    return dict(pairs.iter_rows())


@contextlib.contextmanager
def noting_tables() -> Iterator[dict[str, bytes]]:
    """Note the tables that are read within the context; yield their content by path."""
    tables: dict[str, bytes] = {}
    token = _tables_read.set(tables)
    try:
        yield tables
    finally:
        _tables_read.reset(token)


def _read(path: Path) -> pl.DataFrame:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CalculationError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:  # a lone surrogate or a NUL
        raise CalculationError(f"{str(path)!r} is no name of a file: {error}") from None
    tables = _tables_read.get()
    if tables is not None:
        tables[str(path.absolute())] = content
    try:
        if path.suffix in (".json", ".jsonl", ".ndjson"):
            return pl.read_ndjson(content, infer_schema_length=None)
        return pl.read_csv(content, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise CalculationError(f"{path}: not a table: {first_line(error)}") from None
