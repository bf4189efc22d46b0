"""Expressions as DuckDB evaluates them. It imports little, as another process evaluates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAILED = "fails"
Row = dict[str, Any]


def evaluate(texts: Sequence[str], given: Sequence[Row], columns: Mapping[str, str]) -> list[list[Any]]:
    """Return the value of each expression for each row, `FAILED` where DuckDB has none.

    Args:
        texts: The expressions.
        given: The rows.
        columns: The types of DuckDB by column.
    """
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(f'{n} {dtype}' for n, dtype in columns.items())}, place INT)")
        for place, row in enumerate(given):
            marks = ", ".join("?" * (len(columns) + 1))
            connection.execute(f"INSERT INTO t VALUES ({marks})", [*(row[name] for name in columns), place])
        try:
            found = connection.execute(f"SELECT {', '.join(texts)} FROM t ORDER BY place").fetchall()
        except duckdb.Error:
            return [[_value(connection, text, place) for place in range(len(given))] for text in texts]
    return [list(column) for column in zip(*found, strict=True)]


def _value(connection: duckdb.DuckDBPyConnection, text: str, place: int) -> Any:
    try:
        (found,) = connection.execute(f"SELECT {text} FROM t WHERE place = {place}").fetchall()
    except duckdb.Error:
        return FAILED
    return found[0]
