"""CloudWatch's metric math, as far as the templates use it: expressions over one number a minute.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import math
import operator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Point = float | None
"""None where there is no data."""

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def evaluate(queries: Sequence[Mapping[str, Any]], metrics: Mapping[str, Sequence[Point]]) -> list[Point]:
    """Return the numbers that an alarm or a policy looks at.

    Args:
        queries: The `Metrics` of a template: one of them returns its data.
        metrics: Numbers by the name of the metric, as `name_of` has it, all of the same minutes.

    Raises:
        ValueError: The expressions use what this does not know.
    """
    by_id = {query["Id"]: query for query in queries}
    length = len(next(iter(metrics.values())))

    def points(name: str) -> list[Point]:
        query = by_id[name]
        if "Expression" not in query:
            return list(metrics[name_of(query["MetricStat"]["Metric"])])
        return _evaluate(_parse(query["Expression"]), points, length)

    (returned,) = (query["Id"] for query in queries if query.get("ReturnData", True))
    return points(returned)


def name_of(metric: Mapping[str, Any]) -> str:
    """Return the name of a metric; if it is of the queue of backfills, with `Backfill` before it."""
    return f"{'Backfill' * ('BackfillQueue' in str(metric.get('Dimensions')))}{metric['MetricName']}"


@cache
def _parse(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body  # its grammar is Python's, too, as far as it is used here


def _evaluate(node: ast.expr, points: Callable[[str], list[Point]], length: int) -> list[Point]:
    def of(part: ast.expr) -> list[Point]:
        return _evaluate(part, points, length)

    match node:
        case ast.Constant(value=int() | float() as number):
            return [float(number)] * length
        case ast.Name(id=name):
            return points(name)
        case ast.BinOp(left=left, op=sign, right=right) | ast.Compare(left=left, ops=[sign], comparators=[right]):
            return [_apply(_OPERATORS[type(sign)], a, b) for a, b in zip(of(left), of(right), strict=True)]
        case ast.Call(func=ast.Name(id="CEIL"), args=[value]):
            return [None if point is None else math.ceil(point) for point in of(value)]
        case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
            branches = zip(of(condition), of(then), of(otherwise), strict=True)
            return [None if test is None else yes if test else no for test, yes, no in branches]
        case ast.Call(func=ast.Name(id="SUM"), args=[ast.List(elts=parts)]):
            return [_sum(numbers) for numbers in zip(*map(of, parts), strict=True)]
        case ast.Call(func=ast.Name(id="FILL"), args=[value, ast.Name(id="REPEAT")]):
            return _repeated(of(value))
    raise ValueError(f"unknown in metric math: {ast.unparse(node)}")


def _apply(function: Callable[[float, float], float], left: Point, right: Point) -> Point:
    if left is None or right is None or (function is operator.truediv and right == 0):
        return None
    return float(function(left, right))


def _sum(numbers: Sequence[Point]) -> Point:
    """Return the sum of those that there are, unlike `+`, which needs all."""
    there = [number for number in numbers if number is not None]
    return sum(there) if there else None


def _repeated(points: list[Point]) -> list[Point]:
    """Return the points, each that is missing being the one before it."""
    last: Point = None
    filled = []
    for point in points:
        last = point if point is not None else last
        filled.append(last)
    return filled
