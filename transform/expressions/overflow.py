"""What polars leaves to do for Int128, which all integers are evaluated as: negation, and arithmetic beyond it.

polars wraps silently. Sums, differences and products are exact modulo 2^128 whatever happens in between, so such a
piece of an expression is right where its value is within Int128. Evaluating it once more in floats, which are off by a
few units in the sixteenth place, tells.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

_LIMIT = 2.0**127
_ARITHMETIC = {"Plus", "Minus", "Multiply"}
_FUNCTIONS = {'{"Sql": {"Binary": "Mul"}}', '"Abs"', '{"Pow": "Generic"}', '{"SumHorizontal": {"ignore_nulls": true}}'}
_Guards = tuple[tuple[Any, bool], ...]
_REFUSALS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError)


def with_negation(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Return the expression with the negation of Int128 values as their product with -1."""
    text = _serialised(expr)
    return _expression(_negate(json.loads(text), schema)) if '"Negate"' in text else expr


def overflows(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return expressions that are true of rows for which integer arithmetic in the expression leaves Int128."""
    integers = {name for name, dtype in schema.items() if isinstance(dtype, pl.Int128)}
    found = []
    for piece, guards in _arithmetic(json.loads(_serialised(expr))):
        if isinstance(_type(piece, schema), pl.Int128):
            beyond = _expression(_in_floats(piece, integers)).abs() >= _LIMIT
            taken = [_expression(tree).fill_null(value=False) == value for tree, value in guards]
            found.append(pl.all_horizontal(beyond, *taken))
    return found


def _serialised(expr: pl.Expr) -> str:
    try:
        return expr.meta.serialize(format="json")
    except _REFUSALS:  # what that means is said where expressions are checked
        return "null"


def _arithmetic(tree: Any, guards: _Guards = ()) -> Iterator[tuple[Any, _Guards]]:
    """Yield the largest pieces of a serialised expression that are nothing but arithmetic, each with its guards.

    Those are the conditions, and what they have to be for the piece to matter.
    """
    match tree:
        case {"Literal": _} | {"Eval": _} | {"StructEval": _}:  # the latter have columns of their own
            return
        case {"BinaryExpr": _} | {"Function": _} if _is_arithmetic(tree):
            yield tree, guards
        case {"Ternary": {"predicate": predicate, "truthy": truthy, "falsy": falsy}}:
            yield from _arithmetic(predicate, guards)
            yield from _arithmetic(truthy, (*guards, (predicate, True)))
            yield from _arithmetic(falsy, (*guards, (predicate, False)))
        case dict():
            for part in tree.values():
                yield from _arithmetic(part, guards)
        case list():
            for part in tree:
                yield from _arithmetic(part, guards)


def _is_arithmetic(tree: Any) -> bool:
    match tree:
        case {"Column": str()} | {"Literal": {"Dyn": {"Int": _}}}:
            return True
        case {"Literal": {"Scalar": dict(value)}}:
            return len(value) == 1 and next(iter(value)).startswith(("Int", "UInt"))
        case {"BinaryExpr": {"left": left, "op": op, "right": right}}:
            return op in _ARITHMETIC and _is_arithmetic(left) and _is_arithmetic(right)
        case {"Function": {"input": list(inputs), "function": function}}:
            return json.dumps(function) in _FUNCTIONS and all(_is_arithmetic(part) for part in inputs)
    return False


def _in_floats(tree: Any, integers: set[str]) -> Any:
    match tree:
        case {"Column": name} if name in integers:
            return {"Cast": {"expr": tree, "dtype": {"Literal": "Float64"}, "options": "Strict"}}
        case {"Literal": _} | str():
            return tree
        case dict():
            return {key: _in_floats(part, integers) for key, part in tree.items()}
        case list():
            return [_in_floats(part, integers) for part in tree]
    return tree


def _negate(tree: Any, schema: Mapping[str, pl.DataType]) -> Any:
    match tree:
        case {"Function": {"input": [value], "function": "Negate"}}:
            value = _negate(value, schema)
            if isinstance(_type(value, schema), pl.Int128):
                return {"BinaryExpr": {"left": value, "op": "Multiply", "right": {"Literal": {"Dyn": {"Int": -1}}}}}
            return {"Function": {"input": [value], "function": "Negate"}}
        case {"Literal": _}:
            return tree
        case dict():
            return {key: _negate(part, schema) for key, part in tree.items()}
        case list():
            return [_negate(part, schema) for part in tree]
    return tree


def _type(tree: Any, schema: Mapping[str, pl.DataType]) -> pl.DataType | None:
    """Return the type of a piece of an expression, None if it has none by itself."""
    try:
        return pl.LazyFrame(schema=schema).select(_expression(tree).alias("value")).collect_schema()["value"]
    except _REFUSALS:
        return None


def _expression(tree: Any) -> pl.Expr:
    return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")
