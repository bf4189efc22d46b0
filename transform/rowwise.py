"""The proof that a calculation is a pure function of one row, before any row is read.

The input is evaluated in pieces, so an expression that looks at other rows would give answers that depend on how the
input was cut. Two things have to agree that it doesn't, and whatever they don't know is refused: the expression's own
tree, of which each node has to be of a kind that works row by row, and polars' streaming plan for it, where whatever is
row-wise runs in one pass and anything else makes a node of its own. `Evaluator.probe` is the third.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions import first_line

_INPUTS: dict[str, tuple[str | int | None, ...]] = {
    "Alias": (0,),
    "AnonymousFunction": ("input",),
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Column": (),
    "Eval": ("expr",),  # what it evaluates is within a row
    "Field": (),
    "Function": ("input",),
    "KeepName": (None,),
    "Literal": (),
    "RenameAlias": ("expr",),
    "StructEval": ("expr", "evaluation"),
    "Ternary": ("predicate", "truthy", "falsy"),
}
"""The kinds of node that can be row-wise, and under which keys polars serialises their inputs; None: as the whole."""

_REFUSED = {
    "Agg": "is an aggregate of a whole column",
    "Explode": "makes several rows of one",
    "Filter": "drops values from a column (a calculation's own .filter(…) drops lines)",
    "Gather": "takes values from other rows",
    "Len": "counts the rows",
    "Over": "looks at other rows",
    "Rolling": "looks at other rows",
    "Selector": "picks columns by something else than one name",
    "Slice": "takes a part of a column",
    "Sort": "sorts a whole column",
    "SortBy": "sorts a whole column",
}
_WHAT_TO_DO = (
    "A line's result may depend on that line only: compute totals and the like beforehand, give them as literals."
)
_ROW_WISE_PLAN = {"in-memory-source", "with-columns"}
_LOOKUPS = {"columnar-function replace", "columnar-function replace_strict"}
_WITH_LITERALS = {"input-independent-select", "select", "zip-broadcast"}
_TAKES_SERIES = re.compile(r'"(IsIn|Replace|ReplaceStrict|Sql)"')
_PLAN_NODE = re.compile(r'label="([a-z-]+)(?:\\n\w+ = (\w+)\(\.\.\.\))?')


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    body: Any

    def as_expression(self) -> pl.Expr:
        tree = self.kind if self.body is None else {self.kind: self.body}
        return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")

    def inputs(self) -> Iterator["_Node"]:
        for key in _INPUTS.get(self.kind, ()):
            found = self.body if key is None else self.body[key]
            for tree in found if isinstance(found, list) else [found]:
                yield _node(tree)

    def walk(self) -> Iterator["_Node"]:
        """Yield the nodes of the tree, the innermost first, as that is where the reason is."""
        for node in self.inputs():
            yield from node.walk()
        yield self


def check_row_wise(expr: pl.Expr, schema: Mapping[str, pl.DataType], *, pure: bool = False) -> None:
    """Raise unless an expression is a pure function of one row.

    Args:
        expr: The expression.
        schema: The columns it is evaluated on.
        pure: Whether Python functions in it were declared to be pure functions of one row.

    Raises:
        CalculationError: Names the part at fault, why, and what to do instead.
    """
    for node in _tree(expr).walk():
        objection = _objection(node, pure=pure)
        if objection:
            part = f"`{node.as_expression()}`" if node.kind != "Selector" else "it"
            part = "it" if part == f"`{expr}`" else part
            raise CalculationError(f"`{expr}` is not row-wise: {part} {objection}. {_WHAT_TO_DO}")
    nodes = _plan_nodes(expr, schema)
    if nodes & _LOOKUPS:  # the mapping is a literal of its own, brought to each row
        nodes -= _LOOKUPS | _WITH_LITERALS
    if nodes - _ROW_WISE_PLAN:
        how = ", ".join(sorted(nodes - _ROW_WISE_PLAN))
        raise CalculationError(f"`{expr}` is not row-wise: polars plans it as {how}. {_WHAT_TO_DO}")


def calls_python(expr: pl.Expr) -> bool:
    """Return whether an expression calls a Python function."""
    return "AnonymousFunction" in expr.meta.serialize(format="json")


def _tree(expr: pl.Expr) -> _Node:
    try:
        return _node(json.loads(expr.meta.serialize(format="json")))
    except pl.exceptions.PolarsError as error:
        raise CalculationError(f"`{expr}` cannot be checked: {first_line(error)}") from None


def _node(tree: Any) -> _Node:
    if isinstance(tree, str):
        return _Node(tree, None)
    (kind, body), *_ = tree.items()
    return _Node(kind, body)


def _objection(node: _Node, *, pure: bool) -> str | None:
    """Return what speaks against a node's being row-wise, its inputs aside."""
    if node.kind in _REFUSED:
        return _REFUSED[node.kind]
    if node.kind not in _INPUTS:
        return f"is of a kind ({node.kind}) that is not known to be row-wise"
    if node.kind == "Eval":
        if "AnonymousFunction" in json.dumps(node.body["evaluation"]) and not pure:
            return _PYTHON
        return None if "Cumulative" not in node.body["variant"] else "looks at the rows before"
    if node.kind == "AnonymousFunction":
        return None if pure else _PYTHON
    if any(n.kind == "Literal" and "Series" in n.body for n in node.inputs()) and not _takes_series(node):
        return "holds a Series, whose length has nothing to do with the input's"
    return _function_objection(node) if node.kind == "Function" else None


_PYTHON = (
    "calls a Python function, which cannot be looked into; if its result depends on nothing but its arguments in one "
    "row, say so with .assume_pure()"
)


def _takes_series(node: _Node) -> bool:
    return node.kind == "Function" and _TAKES_SERIES.search(json.dumps(node.body["function"])) is not None


def _function_objection(node: _Node) -> str | None:
    function = node.body["function"]
    if isinstance(function, dict) and "Sql" in function:
        return None  # what it stands for depends on the types: the plan tells
    try:
        if node.as_expression().meta.is_row_separable():
            return None
    except pl.exceptions.PolarsError as error:
        return f"cannot be checked ({first_line(error)})"
    if '"Strptime"' in json.dumps(function):
        return "guesses the format from the values it sees; give it the format"
    return "looks at other rows"


def _plan_nodes(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> set[str]:
    try:
        plan = (
            pl.LazyFrame(schema=schema)
            .with_columns(expr.alias("result"))
            .show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False)
        )
    except pl.exceptions.PolarsError as error:
        raise CalculationError(f"polars refuses `{expr}`: {first_line(error)}") from None
    return {" ".join(filter(None, found)) for found in _PLAN_NODE.findall(plan or "")}
