"""Where polars rounds one row's floats in a way that hangs on other rows, or on how many threads there are.

Floats rounded after each addition depend on its order, and polars chooses the order by what else there is: it adds up
lists in another way as soon as one of them holds a null, and columns side by side in as many groups as threads ask for.
"""

import json
import re
from collections.abc import Mapping

import polars as pl

from transform.tree import REFUSALS, Node

_AGGREGATES = {"Kurtosis", "Mean", "Product", "Skew", "Std", "Sum", "Var"}
_FILTERED = re.compile(r'"(DropNans|DropNulls|Filter)"')
_HORIZONTAL = {"MeanHorizontal", "SumHorizontal"}
_COLUMNS_ADDED_IN_ORDER = 4
_LISTS = {
    "ArrayExpr.Sum": ".arr.agg(pl.element().sum())",
    "ListExpr.Mean": ".list.agg(pl.element().mean())",
    "ListExpr.Sum": ".list.agg(pl.element().sum())",
}


def rounding_objection(node: Node, schema: Mapping[str, pl.DataType]) -> str | None:
    """Return why a function or an aggregate gives a row another result in other company, None if it does not."""
    names = node.names() or tuple(node.body)
    if node.within and _AGGREGATES.intersection(names) and _FILTERED.search(json.dumps(node.body)):
        return (
            "rounds in another way where another row's list holds a null; filter before, with .list.filter(…) or "
            ".list.drop_nulls(), and take .list.agg(…) of the rest"
        )
    if instead := next((_LISTS[name] for name in names if name in _LISTS), None):
        exact = "ListExpr.Mean" not in names and not _holds_floats(node, schema)
        return None if exact else f"rounds in another way where another row's list holds a null; take {instead}"
    if _HORIZONTAL.intersection(names) and len(node.body["input"]) > _COLUMNS_ADDED_IN_ORDER:
        return (
            f"adds more than {_COLUMNS_ADDED_IN_ORDER} numbers in an order that hangs on the threads; take "
            "pl.concat_list(…).list.agg(pl.element().sum())"
            if _holds_floats(node, schema)
            else None
        )
    return None


def _holds_floats(node: Node, schema: Mapping[str, pl.DataType]) -> bool:
    """Return whether an input is of floats, or of a type that is not to be told."""
    if node.within:
        return True
    inputs = [given.as_expression().alias(str(place)) for place, given in enumerate(node.inputs())]
    try:
        types = pl.LazyFrame(schema=schema).select(inputs).collect_schema().dtypes()
    except REFUSALS:
        return True
    return any("Float" in str(dtype) for dtype in types)
