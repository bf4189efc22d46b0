"""The members of a line that expressions read. `bind` gives each of them a column, and has expressions read these."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform.decode.schema import Path, Paths, Read, Use
from transform.errors import CalculationError
from transform.expressions.origins import COLUMNS, fields_in
from transform.expressions.rewrite import input_trees
from transform.expressions.tree import INPUTS_WITHIN, TOO_DEEP, expression, load


@dataclass(frozen=True, slots=True)
class Bound:
    """The expressions of a calculation, bound to the members of a line that they read.

    Attributes:
        reads: The members read, each with the name of its column: `customer.city` for a member of an object.
        results: The results to compute, by name, on these columns.
        unchanged: The results that are members as they are, by name, with the paths of the members.
        filters: The filters, on these columns.
        rules: The conditions of the rules, on these columns.
        fields: What they use of where a row came from; see `origins`.
    """

    reads: dict[str, Read]
    results: dict[str, pl.Expr]
    unchanged: dict[str, Path]
    filters: tuple[pl.Expr, ...]
    rules: tuple[pl.Expr, ...] = ()
    fields: frozenset[str] = frozenset()


def bind(results: Mapping[str, pl.Expr], filters: Iterable[pl.Expr], rules: Iterable[pl.Expr] = ()) -> Bound:
    """Find the members that expressions read, and give each of them a column.

    Only what expressions name is read: of `customer.city` the member `city` of `customer`, and nothing beside it.

    Raises:
        CalculationError: An expression is nested too deeply.
    """
    try:
        return _bind(results, [*filters], [*rules])
    except RecursionError:
        raise CalculationError(f"an expression {TOO_DEEP}") from None


def _bind(results: Mapping[str, pl.Expr], filters: Sequence[pl.Expr], rules: Sequence[pl.Expr]) -> Bound:
    trees = {name: _tree(expr) for name, expr in results.items()}
    unchanged = {name: path for name, tree in trees.items() if (path := _path(_without_names(tree))) is not None}
    computed = {name: (expr, trees[name]) for name, expr in results.items() if name not in unchanged}
    conditions = [(expr, _tree(expr)) for expr in (*filters, *rules)]
    found: list[Read] = []
    for expr, tree in (*computed.values(), *conditions):
        found += (
            _reads(tree)
            if tree is not None
            else [Read((name,)) for name in expr.meta.root_names() if name not in COLUMNS]
        )
    columns = _merge_reads(found)
    reads = {path: Read(path, Use.BYTES) for path in unchanged.values()} | columns
    names = _column_names(reads)
    nested = any(len(path) > 1 for path in columns)

    def on_columns(expr: pl.Expr, tree: Any) -> pl.Expr:
        return expression(_on_columns(tree, columns, names)) if nested and tree is not None else expr

    bound = [on_columns(*of) for of in conditions]
    return Bound(
        reads={names[path]: read for path, read in reads.items()},
        results={name: on_columns(*of) for name, of in computed.items()},
        unchanged=unchanged,
        filters=tuple(bound[: len(filters)]),
        rules=tuple(bound[len(filters) :]),
        fields=fields_in((*results.values(), *filters, *rules)),
    )


def _tree(expr: pl.Expr) -> Any:
    """Return the tree of an expression, None if it cannot be had."""
    try:
        return load(expr)
    except CalculationError:  # `check_row_wise` raises it, too
        return None


def _without_names(tree: Any) -> Any:
    while True:
        match tree:
            case {"Alias": [inner, _]} | {"KeepName": inner} | {"RenameAlias": {"expr": inner}}:
                tree = inner
            case _:
                return tree


def _path(tree: Any) -> Path | None:
    """Return the path of the member that a tree stands for, None if it stands for something else."""
    return _names_down_to(tree, lambda inner: (inner["Column"],) if _is_column(inner) else None)


def _is_column(tree: Any) -> bool:
    return isinstance(tree, dict) and isinstance(tree.get("Column"), str) and tree["Column"] not in COLUMNS


def _names_down_to(tree: Any, start: Callable[[Any], Path | None]) -> Path | None:
    """Return the names of fields down to a tree for which `start` returns a path, after that path."""
    names: list[str] = []
    while True:
        match tree:
            case {"Function": {"input": [inner], "function": {"StructExpr": {"FieldByName": str(name)}}}}:
                names.append(name)
                tree = inner
            case _:
                path = start(tree)
                return None if path is None else (*path, *reversed(names))


def _is_element(tree: Any) -> bool:
    return tree in ("Element", {"Column": ""})


def _reads(tree: Any, *, within: bool = False) -> list[Read]:
    """Return what a tree reads; `within` the evaluation of elements, a column without a name is the element."""
    if within and _is_element(tree):
        return []
    if (path := _path(tree)) is not None:
        return [] if within and not path[0] else [Read(path)]
    if not within and (found := _partial_reads(tree)) is not None:
        return found
    match tree:
        case {"Literal": _}:
            return []
        case {"Eval": {"expr": inner, "evaluation": evaluation}}:
            return _reads(inner, within=within) + _reads(evaluation, within=True)
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [read for part in parts for read in _reads(part, within=within)]


def _partial_reads(tree: Any) -> list[Read] | None:
    """Return what a tree reads if it uses less than the value of a member; None if it is no such tree."""
    match tree:
        case {"Function": {"input": [inner], "function": {"Boolean": "IsNull" | "IsNotNull"}}}:
            return None if (path := _path(_without_names(inner))) is None else [Read(path, Use.PRESENCE)]
        case {"Function": {"input": [inner], "function": {"ListExpr": "Length"}}}:
            return None if (array := _array(inner)) is None else [Read(array[0], elements=frozenset()), *array[1]]
        case {"Eval": {"expr": inner, "evaluation": evaluation}} if (array := _array(inner)) is not None:
            used = Read(array[0], elements=_element_paths(evaluation))
            return [used, *array[1], *_reads(evaluation, within=True)]
    names: list[str] = []
    while True:  # a path within an element
        match tree:
            case {"Function": {"input": [inner], "function": {"StructExpr": {"FieldByName": str(name)}}}}:
                names.append(name)
                tree = inner
            case {"Function": {"input": [inner, index], "function": {"ListExpr": {"Get": _}}}}:
                if (array := _array(inner)) is None:
                    return None
                elements = frozenset([tuple(reversed(names))]) if names else None
                return [Read(array[0], elements=elements), *array[1], *_reads(index)]
            case _:
                return None


def _array(tree: Any) -> tuple[Path, list[Read]] | None:
    """Return the path of the array that a tree takes some elements of, and what decides which; None if it does not."""
    if (path := _path(tree)) is not None:
        return path, []
    match tree:
        case {"Function": {"input": [inner, *given], "function": {"ListExpr": "Slice" | "DropNulls" | {"Gather": _}}}}:
            if (array := _array(inner)) is not None:
                return array[0], array[1] + _reads(given)
    return None


def _element_paths(evaluation: Any) -> Paths:
    """Return the paths within the elements that their evaluation uses; None if it uses whole elements."""
    found: set[Path] = set()
    pending = [evaluation]
    while pending:
        tree = pending.pop()
        path = _names_down_to(tree, lambda inner: () if _is_element(inner) else None)
        if path is not None:
            found.add(path)
        elif isinstance(tree, str) or next(iter(tree)) not in INPUTS_WITHIN:
            if tree != "Len":
                return None  # it is not known what this uses
        else:
            pending += [tree["Eval"]["expr"]] if "Eval" in tree else input_trees(tree)
    return None if () in found else frozenset(found)


def _merge_reads(found: Iterable[Read]) -> dict[Path, Read]:
    """Return one read for each path, without those within a value that is read whole."""
    merged: dict[Path, Read] = {}
    for read in found:
        known = merged.setdefault(read.path, read)
        if known.use is Use.VALUE and read.use is Use.VALUE:
            parts = None if known.elements is None or read.elements is None else known.elements | read.elements
            merged[read.path] = Read(read.path, elements=parts)
        elif read.use is Use.VALUE:
            merged[read.path] = read
    whole = {path for path, read in merged.items() if read.whole}
    return {path: read for path, read in merged.items() if not _prefix_in(path, whole)}


def _prefix_in(path: Path, paths: Container[Path]) -> Path | None:
    return next((path[:size] for size in range(1, len(path)) if path[:size] in paths), None)


def _column_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the name of each path: `a.b`, and `"a"."b"` if something else has that name."""
    names: dict[str, Path] = {}
    for path in sorted(paths, key=len):
        name = ".".join(path)
        if name in names:
            name = ".".join('"' + part.replace('"', '""') + '"' for part in path)
        names[name] = path
    return {path: name for name, path in names.items()}


def _on_columns(tree: Any, reads: Mapping[Path, Read], names: Mapping[Path, str]) -> Any:
    """Return a tree with columns in the place of the members read."""
    if (path := _path(tree)) is not None:
        column = path if path in reads else _prefix_in(path, reads) or path[:1]
        tree = {"Column": names.get(column, column[0])}
        for name in path[len(column) :]:
            tree = {"Function": {"input": [tree], "function": {"StructExpr": {"FieldByName": name}}}}
        # Within pl.struct, the name of an expression is that of a member.
        return {"Alias": [tree, path[-1]]} if len(path) > 1 else tree
    if isinstance(tree, dict) and "Literal" not in tree:
        return {key: _on_columns(part, reads, names) for key, part in tree.items()}
    return [_on_columns(part, reads, names) for part in tree] if isinstance(tree, list) else tree


def columns_read(exprs: Iterable[pl.Expr]) -> list[str]:
    """Return the names of the columns that the expressions read, each once, in order of appearance."""
    return list(dict.fromkeys(name for expr in exprs for name in _columns_read(expr)))


def _columns_read(expr: pl.Expr) -> list[str]:
    names = expr.meta.root_names()
    if "" not in names and "dtype_of(" not in str(expr):
        return names
    # A column without a name may be a member of that name, or an element of a list; one of which only the type is read
    # is not among the names.
    try:
        return list(_columns_in(load(expr)))
    except CalculationError:  # the check of the expression raises it, too
        return [name for name in names if name]


def _columns_in(tree: Any, *, within: bool = False) -> Iterator[str]:
    match tree:
        case {"Literal": _}:
            return
        case {"Column": str(name)}:
            if name or not within:
                yield name
        case {"Eval": {"expr": expr, "evaluation": evaluation}}:
            yield from _columns_in(expr, within=within)
            yield from _columns_in(evaluation, within=True)
        case dict():
            for part in tree.values():
                yield from _columns_in(part, within=within)
        case list():
            for part in tree:
                yield from _columns_in(part, within=within)
