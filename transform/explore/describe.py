"""A calculation of expressions as text, and as HTML in a notebook."""

from collections.abc import Iterator

import polars as pl

from transform import html
from transform.engine.spec import ExpressionSpec
from transform.errors import TransformError
from transform.expressions.pseudonyms import as_text
from transform.expressions.reads import bind
from transform.terminal_text import printable

_UNKNOWN = "follows from the columns"


def describe(spec: ExpressionSpec) -> str:
    """Return the calculation as text."""
    types = _types(spec)
    lines = [
        line
        for name, expr in spec.results.items()
        for line in (
            f"  {name} = {as_text(_without_alias(expr))}",
            f"    reads {_reads(expr)}; type {types.get(name, _UNKNOWN)}",
        )
    ]
    lines += [f"  where {as_text(predicate)}" for predicate in spec.filters]
    lines += [f"  reject {as_text(rule.predicate)}: {rule.reason}" for rule in spec.rules]
    lines += [f"  {what} {', '.join(names)}" for what, names in _projection(spec)]
    lines += [f"  schema {name}: {dtype}" for name, dtype in spec.schema.items()]
    lines += [f"  {what} {text}" for what, text in spec.rows.describe()]
    return "\n".join(["Calculation", *(printable(line) for line in lines)])


def describe_html(spec: ExpressionSpec) -> str:
    """Return the calculation as HTML."""
    types = _types(spec)
    results = [
        (html.Code(name), html.Code(as_text(_without_alias(expr))), _reads(expr), types.get(name, _UNKNOWN))
        for name, expr in spec.results.items()
    ]
    rest: list[tuple[str, html.Cell]] = [("where", html.Code(as_text(predicate))) for predicate in spec.filters]
    rest += [("reject", html.Code(f"{as_text(rule.predicate)}: {rule.reason}")) for rule in spec.rules]
    rest += [(what, ", ".join(names)) for what, names in _projection(spec)]
    rest += [("schema", html.Code(f"{name}: {dtype}")) for name, dtype in spec.schema.items()]
    rest += [(what, html.Code(text)) for what, text in spec.rows.describe()]
    header = ("result", "expression", "reads", "type")
    return html.render("Calculation", html.Table(results, header), html.Table(rest))


def _reads(expr: pl.Expr) -> str:
    return ", ".join(bind({"": expr}, ()).reads) or "nothing"


def _projection(spec: ExpressionSpec) -> Iterator[tuple[str, list[str]]]:
    if spec.projection.drop:
        yield "drop", sorted(spec.projection.drop)
    if spec.projection.select is not None:
        yield "select", sorted(spec.projection.select)


def _types(spec: ExpressionSpec) -> dict[str, str]:
    """Return the types of the results, by name, if all columns read are declared."""
    try:
        plan = spec.declared_plan()
    except TransformError:
        return {}
    return {name: type_name(dtype) for name, dtype in plan.result_types.items()} if plan is not None else {}


def type_name(dtype: pl.DataType | None) -> str:
    """Return the type of a result as text; None stands for a member as it is."""
    return "as it is" if dtype is None else str(dtype)


def _without_alias(expr: pl.Expr) -> pl.Expr:
    try:
        return expr.meta.undo_aliases()
    except pl.exceptions.PolarsError:
        return expr
