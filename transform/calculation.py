"""What to compute, and the three things to do with it: look at it, preview it, run it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn, Self

import polars as pl

from transform import cores, engine
from transform.engine import Options, Progress, Task
from transform.errors import CalculationError, TransformError
from transform.expressions import columns_read, name_results, parse_sql, to_expression
from transform.lines import CHUNK_BYTES, MAX_LINE_BYTES
from transform.plan import Plan
from transform.preview import preview as preview_task
from transform.ranges import RANGE_BYTES
from transform.schema import Column, check_declared
from transform.sinks import Target
from transform.sources import Source
from transform.summary import Summary


class Calculation:
    """A pure function of one line, in polars' own manner; immutable.

    Each result is spliced into the line it was computed from: it replaces the member of its name, or is appended.
    Expressions see the members of the input line, never each other's results.

    Args:
        exprs: Expressions with names of their own (`.alias(…)`), or the names of columns.
        named_exprs: Expressions by the name of the result; also a number, a boolean or None as it is.

    Raises:
        CalculationError: An expression has no name, or two have the same.

    Example:
        >>> import polars as pl
        >>> calculation = Calculation(review_score=pl.col("stars") * pl.col("review_count"))
        >>> calculation.columns
        ('stars', 'review_count')
    """

    __slots__ = ("_task",)
    _task: Task

    def __init__(self, /, *exprs: object, **named_exprs: object) -> None:
        self._set(Task(name_results(exprs, named_exprs)))

    @classmethod
    def from_sql(cls, expressions: str = "", where: str = "") -> Self:
        """Return the calculation that SQL text describes.

        Args:
            expressions: As in a SELECT list: `stars * review_count AS review_score, lower(city) AS city`.
            where: A condition: `is_open = 1`.

        Raises:
            CalculationError: polars does not understand the text.

        Example:
            >>> Calculation.from_sql("stars * 2 AS double", where="is_open = 1").columns
            ('stars', 'is_open')
        """
        calculation = cls(*parse_sql(expressions)) if expressions.strip() else cls()
        if not where.strip():
            return calculation
        predicates = parse_sql(where)
        if len(predicates) != 1:
            raise CalculationError(f"expected one condition, got {len(predicates)}: `{where}`; join them with AND")
        return calculation.filter(*predicates)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the expressions and filters read."""
        return tuple(self._task.columns)

    @property
    def results(self) -> tuple[str, ...]:
        """The names of the results."""
        return tuple(self._task.results)

    def filter(self, *predicates: object) -> Self:
        """Return the calculation that also drops the lines for which a predicate is false or null."""
        filters = (*self._task.filters, *(to_expression(predicate) for predicate in predicates))
        return self._with(filters=filters)

    def with_schema(self, schema: Mapping[str, object]) -> Self:
        """Return the calculation with the types of columns declared, rather than inferred.

        Lines that hold something else are rejected. Integers of every width are evaluated as Int128.

        Args:
            schema: polars types by column: Float64, String, Boolean, Int8 to Int128, UInt8 to UInt64, List and Struct.

        Raises:
            SchemaError: One is not a type of JSON values.
        """
        declared = {name: check_declared(name, dtype) for name, dtype in schema.items()}
        return self._with(schema=self._task.schema | declared)

    def assume_pure(self) -> Self:
        """Return the calculation with its Python functions declared pure: to depend on nothing but one row's values.

        Without that, expressions with Python functions (`map_elements`, `map_batches`) are refused.
        """
        return self._with(pure=True)

    def preview(self, source: Source, rows: int = 10) -> pl.DataFrame:
        """Return the columns read and the results for the first lines that pass the filters.

        Args:
            source: As for `run`.
            rows: How many.

        Raises:
            TransformError: As `run` does.
        """
        return preview_task(self._task, source, rows)

    def run(
        self,
        source: Source,
        target: Target,
        *,
        rejects: str | os.PathLike[str] | None = None,
        on_error: str = "reject",
        max_rejects: int | str | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
        workers: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        range_bytes: int = RANGE_BYTES,
        progress: Progress | None = None,
    ) -> Summary:
        """Transform an input into an output, which appears whole or not at all.

        Args:
            source: A path, an `s3://bucket/key` URI, `-` for standard input, or a binary file object.
            target: Likewise, `-` being standard output. What is not a file or an object is written to as it comes.
            rejects: Where rejected lines are kept; by default beside a file or object, as `TARGET.rejects.jsonl`.
            on_error: `reject` keeps a bad line among the rejects and goes on, `fail` stops at the first.
            max_rejects: More rejected lines than this fail the run: their number, or their share as `5%`.
            max_line_bytes: A longer line is rejected.
            workers: How many processes to use at most; by default as many as there are cores for this one.
            chunk_bytes: How much is read at a time; it never shows in the output.
            range_bytes: How large the parts are that processes take; it never shows in the output.
            progress: Called after each chunk with how many bytes were read and the input's size, None if not known.

        Raises:
            TransformError: Nothing was published; what was there before is untouched.
        """
        if not self._task.results and not self._task.filters:
            raise CalculationError("there is nothing to compute: give an expression or a filter")
        options = Options(
            rejects=rejects,
            on_error=on_error,
            max_rejects=max_rejects,
            max_line_bytes=max_line_bytes,
            workers=workers or cores.available(),
            chunk_bytes=chunk_bytes,
            range_bytes=range_bytes,
            progress=progress,
        )
        return engine.run(self._task, source, target, options)

    def __repr__(self) -> str:
        types = self._types()
        lines = [
            f"  {name} = {_without_alias(expr)}\n    reads {', '.join(columns_read([expr])) or 'nothing'}; "
            f"type {types.get(name, 'follows from the columns')}"
            for name, expr in self._task.results.items()
        ]
        lines += [f"  where {predicate}" for predicate in self._task.filters]
        lines += [f"  schema {name}: {dtype}" for name, dtype in self._task.schema.items()]
        return "\n".join(["Calculation", *lines])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Calculation is immutable; cannot set {name}")

    def _types(self) -> dict[str, str]:
        """Return the types of the results where the declared columns settle them."""
        columns = {name: Column(dtype) for name, dtype in self._task.schema.items() if name in self.columns}
        if set(columns) != set(self.columns):
            return {}
        try:
            plan = Plan(self._task.results, self._task.filters, columns, MAX_LINE_BYTES, pure=self._task.pure)
        except TransformError:
            return {}
        return {name: str(dtype) for name, dtype in plan.evaluator.types.items()}

    def _with(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other._set(replace(self._task, **changes))
        return other

    def _set(self, task: Task) -> None:
        object.__setattr__(self, "_task", task)


def _without_alias(expr: pl.Expr) -> pl.Expr:
    try:
        return expr.meta.undo_aliases()
    except pl.exceptions.PolarsError:
        return expr
