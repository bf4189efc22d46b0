"""Integer arithmetic that polars gets wrong: results beyond Int128, and the negation of Int128.

All integers are evaluated as Int128, and polars wraps around silently on overflow. Sums, differences and products are
exact modulo 2^128, whatever happens in between, so such a part of an expression is correct if its value is within
Int128. To find that out, `overflows` evaluates it once more in floats, whose error is a few units in the 16th digit.
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
    """Return the expression with each negation of Int128 values replaced by a product with -1."""
    text = _serialised(expr)
    return _expression(_negate(json.loads(text), schema)) if '"Negate"' in text else expr


def overflows(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return expressions that are true for rows on which integer arithmetic in the expression leaves Int128."""
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
    except _REFUSALS:  # `check_row_wise` raises the error
        return "null"


def _arithmetic(tree: Any, guards: _Guards = ()) -> Iterator[tuple[Any, _Guards]]:
    """Yield the largest parts of a serialised expression that are only arithmetic, each with its guards.

    Guards are the conditions of `when` around the part, with the values for which the part is used.
    """
    match tree:
        case {"Literal": _} | {"Eval": _} | {"StructEval": _}:  # the last two have other columns
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
    """Return the type of a part of an expression, None if polars does not accept the part by itself."""
    try:
        return pl.LazyFrame(schema=schema).select(_expression(tree).alias("value")).collect_schema()["value"]
    except _REFUSALS:
        return None


def _expression(tree: Any) -> pl.Expr:
    return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")
