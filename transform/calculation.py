"""What to compute, and the three things to do with it: look at it, preview it, run it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn, Self

import polars as pl

from transform.errors import CalculationError, TransformError
from transform.expressions import columns_read, name_results, parse_sql, to_expression
from transform.lines import MAX_LINE_BYTES
from transform.plan import ExpressionPlan
from transform.preview import preview as preview_task
from transform.projection import Projection
from transform.runnable import Runnable
from transform.schema import Column, check_declared, parse_type
from transform.sources import Source
from transform.task import ExpressionTask


class Calculation(Runnable):
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
    _task: ExpressionTask

    def __init__(self, /, *exprs: object, **named_exprs: object) -> None:
        self._set(ExpressionTask(name_results(exprs, named_exprs)))

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
        calculation = calculation.made_from((b"sql", expressions.encode()))
        if not where.strip():
            return calculation
        predicates = parse_sql(where)
        if len(predicates) != 1:
            raise CalculationError(f"expected one condition, got {len(predicates)}: `{where}`; join them with AND")
        return calculation.filter(*predicates)

    @property
    def digest(self) -> str:
        """What distinguishes it from others: a SHA-256 over its text or expressions, declared types and options."""
        return self._task.digest

    def made_from(self, origin: tuple[bytes, ...]) -> Self:
        """Return the calculation with the text that it was made from, as its identity."""
        return self._with(origin=origin)

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
            schema: polars types by column: Float64, String, Boolean, Int8 to Int128, UInt8 to UInt64, List and Struct;
                or their names, as `"List(Int64)"`.

        Raises:
            SchemaError: One is not a type of JSON values.
        """
        declared = {
            name: parse_type(name, dtype) if isinstance(dtype, str) else check_declared(name, dtype)
            for name, dtype in schema.items()
        }
        return self._with(schema=self._task.schema | declared)

    def drop(self, *names: str) -> Self:
        """Return the calculation that also takes the members of these names out of the lines, all occurrences.

        A result of the same name is appended all the same. Expressions see what is dropped.
        """
        before = self._task.projection
        return self._with(projection=Projection(before.drop | _names(names), before.select))

    def select(self, *names: str) -> Self:
        """Return the calculation that keeps of the lines' members only those of these names, and the results.

        They stay as they are, in the line's own order. Expressions see all members.
        """
        before = self._task.projection
        selected = _names(names) if before.select is None else _names(names) & before.select
        return self._with(projection=Projection(before.drop, selected))

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

    def task_for(self, source: Source) -> ExpressionTask:  # noqa: ARG002 - the same for every input
        """Return what is to be done to an input.

        Raises:
            CalculationError: Nothing is.
        """
        if not self._task.results and not self._task.filters and not self._task.projection:
            raise CalculationError("there is nothing to do: give an expression, a filter, or members to drop or select")
        return self._task

    def __repr__(self) -> str:
        types = self._types()
        lines = [
            f"  {name} = {_without_alias(expr)}\n    reads {', '.join(columns_read([expr])) or 'nothing'}; "
            f"type {types.get(name, 'follows from the columns')}"
            for name, expr in self._task.results.items()
        ]
        lines += [f"  where {predicate}" for predicate in self._task.filters]
        projection = self._task.projection
        lines += [f"  drop {', '.join(sorted(projection.drop))}"] if projection.drop else []
        lines += [f"  select {', '.join(sorted(projection.select))}"] if projection.select is not None else []
        lines += [f"  schema {name}: {dtype}" for name, dtype in self._task.schema.items()]
        return "\n".join(["Calculation", *lines])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Calculation is immutable; cannot set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Calculation is immutable; cannot delete {name}")

    def _types(self) -> dict[str, str]:
        """Return the types of the results where the declared columns settle them."""
        columns = {name: Column(dtype) for name, dtype in self._task.schema.items() if name in self.columns}
        if set(columns) != set(self.columns):
            return {}
        try:
            plan = ExpressionPlan(self._task.results, self._task.filters, columns, MAX_LINE_BYTES, pure=self._task.pure)
        except TransformError:
            return {}
        return {name: str(dtype) for name, dtype in plan.evaluator.types.items()}

    def _with(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other._set(replace(self._task, **changes))
        return other

    def _set(self, task: ExpressionTask) -> None:
        object.__setattr__(self, "_task", task)


def _names(names: tuple[str, ...]) -> frozenset[str]:
    for name in names:
        if not isinstance(name, str):
            raise CalculationError(f"expected the names of members, got {type(name).__name__}: {name!r:.80}")
    return frozenset(names)


def _without_alias(expr: pl.Expr) -> pl.Expr:
    try:
        return expr.meta.undo_aliases()
    except pl.exceptions.PolarsError:
        return expr
