"""What a calculation of expressions shows of itself, as text and in a notebook."""

from collections.abc import Iterator

import polars as pl

from transform import html
from transform.errors import TransformError
from transform.expressions import columns_read
from transform.lines import MAX_LINE_BYTES
from transform.plan import ExpressionPlan
from transform.schema import Column
from transform.task import ExpressionTask

_UNKNOWN = "follows from the columns"


def describe(task: ExpressionTask) -> str:
    """Return it as text."""
    types = _types(task)
    lines = [
        f"  {name} = {_without_alias(expr)}\n    reads {_reads(expr)}; type {types.get(name, _UNKNOWN)}"
        for name, expr in task.results.items()
    ]
    lines += [f"  where {predicate}" for predicate in task.filters]
    lines += [f"  {what} {', '.join(names)}" for what, names in _projection(task)]
    lines += [f"  schema {name}: {dtype}" for name, dtype in task.schema.items()]
    return "\n".join(["Calculation", *lines])


def describe_html(task: ExpressionTask) -> str:
    """Return it as HTML."""
    types = _types(task)
    results = [
        (html.Code(name), html.Code(str(_without_alias(expr))), _reads(expr), types.get(name, _UNKNOWN))
        for name, expr in task.results.items()
    ]
    rest: list[tuple[str, html.Cell]] = [("where", html.Code(str(predicate))) for predicate in task.filters]
    rest += [(what, ", ".join(names)) for what, names in _projection(task)]
    rest += [("schema", html.Code(f"{name}: {dtype}")) for name, dtype in task.schema.items()]
    header = ("result", "expression", "reads", "type")
    return html.render("Calculation", html.Table(results, header), html.Table(rest))


def _reads(expr: pl.Expr) -> str:
    return ", ".join(columns_read([expr])) or "nothing"


def _projection(task: ExpressionTask) -> Iterator[tuple[str, list[str]]]:
    if task.projection.drop:
        yield "drop", sorted(task.projection.drop)
    if task.projection.select is not None:
        yield "select", sorted(task.projection.select)


def _types(task: ExpressionTask) -> dict[str, str]:
    """Return the types of the results where the declared columns settle them."""
    columns = {name: Column(dtype) for name, dtype in task.schema.items() if name in task.columns}
    if set(columns) != set(task.columns):
        return {}
    try:
        plan = ExpressionPlan(task.results, task.filters, columns, MAX_LINE_BYTES, pure=task.pure)
    except TransformError:
        return {}
    return {name: str(dtype) for name, dtype in plan.evaluator.types.items()}


def _without_alias(expr: pl.Expr) -> pl.Expr:
    try:
        return expr.meta.undo_aliases()
    except pl.exceptions.PolarsError:
        return expr
