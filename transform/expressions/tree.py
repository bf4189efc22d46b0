"""The tree of an expression, as polars serialises it: nodes of a kind, with what they are made of."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform.errors import CalculationError
from transform.expressions.parse import first_line

REFUSALS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""How polars says that it cannot do something."""

_Keys = tuple[str | int | None, ...]
INPUTS: Mapping[str, _Keys] = {
    "Alias": (0,),
    "AnonymousFunction": ("input",),
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Column": (),
    "Eval": ("expr",),
    "Field": (),
    "Function": ("input",),
    "KeepName": (None,),
    "Literal": (),
    "RenameAlias": ("expr",),
    "StructEval": ("expr", "evaluation"),
    "Ternary": ("predicate", "truthy", "falsy"),
}
"""The kinds of node that can be row-wise, and under which keys their inputs are; None: as the whole."""
INPUTS_WITHIN: Mapping[str, _Keys] = {
    **INPUTS,
    "Agg": (),
    "Element": (),
    "Explode": ("input",),
    "Filter": ("input", "by"),
    "Gather": ("expr", "idx"),
    "Len": (),
    "Slice": ("input", "offset", "length"),
    "Sort": ("expr",),
    "SortBy": ("expr", "by"),
}
"""Likewise for what is evaluated on the elements of a list, which are all in one row."""

_SHOWN_CHARACTERS = 300
_NOT_FINITE = re.compile(r'"Float(32|64)?": null')
"""What is left in JSON of a literal that is NaN or an infinity."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node.

    Attributes:
        kind: What polars calls it.
        body: What it is made of; None for nothing.
        within: Whether it is evaluated on the elements of a list in one row.
    """

    kind: str
    body: Any = None
    within: bool = False

    def as_expression(self) -> pl.Expr:
        """Return the expression of which this is the top."""
        tree = self.kind if self.body is None else {self.kind: self.body}
        return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")

    def names(self) -> tuple[str, ...]:
        """Return what polars calls a function, and this variant of it: `("ListExpr", "ListExpr.Sample")`."""
        if self.kind != "Function":
            return ()
        function = self.body["function"]
        if isinstance(function, str):
            return (function,)
        ((name, part),) = function.items()
        return name, f"{name}.{next(iter(part), '') if isinstance(part, dict) else part}"

    def inputs(self) -> Iterator["Node"]:
        """Yield the nodes below; of a function, its arguments in order."""
        for key in (INPUTS_WITHIN if self.within else INPUTS).get(self.kind, ()):
            found = self.body if key is None else self.body[key]
            # the fields of structs in lists are columns of the elements of all rows
            within = self.within and key != "evaluation"
            for tree in found if isinstance(found, list) else [found]:
                yield _node(tree, within=within)
        if self.kind == "Eval":
            yield _node(self.body["evaluation"], within=True)
        if self.kind == "Agg" and self.within:
            yield _node(_aggregated(self.body), within=True)


def nodes(expr: pl.Expr) -> list[Node]:
    """Return the nodes of an expression, the top last.

    Raises:
        CalculationError: It has no serialisation, is nested too deeply, or holds a literal that is not finite.
    """
    try:
        found = [_node(json.loads(expr.meta.serialize(format="json")))]
    except REFUSALS as error:
        raise CalculationError(f"{show(expr)} cannot be checked: {first_line(error)}") from None
    except RecursionError:
        raise CalculationError(
            f"{show(expr)} is nested too deeply to be checked; for long chains there are functions of many arguments, "
            "such as sum_horizontal and replace_strict"
        ) from None
    for node in found:  # which grows on the way
        found.extend(node.inputs())
        if node.kind == "Literal" and _NOT_FINITE.search(json.dumps(node.body)):
            raise CalculationError(
                f"{show(expr)} holds NaN or an infinity as a literal, which polars does not serialise. As a result "
                "take None, which is written the same; to compare there are .is_nan(), .is_infinite() and .is_finite()"
            )
    return found[::-1]


def show(expr: pl.Expr) -> str:
    """Return an expression as it stands in messages."""
    text = str(expr)
    return f"`{text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + '…'}`"


def _node(tree: Any, *, within: bool = False) -> Node:
    if isinstance(tree, str):
        return Node(tree, None, within)
    ((kind, body),) = tree.items()
    return Node(kind, body, within)


def _aggregated(body: Mapping[str, Any]) -> Any:
    """Return the input of an aggregate: of {"Sum": tree}, {"Count": {"input": tree, …}} or {"Std": [tree, 1]}."""
    (found,) = body.values()
    if isinstance(found, list):
        return found[0]
    return found.get("input", found) if isinstance(found, dict) else found
