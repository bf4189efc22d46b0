"""What polars makes of an expression before there is a row: its plan, and whether it evaluates it at all."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions import first_line
from transform.schema import near_names
from transform.tree import REFUSALS, show

_PLAN_NODE = re.compile(r'label="([a-z-]+)(?:\\n\w+ = (\w+)\(\.\.\.\))?')
_PARSES = re.compile(r"casting from string to (date|datetime.*|time) is not supported")
_VALUES = {pl.String: "1", pl.Boolean: True, pl.Float64: 1.0, pl.Int128: 1}


def plan_nodes(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> set[str]:
    """Return the kinds of nodes in polars' streaming plan, with the functions that make some of them.

    Raises:
        CalculationError: polars makes no plan of it.
    """
    once = pl.QueryOptFlags(comm_subexpr_elim=False)  # what occurs twice would be a node of its own
    try:
        plan = (
            pl.LazyFrame(schema=schema)
            .with_columns(expr.alias("result"))
            .show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False, optimizations=once)
        )
    except REFUSALS as error:
        raise CalculationError(f"polars refuses {show(expr)}: {_describe_error(error, schema)}") from None
    return {" ".join(filter(None, found)) for found in _PLAN_NODE.findall(plan or "")}


def check_evaluates(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> None:
    """Raise if polars refuses the types, as it does some as late as when there are values, or two rows.

    Raises:
        CalculationError: It does.
    """
    nothing, one, two = (_error(expr, {name: [None] * height for name in schema}, schema) for height in range(3))
    valued = _error(expr, {name: [_value(dtype)] * 2 for name, dtype in schema.items()}, schema)
    if two and (nothing or not one):  # else it may be for want of values
        raise CalculationError(f"polars refuses {show(expr)}: {_describe_error(two, schema)}")
    if valued and "not supported" in str(valued):  # else it may be the values
        raise CalculationError(f"polars refuses {show(expr)}: {_describe_error(valued, schema)}")


def _describe_error(error: BaseException, schema: Mapping[str, pl.DataType]) -> str:
    """Return what polars says, with what it does not."""
    said = first_line(error)
    if isinstance(error, pl.exceptions.StructFieldNotFoundError):  # it says the name only
        near = near_names(said, _members_within(schema.values()))
        return f"the object has no member `{said}`.{near} If it comes later, declare the type of the column."
    if _PARSES.search(said):
        return f"{said.rstrip('.')}: give the format, as in .str.to_date('%Y-%m-%d') or DATE(name, '%Y-%m-%d') in SQL"
    return said


def _members_within(types: Iterable[Any]) -> Iterator[str]:
    for dtype in types:
        if isinstance(dtype, pl.List):
            yield from _members_within([dtype.inner])
        elif isinstance(dtype, pl.Struct):
            for field in dtype.fields:
                yield field.name
                yield from _members_within([field.dtype])


def _error(expr: pl.Expr, rows: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> BaseException | None:
    try:
        pl.DataFrame(rows, schema).with_columns(expr.alias("result"))
    except REFUSALS as error:
        return error
    return None


def _value(dtype: Any) -> object:
    if isinstance(dtype, pl.List):
        return [_value(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        return {field.name: _value(field.dtype) for field in dtype.fields}
    return _VALUES.get(type(dtype))
