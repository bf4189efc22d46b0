"""Checks that a calculation is a pure function of one row, before any row is read. Start with `check_row_wise`.

The input is evaluated in chunks, so the results of an expression that looks at other rows would depend on how the input
is cut. Two checks have to agree that an expression does not, and whatever they do not know is refused. In its tree,
each node must be of a kind that works row by row. In the streaming plan of polars, row-wise expressions take one
pass, and anything else is a node of its own. `Evaluator.probe` is a third check, on the first lines of the input.

Sums of floats depend on the order of the additions, which polars chooses by what else is in the frame: it adds lists in
another way if one of them contains a null, and columns in as many groups as there are threads. `rounding_objection`
refuses these. The tests compare this file with a verdict on every function of polars.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from transform.decode.near_names import near_names
from transform.errors import CalculationError
from transform.expressions.literals import literal_objection
from transform.expressions.parse import first_line
from transform.expressions.reads import columns_read
from transform.expressions.tree import INPUTS, INPUTS_WITHIN, REFUSALS, Node, nodes, show

_OTHER_ROWS = "looks at other rows"
_KINDS = {
    "Agg": "is an aggregate of a whole column",
    "Explode": "makes several rows of one",
    "Filter": "drops values from a column (a calculation's own .filter(…) drops lines)",
    "Gather": "takes values from other rows",
    "Len": "counts the rows",
    "Over": _OTHER_ROWS,
    "Rolling": _OTHER_ROWS,
    "Selector": "picks columns by something else than one name",
    "Slice": "takes a part of a column",
    "Sort": "sorts a whole column",
    "SortBy": "sorts a whole column",
    "SubPlan": "is a query of its own",
}
_RANDOM = "draws random numbers, so that the output would differ from run to run"
_FUNCTIONS = {
    "ListExpr.Diff": "is of another type where there is nothing but nulls; take .list.eval(…)",
    "ListExpr.GatherEvery": "is of another type where there is nothing but nulls; take .list.eval(…)",
    "ListExpr.Sample": _RANDOM,
    "Random": _RANDOM,
    "SetSortedFlag": "makes polars trust that the rows are sorted, and take short cuts that go wrong if they aren't",
}
"""Functions that is_row_separable() accepts although they are not row-wise, or that have a more specific reason."""
_BY_TYPE = {
    *("ArrayExpr.ToStruct", "LowerBound", "Reinterpret", "UpperBound"),
    *("Sql.Binary", "Sql.IsIn", "Sql.Round", "Sql.ToFloat"),
}
"""The functions that is_row_separable() does not decide without types; the plan decides."""
_TABLES = {"Boolean.IsIn", "Replace", "ReplaceStrict", "Sql.IsIn"}
"""The functions that look values up in a Series."""
_BROADCASTS = {"Business.AddBusinessDay", "Business.BusinessDayCount", "Business.IsBusinessDay", "ListExpr.Concat"}
"""The functions for which polars turns a literal into a Series of one value: holidays, a list."""
_UNORDERED = {"Mode", "ValueCounts"}
_ONE_FOR_ALL = {"ArrayExpr.CountMatches", "ListExpr.CountMatches"}
_PYTHON_FUNCTIONS = {"CumFoldHorizontal", "CumReduceHorizontal", "FfiPlugin", "FoldHorizontal", "ReduceHorizontal"}
_PYTHON = (
    "calls a Python function or a plugin, which cannot be looked into; if its result depends on nothing but its "
    "arguments in one row, say so with .assume_pure()"
)
_CATEGORIES = (
    "makes categories, which are numbered in the order in which they come; leave the strings, or cast to an Enum"
)
_CATEGORICAL_TYPE = re.compile(r'"Categorical": \{"name"')
_GUESSES = (
    "guesses the format from the values it sees; give it the format, as in .str.to_date('%Y-%m-%d') or "
    "DATE(name, '%Y-%m-%d') in SQL"
)

_ROW_WISE_PLAN = {"in-memory-source", "with-columns"}
_PLANNED_APART = {f"columnar-function {name}" for name in ("is_in", "replace", "replace_strict")}
_PLANNED_APART_PYTHON = {
    f"columnar-function {name}" for name in ("cum_fold", "cum_reduce", "fold", "python_udf", "reduce")
}
_BESIDE_PLANNED_APART = {"input-independent-select", "map", "multiplexer", "select", "zip-broadcast"}
_MAX_CHARACTERS = 65_000  # of an expression as polars shows it: Rust formats at most 65,535 in one piece, and panics
_RULE = "A line's result may depend on that line only"
_WHAT_TO_DO = f"{_RULE}: compute totals and the like beforehand, give them as literals."


def check_row_wise(expr: pl.Expr, schema: Mapping[str, pl.DataType], *, pure: bool = False) -> None:
    """Raise unless an expression is a pure function of one row.

    Args:
        expr: The expression.
        schema: The columns it is evaluated on.
        pure: Whether Python functions in it were declared to be pure functions of one row.

    Raises:
        CalculationError: It is not; the message has the part at fault, the reason, and what to do instead.
    """
    tree = nodes(expr.alias("result"))
    if (size := len(str(expr))) > _MAX_CHARACTERS:
        raise CalculationError(
            f"{show(expr)} is too long: polars shows it in {size:,} characters, and can plan {_MAX_CHARACTERS:,}. Many "
            "functions of SQL repeat their arguments, so that each one around them doubles the text: nest fewer of "
            "them, or write that part as a Python function"
        )
    schema = _columns_of(expr, schema)
    for node in tree:
        if wrong := literal_objection(node, schema):
            raise CalculationError(f"{show(expr)} is refused: it {wrong}")
    for place, node in enumerate(tree, 1):  # the innermost first, where the reason is
        objection = _objection(node, schema, pure=pure)
        if objection:
            part = "it" if all(above.kind == "Alias" for above in tree[place:]) else _name(node)
            advice = f"{_RULE}." if "; " in objection else _WHAT_TO_DO  # some objections contain their own advice
            raise CalculationError(f"{show(expr)} is not row-wise: {part} {objection}. {advice}")
    if all(node.kind in ("Alias", "Column") for node in tree):
        return
    planned = plan_nodes(expr, schema) - _ROW_WISE_PLAN
    apart = planned & (_PLANNED_APART | _PLANNED_APART_PYTHON if pure else _PLANNED_APART)
    if apart or any(_is_series(node) for node in tree):  # the plan has further nodes to combine these with the rows
        planned -= apart | _BESIDE_PLANNED_APART
    if planned:
        raise CalculationError(
            f"{show(expr)} is not row-wise: it takes more than one pass over the rows (polars plans it as "
            f"{', '.join(sorted(planned))}). {_WHAT_TO_DO}"
        )
    if not any(_is_python(node) for node in tree):
        check_evaluates(expr, schema)


def _columns_of(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> Mapping[str, pl.DataType]:
    """Return the part of a schema that an expression reads, so that a check costs the same beside any other columns."""
    read = {name: schema[name] for name in columns_read([expr]) if name in schema}
    return read or dict(itertools.islice(schema.items(), 1))  # polars takes literals alone for a column of one row


def calls_python(expr: pl.Expr) -> bool:
    """Return whether an expression calls a Python function, or a plugin."""
    return any(_is_python(node) for node in nodes(expr))


def _objection(node: Node, schema: Mapping[str, pl.DataType], *, pure: bool) -> str | None:
    """Return why a node is not row-wise, apart from its inputs; None if it is."""
    if node.kind not in (INPUTS_WITHIN if node.within else INPUTS):
        return _KINDS.get(node.kind, f"is of a kind ({node.kind}) that is not known to be row-wise")
    if _is_python(node):
        return None if pure else _PYTHON
    if any(_is_series(given) and not _may_be_given(node, place, given) for place, given in enumerate(node.inputs())):
        return "holds a Series, whose length has nothing to do with the input's"
    match node.kind:
        case "Literal":
            return _CATEGORIES if re.search("Categorical(?!')", str(_values(node).dtype)) else None
        case "Cast":
            return _CATEGORIES if _CATEGORICAL_TYPE.search(json.dumps(node.body["dtype"])) else None
        case "Eval":
            return _OTHER_ROWS if "Cumulative" in node.body["variant"] else None
        case "Function":
            return _function_objection(node) or rounding_objection(node, schema)
        case "Agg":
            return rounding_objection(node, schema)
    return None


def _function_objection(node: Node) -> str | None:
    names, given, text = node.names(), node.body["input"], json.dumps(node.body["function"])
    reason = next((_FUNCTIONS[name] for name in names if name in _FUNCTIONS), None)
    if reason or _CATEGORICAL_TYPE.search(text):
        return reason or _CATEGORIES
    if "StringExpr.Strptime" in names and '"format": null' in text:
        return None if "Literal" in given[0] else _GUESSES
    if "Replace" in names[0] and any("Literal" not in tree for tree in given[1:3]):
        return "looks values up in whole columns; give them as literals"
    if _ONE_FOR_ALL.intersection(names) and "Literal" not in given[1]:
        return "takes one value for all rows; give it as a literal"
    if names[0] == "Bin" and not node.within:
        return None if '"Breaks"' in text else "derives the bins from the whole column; give the breakpoints"
    if names[0] == "Rank" and '"Random"' in text:
        return _RANDOM
    if node.within and _UNORDERED.intersection(names):
        return "gives its values in any order, so that the output would differ from run to run"
    if node.within or _BY_TYPE.intersection(names):
        return None
    return _separability_objection(node)


def _separability_objection(node: Node) -> str | None:
    """Return why a function is not row-wise by polars' own account, for any arguments; None if it is."""
    columns = [{"Column": ""}] * len(node.body["input"])
    alone = Node("Function", {**node.body, "input": columns}).as_expression().meta
    try:
        separable, preserving = alone.is_row_separable(), alone.is_length_preserving()
    except REFUSALS:  # it needs single values, or the types
        return "looks at other rows, or makes a column of its own"
    if separable:
        return None if preserving else "gives more or fewer values than there are rows"
    return _OTHER_ROWS if preserving else "takes a column as a whole"


def _is_python(node: Node) -> bool:
    return node.kind == "AnonymousFunction" or bool(_PYTHON_FUNCTIONS.intersection(node.names()))


def _is_series(node: Node) -> bool:
    return node.kind == "Literal" and "Series" in node.body


def _may_be_given(node: Node, place: int, series: Node) -> bool:
    """Return whether it makes no difference to a function that one of its inputs is a Series."""
    values, names = _values(series), node.names()
    if place not in (1, 2) or (_TABLES | _BROADCASTS).isdisjoint(names):
        return False
    return len(values) == 1 or (not _TABLES.isdisjoint(names) and not values.dtype.is_nested())


def _values(literal: Node) -> pl.Series:
    return pl.select(literal.as_expression()).to_series()


def _name(node: Node) -> str:
    try:
        return show(node.as_expression())
    except REFUSALS:  # nested too deeply for polars to read it
        return f"a part of it ({node.kind})"


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
    """Return why a function or an aggregate rounds a row differently beside other rows; None if it does not."""
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
            f"adds more than {_COLUMNS_ADDED_IN_ORDER} numbers in an order that depends on the number of threads; take "
            "pl.concat_list(…).list.agg(pl.element().sum())"
            if _holds_floats(node, schema)
            else None
        )
    return None


def _holds_floats(node: Node, schema: Mapping[str, pl.DataType]) -> bool:
    """Return whether an input has floats, or a type that is not known."""
    if node.within:
        return True
    inputs = [given.as_expression().alias(str(place)) for place, given in enumerate(node.inputs())]
    try:
        types = pl.LazyFrame(schema=schema).select(inputs).collect_schema().dtypes()
    except REFUSALS:
        return True
    return any("Float" in str(dtype) for dtype in types)


_PLAN_NODE = re.compile(r'label="([a-z-]+)(?:\\n\w+ = (\w+)\(\.\.\.\))?')
_PARSES = re.compile(r"casting from string to (date|datetime.*|time) is not supported")
_NEGATIVE_POWER = re.compile(r"conversion from `i\d+` to `u32` failed")
_INDEXED = re.compile(r"expected List data type for list operation, got: Struct")
_VALUES = {pl.String: "1", pl.Boolean: True, pl.Float64: 1.0, pl.Int128: 1}


def plan_nodes(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> set[str]:
    """Return the kinds of nodes in polars' streaming plan of an expression, some with the name of a function.

    Raises:
        CalculationError: polars refuses the expression.
    """
    once = pl.QueryOptFlags(comm_subexpr_elim=False)  # a part that occurs twice would be a node of its own
    try:
        plan = (
            pl.LazyFrame(schema=schema)
            .with_columns(expr.alias("result"))
            .show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False, optimizations=once)
        )
    except REFUSALS as error:
        raise CalculationError(f"polars refuses {show(expr)}: {_reason(error, expr, schema)}") from None
    return {" ".join(filter(None, found)) for found in _PLAN_NODE.findall(plan or "")}


def check_evaluates(expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> None:
    """Raise if polars refuses the types; some it refuses only once there are values, or two rows.

    Raises:
        CalculationError: polars refuses them.
    """
    nulls = pl.DataFrame(schema=schema).clear(2)
    nothing, one, two = (_error(expr, nulls.head(height)) for height in range(3))
    valued = _error(expr, pl.DataFrame({name: [_value(dtype)] * 2 for name, dtype in schema.items()}, schema))
    if two and (nothing or not one):  # otherwise the nulls may be the reason
        raise CalculationError(f"polars refuses {show(expr)}: {_reason(two, expr, schema)}")
    if valued and "not supported" in str(valued):  # otherwise the values may be the reason
        raise CalculationError(f"polars refuses {show(expr)}: {_reason(valued, expr, schema)}")


def _reason(error: BaseException, expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> str:
    """Return the message of polars, with a hint if there is one."""
    said = first_line(error)
    if isinstance(error, pl.exceptions.StructFieldNotFoundError):  # the message is only the name
        whole, dtype = _taken_apart(said, expr, schema)
        if isinstance(dtype, pl.List):
            return (
                f"{whole} is a list, and its elements have the member `{said}`, if any: in SQL, `l[1] -> '{said}'` is "
                f"that of the first element; in Python, .list.get(0, null_on_oob=True).struct.field({said!r}), and of "
                f"all of them, as a list, .list.eval(pl.element().struct.field({said!r}))"
            )
        if dtype is not None and not isinstance(dtype, pl.Struct):
            return (
                f"{whole} is no object, but {dtype}, so it has no member `{said}`. A name with a point in it is one "
                'column if it is quoted: "a.b" in SQL, pl.col("a.b") in Python'
            )
        near = near_names(said, _members_within([dtype] if dtype is not None else schema.values()))
        return f"the object has no member `{said}`.{near} If it comes later, declare the type of the column."
    if _PARSES.search(said):
        return f"{said.rstrip('.')}: give the format, as in .str.to_date('%Y-%m-%d') or DATE(name, '%Y-%m-%d') in SQL"
    if _NEGATIVE_POWER.search(said) and ".pow(" in str(expr):
        return (
            f"{said.rstrip('.')}: a power of integers is an integer; write POWER(CAST(a AS DOUBLE), b) for other powers"
        )
    if _INDEXED.search(said):
        return f"{said}. A member of an object is written `o.k` in SQL, .struct.field('k') in Python"
    return said


def _taken_apart(name: str, expr: pl.Expr, schema: Mapping[str, pl.DataType]) -> tuple[str, pl.DataType | None]:
    """Return the expression, and its type, of which a member of a name is taken that it does not have."""
    for node in nodes(expr):
        match node.body:
            case {"function": {"StructExpr": {"FieldByName": found}}} if found == name and not node.within:
                (whole,) = (given.as_expression() for given in node.inputs())
                try:
                    (dtype,) = pl.LazyFrame(schema=schema).select(whole.alias("")).collect_schema().dtypes()
                except REFUSALS:
                    continue
                if not (isinstance(dtype, pl.Struct) and name in {field.name for field in dtype.fields}):
                    return show(whole), dtype
    return "", None


def _members_within(types: Iterable[Any]) -> Iterator[str]:
    for dtype in types:
        if isinstance(dtype, pl.List):
            yield from _members_within([dtype.inner])
        elif isinstance(dtype, pl.Struct):
            for field in dtype.fields:
                yield field.name
                yield from _members_within([field.dtype])


def _error(expr: pl.Expr, rows: pl.DataFrame) -> BaseException | None:
    try:
        rows.with_columns(expr.alias("result"))
    except REFUSALS as error:
        return error
    return None


def _value(dtype: Any) -> object:
    if isinstance(dtype, pl.List):
        return [_value(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        return {field.name: _value(field.dtype) for field in dtype.fields}
    return _VALUES.get(type(dtype))
