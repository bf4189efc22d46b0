"""The tree of an expression, as polars serialises it: nodes, each with its kind and its content."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from transform.errors import CalculationError
from transform.expressions.parse import first_line
from transform.expressions.pseudonyms import as_text

REFUSALS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises if it cannot do something."""

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
"""The kinds of nodes that can be row-wise, with the keys of their inputs; None if the content itself is the input."""
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
"""The same for nodes that are evaluated on the elements of a list, which are all in one row."""

TOO_DEEP = (
    "is nested too deeply to be checked; for long chains there are functions of many arguments, such as IN in SQL, "
    "sum_horizontal and replace_strict"
)
"""What is wrong with an expression that exhausts the stack."""
_SHOWN_CHARACTERS = 300
_NOT_FINITE = re.compile(r'"Float(32|64)?": null')
"""What a literal that is NaN or infinite becomes in JSON."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree.

    Attributes:
        kind: Its kind, as polars calls it.
        body: Its content, None if it has no content.
        within: Whether it is evaluated on the elements of a list in one row.
    """

    kind: str
    body: Any = None
    within: bool = False

    def as_expression(self) -> pl.Expr:
        """Return the expression that has this node at its top."""
        tree = self.kind if self.body is None else {self.kind: self.body}
        return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")

    def names(self) -> tuple[str, ...]:
        """Return polars' names of a function and of its variant, such as `("ListExpr", "ListExpr.Sample")`."""
        if self.kind != "Function":
            return ()
        function = self.body["function"]
        if isinstance(function, str):
            return (function,)
        ((name, part),) = function.items()
        return name, f"{name}.{next(iter(part), '') if isinstance(part, dict) else part}"

    def inputs(self) -> Iterator["Node"]:
        """Yield the nodes directly below; for a function, its arguments in order."""
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
        CalculationError: It cannot be serialised, is nested too deeply, or contains a literal that is not finite.
    """
    try:
        found = [_node(json.loads(expr.meta.serialize(format="json")))]
    except REFUSALS as error:
        raise CalculationError(f"{show(expr)} cannot be checked: {first_line(error)}") from None
    except RecursionError:
        raise CalculationError(f"{show(expr)} {TOO_DEEP}") from None
    for node in found:  # the list grows meanwhile
        found.extend(node.inputs())
        if node.kind == "Literal" and _NOT_FINITE.search(json.dumps(node.body)):
            raise CalculationError(
                f"{show(expr)} holds NaN or an infinity as a literal, which polars does not serialise. As a result "
                "take None, which is written the same; to compare there are .is_nan(), .is_infinite() and .is_finite()"
            )
    return found[::-1]


def show(expr: pl.Expr) -> str:
    """Return an expression as messages show it."""
    text = as_text(expr)
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


def load(expr: pl.Expr) -> Any:
    """Return the tree of an expression as MessagePack has it: integers of 128 bits are bytes there; see `integer`.

    Raises:
        CalculationError: It cannot be serialised, or is nested too deeply.
    """
    try:
        return msgspec.msgpack.decode(expr.meta.serialize())
    except REFUSALS as error:
        raise CalculationError(f"{show(expr)} cannot be checked: {first_line(error)}") from None
    except RecursionError:
        raise CalculationError(f"{show(expr)} {TOO_DEEP}") from None


def expression(tree: Any) -> pl.Expr:
    """Return the expression of a tree.

    It is made of MessagePack, because polars refuses JSON that is nested more than 128 levels deep.
    """
    try:
        return pl.Expr.deserialize(io.BytesIO(msgspec.msgpack.encode(tree)), format="binary")
    except RecursionError:
        raise CalculationError(f"an expression {TOO_DEEP}") from None


def integer(value: int | bytes) -> int:
    """Return an integer of a tree."""
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value


def call(function: Any, *inputs: Any) -> Any:
    """Return the tree of a function of trees."""
    return {"Function": {"input": list(inputs), "function": function}}


def operation(left: Any, operator: str, right: Any) -> Any:
    """Return the tree of an operator of two trees."""
    return {"BinaryExpr": {"left": left, "op": operator, "right": right}}


def cast_to(tree: Any, dtype: Any) -> Any:
    """Return the tree of a strict cast."""
    return {"Cast": {"expr": tree, "dtype": {"Literal": dtype}, "options": "Strict"}}


def scalar(kind: str, value: Any) -> Any:
    """Return the tree of a literal of a type."""
    return {"Literal": {"Scalar": {kind: value}}}


def at_least(tree: Any, limit: float) -> Any:
    """Return the tree of a comparison with a float."""
    return operation(tree, "GtEq", scalar("Float64", limit))
