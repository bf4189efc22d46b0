"""Trees of expressions that can be rewritten: their parts, types and literals. Start with `Rewriting`.

A tree is what polars serialises as MessagePack: JSON, apart from bytes, that polars takes at any depth. A part gets the
type that polars gives it, from the leaves up. That of a function is asked of polars with columns in place of the
function's inputs, so that it costs the same however large the inputs are.
"""

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import polars as pl

from transform.expressions.tree import (
    INPUTS_WITHIN,
    REFUSALS,
    Node,
    at_least,
    call,
    expression,
    operation,
    scalar,
)

_BARE = {kind for kind, keys in INPUTS_WITHIN.items() if None in keys}
_CONDITIONS = 50
"""Of more conditions than these, which take quadratic time, only the cheap one is looked at."""
BOUND = 2.0**127 * (1 - 2.0**-30)
"""Where a bound becomes suspicious: it is a sum or product of positive floats, which rounds by a few units each."""


def node_of(tree: Any) -> Node:
    """Return a tree as a node."""
    return Node(tree) if isinstance(tree, str) else Node(*next(iter(tree.items())))


def names_of(tree: Any) -> tuple[str, ...]:
    """Return `Node.names` of a function, and the kind of any other node, with that of an aggregate."""
    node = node_of(tree)
    return node.names() or ((node.kind, f"Agg.{next(iter(node.body))}") if node.kind == "Agg" else (node.kind,))


def input_trees(tree: Any) -> list[Any]:
    """Return the inputs of a tree, in order, apart from expressions of elements and fields."""
    return [within[key] for within, key in _places(tree)]


def with_inputs(tree: Any, inputs: Sequence[Any]) -> Any:
    """Return a tree with other inputs, in the order of `input_trees`."""
    if not inputs:
        return tree
    ((kind, body),) = tree.items()
    made = {kind: body if kind in _BARE else {**body} if isinstance(body, dict) else [*body]}
    content, keys = _content(made)
    if kind == "Agg" and keys != (None,):
        ((name, _),) = body.items()
        content = made[kind][name] = content.copy()
    for key in keys:
        if key is not None and isinstance(content[key], list):
            content[key] = [*content[key]]
    for (within, key), given in zip(_places(made), inputs, strict=True):
        within[key] = given
    return made


def _content(tree: Any) -> tuple[Any, tuple[str | int | None, ...]]:
    """Return what the inputs of a tree are in, and the keys of the inputs there."""
    node = node_of(tree)
    if node.kind != "Agg":
        return node.body, tuple(key for key in INPUTS_WITHIN.get(node.kind, ()) if key != "evaluation")
    (content,) = node.body.values()
    key = 0 if isinstance(content, list) else "input" if isinstance(content, dict) and "input" in content else None
    return content, (key,)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the containers of the inputs of a tree, each with the key of the input in it."""
    content, keys = _content(tree)
    for key in keys:
        if key is None:
            ((kind, body),) = tree.items()
            yield (body, next(iter(body))) if kind == "Agg" else (tree, kind)
        elif isinstance(content[key], list):
            yield from ((content[key], place) for place in range(len(content[key])))
        else:
            yield content, key


def walk(top: list[Any]) -> Iterator[tuple[Any, Any, Node]]:
    """Yield the containers of the nodes below a list of trees, each with the key in it and the node above."""
    left: list[tuple[Any, Any, Node]] = [(top, place, Node("")) for place in range(len(top))]
    while left:
        within, key, above = left.pop()
        yield within, key, above
        node = node_of(within[key])
        left.extend((*place, node) for place in _places(within[key]))
        if node.kind in ("Eval", "StructEval"):
            given = node.body["evaluation"]
            places = (
                [(given, place) for place in range(len(given))]
                if isinstance(given, list)
                else [(node.body, "evaluation")]
            )
            left.extend((*place, node) for place in places)


@dataclass(frozen=True, slots=True)
class Check:
    """A part of an expression that may leave Int128, as conditions that are true on rows on which it does.

    Attributes:
        suspicious: A condition that is cheap, and true on some other rows too.
        beyond: Conditions of which one is true.
        guards: The conditions of `when` around the part, with the values for which the part is used.
        reason: What is wrong with these rows.
    """

    suspicious: Any
    beyond: tuple[Any, ...]
    guards: tuple[tuple[Any, bool], ...] = ()
    reason: str = "integer arithmetic goes beyond Int128"

    def condition(self, *, exact: bool) -> Any:
        """Return the condition as a tree."""
        few = exact and len(self.beyond) <= _CONDITIONS
        found = call({"Boolean": "AnyHorizontal"}, *self.beyond) if few else self.suspicious
        taken = [
            operation(call("FillNull", tree, scalar("Boolean", False)), "Eq", scalar("Boolean", value))
            for tree, value in self.guards
        ]
        return call({"Boolean": "AllHorizontal"}, found, *taken) if taken else found

    def within(self, wrap: Callable[[Any], Any], guards: tuple[tuple[Any, bool], ...]) -> "Check":
        """Return the check of the values of which this one checks the elements or fields."""
        beyond = tuple(wrap(replace(self, beyond=(tree,)).condition(exact=True)) for tree in self.beyond)
        return Check(wrap(self.condition(exact=False)), beyond, guards, self.reason)


class Overflow:
    """The parts of some expressions for which rows are rejected, by the checks that were returned for them."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._suspicious = _any(checks, exact=False)
        self._beyond: dict[str, pl.Expr] = {}

    def occurs(self, frame: pl.DataFrame) -> str | None:
        """Return what is wrong with some row, None if nothing is."""
        if not self._checks or not frame.height or not frame.select(self._suspicious).item():
            return None
        for reason in {} if self._beyond else dict.fromkeys(check.reason for check in self._checks):
            some = [check for check in self._checks if check.reason == reason]
            self._beyond[reason] = _any(some, exact=True).alias(reason)
        # Conditions have much in common, but to look for it takes quadratic time.
        flags = pl.QueryOptFlags(comm_subexpr_elim=False)
        found = frame.lazy().select(*self._beyond.values()).collect(optimizations=flags).row(0, named=True)
        return next((reason for reason, occurs in found.items() if occurs), None)


def _any(checks: Sequence[Check], *, exact: bool) -> pl.Expr:
    return pl.any_horizontal(False, *(expression(check.condition(exact=exact)) for check in checks)).any()


@dataclass(frozen=True, slots=True)
class Part:
    """A rewritten part of an expression.

    In `a * b + c`, `a * b` has the bound `a * b` in floats, which is `signed`, and `beyond` says that its magnitude
    reaches 2**127. The whole has the bound `abs(a * b) + abs(c)`, the total `a * b + c` and the product's `beyond`.

    Attributes:
        tree: The part, serialised.
        dtype: Its type, None if polars cannot tell.
        bound: If it is arithmetic of integers, a float of at least its magnitude, as a tree.
        signed: Whether only the absolute value of the bound is one.
        beyond: Conditions of which one is true if some operation in it leaves Int128.
        total: If it is a sum or a difference, the same of floats, which is not checked in `beyond`: sums of sums are
            exact, whatever their parts are, so only the whole is checked.
        checks: The checks of what else rows are rejected for.
    """

    tree: Any
    dtype: Any
    bound: Any = None
    signed: bool = False
    beyond: tuple[Any, ...] = ()
    total: Any = None
    checks: tuple[Check, ...] = ()

    @property
    def conditions(self) -> tuple[Any, ...]:
        """Conditions of which one is true if the part leaves Int128."""
        if self.total is None:
            return self.beyond
        return (*self.beyond, at_least(call("Abs", self.total), BOUND))

    @property
    def magnitude(self) -> Any:
        """The bound as an absolute value."""
        return call("Abs", self.bound) if self.signed else self.bound


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where a part of an expression is: in an expression of elements or of fields, and under some guards."""

    element: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    guards: tuple[tuple[Any, bool], ...] = ()
    checks: list[Check] = field(default_factory=list)


_Visit = Generator[tuple[Any, _Scope], Part, Part]


class Rewriting:
    """Rewrites the tree of an expression; `changed` tells whether it became another one.

    Args:
        schema: The columns it is evaluated on.
        replacement: Returns what replaces a part with some names, a tree and inputs, None if it remains; `when` does.
    """

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        replacement: Callable[[Sequence[str], Any, Sequence[Part]], Part | None],
    ) -> None:
        self.changed = False
        self._schema = schema
        self._replacement = replacement

    def rewrite(self, tree: Any) -> tuple[Any, list[Check]]:
        """Return a tree rewritten, and the checks of its arithmetic."""
        scope = _Scope()
        part = self._run(tree, scope)
        _settle(part, scope)
        return part.tree, scope.checks

    def _run(self, tree: Any, scope: _Scope) -> Part:
        """Return a tree rewritten, without recursion: chains of operators may be deep."""
        stack: list[_Visit] = [self._visit(tree, scope)]
        done: Any = None
        while stack:
            try:
                stack.append(self._visit(*stack[-1].send(done)))
                done = None
            except StopIteration as stop:
                stack.pop()
                done = stop.value
        return cast("Part", done)

    def _visit(self, tree: Any, scope: _Scope) -> _Visit:
        kind: str = tree if isinstance(tree, str) else next(iter(tree))
        body: Any = None if isinstance(tree, str) else tree[kind]
        match kind:
            case "Column":
                return Part(tree, self._schema.get(body))
            case "Element":
                return Part(tree, scope.element)
            case "Field":
                return Part(tree, scope.fields.get(body[0]))
            case "Literal":
                return _literal(body)
            case "Ternary":
                return (yield from self._choice(body, scope))
            case "Eval" | "StructEval":
                return (yield from self._inner(kind, body, scope))
        parts = []
        for given in input_trees(tree):
            parts.append((yield given, scope))  # noqa: PERF401 - a comprehension cannot yield
        made = with_inputs(tree, [part.tree for part in parts])
        if kind in ("Alias", "KeepName", "RenameAlias"):
            return replace(parts[0], tree=made)
        return self._combined(made, parts, scope)

    def _choice(self, body: Any, scope: _Scope) -> _Visit:
        predicate = yield body["predicate"], scope
        _settle(predicate, scope)
        parts = [predicate]
        for key in ("truthy", "falsy"):
            inner = replace(scope, guards=(*scope.guards, (predicate.tree, key == "truthy")))
            part = yield body[key], inner
            _settle(part, inner)
            parts.append(part)
        tree = with_inputs({"Ternary": body}, [part.tree for part in parts])
        self._replacement(("Ternary",), tree, parts)
        return Part(tree, type_of(tree, parts))

    def _inner(self, kind: str, body: Any, scope: _Scope) -> _Visit:
        """Rewrite expressions of the elements of lists, or of the fields of structs."""
        outer = yield body["expr"], scope
        _settle(outer, scope)
        lists = kind == "Eval"
        element = getattr(outer.dtype, "inner", None) if lists else scope.element
        names = {} if lists else {f.name: f.dtype for f in getattr(outer.dtype, "fields", [])}
        inner = _Scope(element, names)
        parts = []
        for tree in [body["evaluation"]] if lists else body["evaluation"]:
            parts.append((yield tree, inner))
            _settle(parts[-1], inner)
        given = parts[0].tree if lists else [part.tree for part in parts]
        found = {kind: {**body, "expr": outer.tree, "evaluation": given}}

        def any_element(condition: Any) -> Any:
            # polars panics on expressions of elements of arrays that are constant
            array = isinstance(outer.dtype, pl.Array)
            given = call({"ArrayExpr": "ToList"}, outer.tree) if array else outer.tree
            each = {"Eval": {"expr": given, "evaluation": condition, "variant": "List"}}
            any_of = call({"Boolean": {"Any": {"ignore_nulls": True}}}, "Element")
            return {"Eval": {"expr": each, "evaluation": any_of, "variant": "ListAgg"}}

        def as_field(condition: Any) -> Any:
            added = {"expr": outer.tree, "evaluation": [{"Alias": [condition, "beyond"]}], "variant": "WithFields"}
            return call({"StructExpr": {"FieldByName": "beyond"}}, {"StructEval": added})

        scope.checks.extend(check.within(any_element if lists else as_field, scope.guards) for check in inner.checks)
        return Part(found, type_of(found, [outer], self._schema))

    def _combined(self, tree: Any, parts: list[Part], scope: _Scope) -> Part:
        """Return the part that a function, an operator or an aggregate of rewritten parts makes."""
        names = names_of(tree)
        made = self._replacement(names, tree, parts)
        if made is not None:
            self.changed = True
            scope.checks.extend(replace(check, guards=scope.guards) for check in made.checks)
            if made.bound is not None:
                return made
        for part in parts:
            _settle(part, scope)
        return made or Part(tree, type_of(tree, parts))


def _settle(part: Part, scope: _Scope) -> None:
    """Add the check of a part that is used by something else than arithmetic of integers."""
    if part.bound is not None:
        scope.checks.append(Check(at_least(part.magnitude, BOUND), part.conditions, scope.guards))


def _literal(body: Any) -> Part:
    tree = {"Literal": body}
    match body:
        case {"Dyn": {"Int": _}}:
            return Part(tree, pl.Int128())
        case {"Scalar": {"Boolean": _}}:
            return Part(tree, pl.Boolean())
        case {"Scalar": dict(value)} if (name := next(iter(value))).startswith(("Int", "UInt")):
            return Part(tree, getattr(pl, name)())
    return Part(tree, type_of(tree, []))


def _output_name(tree: Any) -> str:
    try:
        return expression(tree).meta.output_name()
    except REFUSALS:  # that of an element is not known
        return ""


def type_of(tree: Any, parts: Sequence[Part], schema: Mapping[str, pl.DataType] | None = None) -> Any:
    """Return the type that polars gives a part whose inputs have some types; None if it does not tell."""
    columns, inputs = dict(schema or {}), []
    for place, part in enumerate(parts):
        if "Literal" in part.tree or part.dtype is None:
            inputs.append(part.tree)
            continue
        name = f"input {place}"
        columns[name] = part.dtype
        column = {"Column": name}
        is_field = names_of(tree) == ("AsStruct",)
        inputs.append({"Alias": [column, _output_name(part.tree)]} if is_field else column)
    if any(part.dtype is None for part in parts):
        return None
    return _polars_type(msgspec.msgpack.encode(with_inputs(tree, inputs)), tuple(columns.items()))


@functools.lru_cache(maxsize=1000)
def _polars_type(tree: bytes, columns: tuple[tuple[str, pl.DataType], ...]) -> Any:
    try:
        expr = expression(msgspec.msgpack.decode(tree, strict=False))
        return pl.LazyFrame(schema=dict(columns)).select(expr.alias("value")).collect_schema()["value"]
    except REFUSALS:
        return None
