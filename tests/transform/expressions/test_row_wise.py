"""Only pure functions of one row stand in a calculation: a verdict on everything polars has, and evaluation in pieces.

`verdicts.py` has the tables. What passes is evaluated whole and in pieces, in another order, and in another process.
"""

from __future__ import annotations

import functools
import inspect
import io
import itertools
import json
import math
import multiprocessing
import random
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
from polars.expr import whenthen

from tests.support import verdicts
from tests.support.results import as_texts
from tests.support.verdicts import NOT_AN_EXPRESSION, REFUSED, SAFE, SCHEMA, TABLES, UNSAFE, WORDS
from transform import Calculation, CalculationError
from transform.expressions.evaluate import Evaluator
from transform.expressions.parse import name_results, parse_sql
from transform.expressions.row_wise import calls_python, check_row_wise
from transform.expressions.tree import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROWS = 48
PLAIN_ROWS = 12
"""The first rows, which show nothing of what comes later: no nulls, no extremes, lists of two elements."""

# --- the rows ---------------------------------------------------------------------------------------------------------

TEXTS = [
    *(
        "",
        "a",
        "ab",
        "a b c",
        "Aß",
        "ßa",
        "ÄÖ é́",
        "  pad ",
        "1f",
        "null",
        "\0x",
        "日本語 a",
        "😀",
        "a-b",
        "%_^$.*[",
        "x" * 70,
    ),
    *("2024-01-01", "12:30"),
]
INTEGERS = [0, 1, -1, 5, 5, 7, 10**18, 2**64, 2**127 - 1, -(2**127)]
FLOATS = [
    0.0,
    -0.0,
    1.0,
    49.0,
    0.1,
    -2.5,
    1 / 3,
    1e16,
    1e-7,
    5e-324,
    1e308,
    -1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
]
DATES = ["2024-01-01", "2024-02-29", "2023-12-31"]
OTHER_DATES = ["0001-01-01", "1582-10-14", "1969-12-31", "2024-03-31", "2024-10-27", "9999-12-30"]
TIMES = ["00:00:00", "12:30:59", "02:30:00", "23:59:59"]
OBJECTS = ['{"a":1,"b":"x"}', '{"a":2,"b":"y"}']
OTHER_OBJECTS = ["{}", '{"a":null}', '{"b":"ü","c":[1]}', '{"a":2.5}', '{"a":-3,"b":null}', "null"]


def frame(seed: int, height: int = ROWS) -> pl.DataFrame:
    """Return rows of all columns: plain ones, then with nulls, duplicates and extremes, in no order."""
    rng = random.Random(seed)
    rows = [_row(rng, plain=place < PLAIN_ROWS) for place in range(height)]
    return pl.DataFrame([pl.Series(name, [row[name] for row in rows], dtype) for name, dtype in SCHEMA.items()])


def _row(rng: random.Random, *, plain: bool) -> dict[str, Any]:
    def maybe(value: Any) -> Any:
        return None if not plain and rng.random() < 0.2 else value

    def some(make: Callable[[], Any]) -> list[Any]:
        return [maybe(make()) for _ in range(2 if plain else rng.randrange(5))]

    def of(ordinary: list[Any], others: list[Any]) -> Any:
        return rng.choice(ordinary if plain else [*ordinary, *others])

    def integer() -> int:
        return int(of([*range(6)], [0, 1, -7, 2**62]))

    def word() -> str:
        return str(of([*WORDS], TEXTS))

    def date() -> str:
        return str(of(DATES, OTHER_DATES))

    def floats() -> list[float]:
        """Return now and then so many that they are added up in blocks."""
        return [rng.uniform(-1, 1) * 10 ** rng.randrange(6) for _ in range(200)] if rng.random() < 0.2 else []

    row = {
        "i": of([*range(10)], INTEGERS),
        "n": of([*range(4)], [-2, -1, 5]),
        "f": of([rng.randrange(20) / 2], [*FLOATS, rng.uniform(-100, 100)]),
        "g": of([rng.randrange(8) / 4], [1.5, 7.1, 100.0, rng.uniform(0, 3)]),
        "s": word(),
        "t": rng.choice(WORDS),
        "x": of([str(rng.randrange(100))], ["-5", "12", str(10**15)]),
        "d": date(),
        "u": f"{date()}T{rng.choice(TIMES)}",
        "o": of(OBJECTS, OTHER_OBJECTS),
        "b": rng.random() < 0.5,
        "c": rng.random() < 0.5,
        "li": some(integer),
        "lf": some(lambda: of([rng.uniform(0, 10)], FLOATS)) + ([] if plain else floats()),
        "ls": some(word),
        "lb": some(lambda: rng.random() < 0.5),
        "ll": some(lambda: some(integer)),
        "ld": some(date),
        "r": {"x": maybe(integer()), "y": maybe(word()), "z": maybe(some(integer))},
        "lr": some(lambda: {"key": maybe(word()), "value": maybe(integer())}),
    }
    return {name: maybe(value) for name, value in row.items()}


FRAME = frame(1)
ALL = tuple(range(ROWS))
NOTHING = pl.DataFrame({name: [None, None] for name in SCHEMA}, SCHEMA)

# --- what is said, and what comes out ---------------------------------------------------------------------------------


def parsed(example: verdicts.Example) -> list[pl.Expr]:
    return parse_sql(example) if isinstance(example, str) else [example]


def refusal(example: verdicts.Example, *, pure: bool = False) -> str | None:
    """Return the message with which an example is refused on its way into a calculation, None if it is not."""
    try:
        for expr in parsed(example):
            (result,) = name_results((), {"x": expr}).values()
            check_row_wise(result, SCHEMA, pure=pure)
    except CalculationError as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=256)
def twice_over(places: tuple[int, ...]) -> pl.DataFrame:
    """Return some of the rows, twice over.

    polars takes a column of one value for a constant, with which it computes in other ways: `x / 49` by multiplying
    with the reciprocal. The elements of all lists are a column, too, so that two rows would not be enough. A frame put
    together of two would remember that it is of one row twice, as would a column of two chunks.
    """
    rows = FRAME[list(places)]
    return pl.DataFrame([pl.concat([column, column], rechunk=True) for column in rows])


def compute(places: tuple[int, ...], expr: pl.Expr) -> pl.Series:
    """Evaluate on some of the rows, twice over."""
    try:
        return twice_over(places).with_columns(expr.alias("result"))["result"].head(len(places))
    except REFUSALS:
        if places:
            raise
        return NOTHING.with_columns(expr.alias("result"))["result"].clear()  # some functions fail for want of rows


def fails(places: tuple[int, ...], expr: pl.Expr) -> bool:
    try:
        compute(places, expr)
    except REFUSALS:
        return True
    return False


def same(one: pl.Series, other: pl.Series) -> bool:
    """Return whether two columns are the same, the signs of zeros included."""
    if one.dtype != other.dtype or not one.equals(other, null_equal=True):
        return False
    return "Float" not in str(one.dtype) or repr(one.to_list()) == repr(other.to_list())


def evaluated_apart(expr: pl.Expr, rng: random.Random) -> int:
    """Assert that an expression gives the same whole and in pieces; return for how many rows it gives anything."""
    rows = ALL
    if fails(rows, expr):  # as some values make polars fail; those lines would be rejected
        rows = tuple(place for place in rows if not fails((place,), expr))
    whole = compute(rows, expr)
    height = len(rows)
    for cuts in ([0, *range(height), height], rng.choices(range(height + 1), k=5), rng.choices(range(height + 1), k=1)):
        edges = sorted([0, *cuts, height])
        pieces = [compute(rows[start:stop], expr) for start, stop in itertools.pairwise(edges)]
        assert {piece.dtype for piece in pieces} == {whole.dtype}
        assert same(pl.concat(pieces), whole), f"{expr}\n{whole.to_list()}\n{pl.concat(pieces).to_list()}"
    order = rng.sample(range(height), height)
    assert same(compute(tuple(rows[place] for place in order), expr), whole.gather(order)), f"{expr} in another order"
    return height


REASONS = (
    "is an aggregate of a whole column",
    "makes several rows of one",
    r"drops values from a column \(a calculation's own \.filter\(…\) drops lines\)",
    "takes values from other rows",
    "counts the rows",
    "looks at other rows",
    "looks at other rows, or makes a column of its own",
    "takes a column as a whole",
    "takes a part of a column",
    "sorts a whole column",
    "is a query of its own",
    "gives more or fewer values than there are rows",
    r"rounds in another way where another row's list holds a null; .+",
    "adds more than 4 numbers in an order that depends on the number of threads; .+",
    "is of another type where there is nothing but nulls; take .+",
    "looks values up in whole columns; give them as literals",
    "derives the bins from the whole column; give the breakpoints",
    "gives its values in any order, so that the output would differ from run to run",
    "draws random numbers, so that the output would differ from run to run",
    "makes polars trust that the rows are sorted, and take short cuts that go wrong if they aren't",
    "makes categories, which are numbered in the order in which they come; leave the strings, or cast to an Enum",
    r"guesses the format from the values it sees; give it the format, as in .+",
    "holds a Series, whose length has nothing to do with the input's",
)
NOT_ROW_WISE = re.compile(
    rf"`.+` is not row-wise: ((it|`.+`) ({'|'.join(REASONS)})|it takes more than one pass over the rows \(polars plans "
    r"it as .+\))\. A line's result may depend on that line only(: .+ literals)?\."
    r"( Of several members .+ it is `.+`\.)?",
    re.DOTALL,
)
CLOCK = re.compile(r"the SQL `.+` reads the clock: .+ Give the time as a literal, such as .+")

ENTRIES = [(f"{table}: {name}", entry) for table, entries in TABLES.items() for name, entry in entries.items()]
PASSING = [expr for _, entry in ENTRIES for example in entry.passing for expr in parsed(example)]
UNSAFE_ONES = [
    example
    for _, entry in ENTRIES
    for example in entry.refused
    if isinstance(example, pl.Expr) and "is not row-wise" in str(refusal(example))
]

# --- the tables are whole ---------------------------------------------------------------------------------------------


def methods(owner: type) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_") and callable(getattr(owner, name))}


def functions(module: Any, gives: str) -> set[str]:
    """Return the functions of a module whose annotation says that they may return something."""
    found = set()
    for name in dir(module):
        function = getattr(module, name)
        if name.startswith("_") or inspect.isclass(function) or inspect.ismodule(function) or not callable(function):
            continue
        made = function.__call__ if isinstance(function, type(pl.col)) else function
        if re.search(rf"\b({gives})\b", str(getattr(made, "__annotations__", {}).get("return"))):
            found.add(name)
    return found


def known_to_sql(name: str) -> bool:
    for arguments in ("a", "a, b", "a, b, c"):
        try:
            pl.sql_expr(f'"{name}"({arguments})')
        except pl.exceptions.PolarsError as error:
            if "unsupported function" in str(error):
                continue
        return True
    return False


def test_every_namespace_has_a_table() -> None:
    assert {f"Expr.{accessor}" for accessor in pl.Expr._accessors} == {name for name in TABLES if name[:5] == "Expr."}


def test_every_operator_has_a_verdict() -> None:
    own = {name for name, value in vars(pl.Expr).items() if name.startswith("__") and inspect.isfunction(value)}
    assert own == set(TABLES["operators of Expr"])


@pytest.mark.parametrize("accessor", ["", *sorted(pl.Expr._accessors)])
def test_every_method_has_a_verdict(accessor: str) -> None:
    owner = type(getattr(pl.col("i"), accessor)) if accessor else pl.Expr
    own = methods(owner) | ({"__getitem__"} & set(vars(owner)))
    assert own == set(TABLES[f"Expr.{accessor}" if accessor else "Expr"])


@pytest.mark.parametrize(
    ("table", "module", "gives"),
    [
        ("pl", pl, "Expr|When"),
        ("pl.plugins", pl.plugins, "Expr"),
        ("pl.selectors", pl.selectors, "Selector|bool|tuple"),
    ],
    ids=["pl", "plugins", "selectors"],
)
def test_every_function_has_a_verdict(table: str, module: Any, gives: str) -> None:
    found = functions(module, gives)
    own = found if module is pl else {name for name in found if getattr(module, name).__module__ == module.__name__}
    assert own == set(TABLES[table])


def test_every_step_of_a_condition_has_a_verdict() -> None:
    steps = (whenthen.When, whenthen.Then, whenthen.ChainedWhen, whenthen.ChainedThen)
    own = {f"{step.__name__}.{name}" for step in steps for name in vars(step) if not name.startswith("_")}
    assert own == set(TABLES["pl.when"])


def test_every_sql_function_has_a_verdict() -> None:
    """polars does not say which functions it has; it is asked for those that DuckDB has."""
    rows = duckdb.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    names = {name for (name,) in rows if name.isidentifier()} | set(TABLES["SQL functions"])
    assert {name for name in names if known_to_sql(name)} == set(TABLES["SQL functions"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "random",
            "rand",
            "randn",
            "uuid",
            "gen_random_uuid",
            "newid",
            "setseed",
            "nextval",
            "clock",
            "clock_timestamp",
        ),
        *(
            "curdate",
            "curtime",
            "getdate",
            "getutcdate",
            "statement_timestamp",
            "sysdate",
            "sysdatetime",
            "systimestamp",
        ),
        *(
            "timeofday",
            "today",
            "transaction_timestamp",
            "unix_timestamp",
            "utc_date",
            "utc_time",
            "utc_timestamp",
            "age",
        ),
    ],
)
def test_sql_has_no_clock_and_no_random_numbers_by_another_name(name: str) -> None:
    assert not known_to_sql(name)
    with pytest.raises(pl.exceptions.PolarsError, match="unsupported function"):
        pl.sql_expr(f"{name}()")


def test_a_verdict_has_the_examples_it_needs() -> None:
    for name, entry in ENTRIES:
        needs = {
            SAFE: entry.passing,
            UNSAFE: entry.refused,
            REFUSED: entry.refused and entry.why,
            NOT_AN_EXPRESSION: entry.why,
        }
        assert needs[entry.verdict], name


# --- the verdicts hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_verdicts(table: str) -> None:
    for name, entry in TABLES[table].items():
        try:
            check_verdict(entry)
        except AssertionError as error:
            error.add_note(f"{table}: {name}")
            raise


def check_verdict(entry: verdicts.Entry) -> None:
    rng = random.Random(7)
    for example in entry.passing:
        assert refusal(example) is None
        for expr in parsed(example):
            assert evaluated_apart(expr, rng) >= PLAIN_ROWS
    for example in entry.refused:
        message = refusal(example)
        assert message is not None, f"{example} passes"
        assert entry.why in message
        if not entry.why:
            assert NOT_ROW_WISE.fullmatch(message), message
        if entry.why == verdicts.CLOCK:
            assert CLOCK.fullmatch(message), message


def _in_another_process() -> list[pl.Series]:
    """Evaluate what passes, on the rows in reverse."""
    rows = ALL[::-1]
    return [compute(rows, expr).reverse() for expr in PASSING if not fails(rows, expr)]


def test_another_process_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has more threads than the tests, its own seeds, and has seen values in another order."""
    monkeypatch.setenv("POLARS_MAX_THREADS", "4")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        others = pool.apply(_in_another_process)
    evaluated = [expr for expr in PASSING if not fails(ALL, expr)]
    assert len(evaluated) > len(PASSING) * 2 / 3
    for expr, other in zip(evaluated, others, strict=True):
        assert same(compute(ALL, expr), other), expr


# --- compositions -----------------------------------------------------------------------------------------------------

b, i, f, s, li, r = (pl.col(name) for name in ("b", "i", "f", "s", "li", "r"))
element = pl.element()
INSIDE: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "arithmetic, left": lambda x: x * 2,
    "arithmetic, right": lambda x: i + x,
    "comparison": lambda x: f > x,
    "condition": lambda x: pl.when(x == 1).then(f).otherwise(0),
    "then": lambda x: pl.when(b).then(x).otherwise(0),
    "otherwise": lambda x: pl.when(b).then(f).otherwise(x),
    "later then": lambda x: pl.when(b).then(f).when(~b).then(x).otherwise(1),
    "function": lambda x: x.abs(),
    "argument of a function": lambda x: f.clip(x, 5),
    "second argument": lambda x: f.clip(0, x),
    "filled null": f.fill_null,
    "coalesce": lambda x: pl.coalesce(f, x),
    "between": lambda x: f.is_between(0, x),
    "default of a lookup": lambda x: s.replace_strict({"a": 1}, default=x),
    "part of a text": lambda x: pl.format("{} {}", s, x),
    "concatenated text": lambda x: pl.concat_str(s, x.cast(pl.String)),
    "start of a slice": s.str.slice,
    "member of a struct": lambda x: pl.struct(f, w=x),
    "added to a struct": lambda x: r.struct.with_fields(w=x),
    "field of an evaluated struct": lambda x: r.struct.eval(pl.field("x") + x),
    "member of a list": lambda x: pl.concat_list(i, x),
    "evaluated list": lambda x: pl.concat_list(i, x).list.eval(element + 1),
    "index into a list": lambda x: li.list.get(x, null_on_oob=True),
    "searched in a list": li.list.contains,
    "added horizontally": lambda x: pl.sum_horizontal(i, x),
    "cast": lambda x: x.cast(pl.String),
    "alias": lambda x: x.alias("y"),
    "alias of a name": lambda x: (x + 1).name.suffix("_y"),
    "negation": lambda x: ~(x == 1),
    "deep inside": lambda x: functools.reduce(lambda inner, _: (inner + f).abs(), range(20), x),
}
"""Safe expressions around another one."""


@pytest.mark.parametrize("wrap", INSIDE.values(), ids=INSIDE)
def test_what_is_unsafe_is_refused_wherever_it_stands(wrap: Callable[[pl.Expr], pl.Expr]) -> None:
    assert refusal(wrap(i)) is None
    for expr in UNSAFE_ONES:
        assert refusal(wrap(expr)), wrap(expr)


@pytest.mark.parametrize("entry", [entry for _, entry in ENTRIES if entry.why == verdicts.PYTHON])
def test_python_is_refused_wherever_it_stands(entry: verdicts.Entry) -> None:
    for expr in entry.refused:
        assert isinstance(expr, pl.Expr)
        assert calls_python(expr)
        for wrap in INSIDE.values():
            assert verdicts.PYTHON in str(refusal(wrap(expr)))


def test_what_is_unsafe_is_refused_in_filters() -> None:
    for expr in (f > f.mean(), b.any(), pl.len() > 1, i.is_first_distinct(), i.is_in(i.unique().implode())):
        with pytest.raises(CalculationError, match="is not row-wise"):
            Evaluator({}, [expr], SCHEMA)


COMPOSITIONS = 30
GROWING = re.compile(r'"(\w+Ranges|LinearSpaces|PadEnd|PadStart|RepeatBy|ZFill)"')
"""Functions whose results are as large as their arguments say."""


def grafted(rng: random.Random, expr: pl.Expr, others: dict[str, list[Any]]) -> pl.Expr:
    """Return an expression with one of the columns it reads replaced by an expression of the column's type."""
    tree = json.loads(expr.meta.serialize(format="json"))
    places = [place for place in _columns(tree) if others[place["Column"]]]
    if places:
        place = rng.choice(places)
        graft = rng.choice(others[place["Column"]])
        place.clear()
        place.update(graft)
    return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")


def _columns(tree: Any) -> list[dict[str, Any]]:
    if isinstance(tree, list):
        return [place for part in tree for place in _columns(part)]
    if not isinstance(tree, dict):
        return []
    if set(tree) == {"Column"} and tree["Column"] in SCHEMA:
        return [tree]
    return [place for part in tree.values() for place in _columns(part)]


def _by_type(exprs: Iterable[pl.Expr]) -> dict[str, list[Any]]:
    """Return for each column the expressions of its type, serialised."""
    lazy = pl.LazyFrame(schema=SCHEMA)
    found: dict[str, list[Any]] = {name: [] for name in SCHEMA}
    for expr in exprs:
        dtype = lazy.select(expr.alias("x")).collect_schema()["x"]
        tree = json.loads(expr.meta.serialize(format="json"))
        for name, expected in SCHEMA.items():
            if dtype == expected and isinstance(tree, dict):
                found[name].append(tree)
    return found


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
def test_what_is_safe_is_safe_in_any_composition(seed: int) -> None:
    rng = random.Random(seed)
    exprs = [expr for expr in PASSING if not GROWING.search(str(expr.meta.serialize(format="json")))]
    others = _by_type(exprs)
    gave = 0
    for _ in range(COMPOSITIONS):
        expr = rng.choice(exprs)
        for _ in range(rng.choice([1, 1, 2, 3])):
            expr = grafted(rng, expr, others)
        message = refusal(expr)
        assert message is None or message.startswith("polars refuses"), message
        gave += message is None and evaluated_apart(expr, rng) > 0
    assert gave > COMPOSITIONS * 3 / 4


@pytest.mark.slow
def test_what_is_safe_is_safe_on_the_elements_of_lists() -> None:
    rng = random.Random(11)
    gave = 0
    for expr in PASSING:
        text = str(expr.meta.serialize(format="json"))
        names = set(expr.meta.root_names())
        if len(names) != 1 or isinstance(SCHEMA[next(iter(names))], pl.List) or GROWING.search(text):
            continue
        (name,) = names
        tree = text.replace(json.dumps({"Column": name}, separators=(",", ":")), '"Element"')
        lists = pl.concat_list(name, name).list.head(pl.col("n").abs())
        inside = lists.list.eval(pl.Expr.deserialize(io.StringIO(tree), format="json"))
        message = refusal(inside)
        assert message is None or message.startswith("polars refuses"), message
        gave += message is None and evaluated_apart(inside, rng) > 0
    assert gave > 400


# --- traps, and what has to go ----------------------------------------------------------------------------------------

day = pl.col("d").str.to_date("%Y-%m-%d")
TRAPS: list[verdicts.Example] = [
    f - f.mean(),
    f.clip(f.mean(), 5),
    pl.when(i > 1).then(2).otherwise(pl.len()),
    pl.when(i > i.shift()).then(1).otherwise(0),
    f.fill_null(strategy="forward"),
    f.fill_null(f.mean()),
    f.rank() / pl.len(),
    pl.struct(f, m=f.mean()).struct.field("m"),
    pl.concat_list(f, f.sum()).list.get(1),
    i.is_in(pl.col("n")),  # polars looks the value up in the whole column
    i.replace(pl.col("n"), 0),
    pl.when(b).then(i.is_in(pl.col("n"))).otherwise(statement=False) & s.replace({"a": "b"}).is_null(),
    f.over("t"),
    pl.int_range(pl.len()),
    pl.col("d").str.to_date(strict=False),
    pl.col("ld").list.eval(element.str.to_date(strict=False)),
    r.struct.with_fields(d=pl.field("y").str.to_date(strict=False)),
    pl.col("ld").list.eval(element.set_sorted() > "2"),
    s.cast(pl.Categorical).to_physical(),
    s.cast(pl.Categorical).cast(pl.UInt32),
    pl.lit("a", dtype=pl.Categorical),
    s.replace_strict({"a": "b"}, default=None, return_dtype=pl.Categorical),
    pl.col("o").str.json_decode(pl.Struct({"b": pl.Categorical})),
    s.is_in(pl.Series(["a", "b"], dtype=pl.Categorical)),
    pl.col("lr").list.eval(element.struct.with_fields(m=pl.field("value").max())),
    li.list.eval(element.sample(1, seed=1)),
    li.list.eval(element.mode()),
    li.list.eval(element.value_counts()),
    li.list.agg(element.shuffle().first()),
    f.shuffle(seed=1),
    "sum(f)",
    "f - avg(f)",
    "f > (select 1)",
    "exists (select 1)",
    "case when f > max(f) then 1 else 0 end",
    "coalesce(f, max(f))",
    "f between 0 and max(f)",
    "row_number() over (order by f)",
    "date(d)",
    "f, sum(f) as g",
]
EVERYDAY: list[verdicts.Example] = [
    "f * g",
    "f * g / (f + g)",
    "upper(s) || ' ' || lower(t)",
    "case when n > 1 then 'many' when n = 1 then 'one' else 'none' end",
    "s in ('a', 'b') and n not in (1, 2)",
    "n between 1 and 3 or f is null",
    "coalesce(s, t, 'none')",
    "cast(x as bigint) + 1",
    "year(date(d, '%Y-%m-%d'))",
    "date(d, '%Y-%m-%d') >= DATE '2024-01-01'",
    "substr(s, 1, 3)",
    "round(f, 2)",
    "r.x + 1",
    "li[1]",
    (f - 32) * 5 / 9,
    (f + f) / (f + f),
    pl.when(f > 1).then(pl.lit("high")).when(f > 0).then(pl.lit("low")).otherwise(None),
    day.dt.year() * 100 + day.dt.month(),
    (day - pl.date(2024, 1, 1)).dt.total_days(),
    pl.col("u").str.to_datetime("%Y-%m-%dT%H:%M:%S").dt.truncate("1h").dt.to_string("%H:%M"),
    s.is_in(["a", "b"]),
    i.is_in([1, 2, None], nulls_equal=True),
    s.replace({"a": "b"}),
    s.replace_strict({"a": 1, "b": 2}, default=None, return_dtype=pl.Int64),
    r.struct.with_fields(y=pl.field("y").replace({"a": "b"})),
    s.str.split(" ").list.first(),
    s.str.replace_all(r"\s+", " ").str.strip_chars(),
    s.str.extract(r"(\d+)").cast(pl.Int64),
    pl.format("{}-{}", s, i),
    pl.struct("s", total=f * 2),
    li.list.eval(element * 2).list.sum(),
    li.list.filter(element > 1).list.len(),
    pl.col("lf").list.agg(element.mean()),
    pl.concat_list("i", "n").list.max(),
    pl.sum_horizontal("f", "g"),
    pl.col("o").str.json_decode(pl.Struct({"a": pl.Float64})).struct.field("a"),
    pl.lit(1),
]


@pytest.mark.parametrize("example", TRAPS, ids=str)
def test_trap_is_refused(example: verdicts.Example) -> None:
    message = refusal(example)
    assert message is not None
    assert NOT_ROW_WISE.fullmatch(message), message


@pytest.mark.parametrize("example", EVERYDAY, ids=str)
def test_everyday_expression_passes(example: verdicts.Example) -> None:
    assert refusal(example) is None
    for expr in parsed(example):
        assert evaluated_apart(expr, random.Random(3)) >= PLAIN_ROWS


def test_message_names_the_part_at_fault() -> None:
    message = refusal(pl.when(f > 1).then(f * 2).otherwise(f.mean() + 1))
    assert '`col("f").mean()` is an aggregate of a whole column. A line\'s result may depend on that line only' in str(
        message
    )
    assert "it is an aggregate" in str(refusal(f.mean()))


def test_what_polars_refuses_is_refused_before_anything_is_read() -> None:
    for example in (
        "cast(d as date)",
        s.cast(pl.Boolean),
        s + i.cast(pl.Date),
        f.str.to_uppercase(),
        pl.col("li").str.len_bytes(),
    ):
        assert str(refusal(example)).startswith("polars refuses `")
    assert "must produce exactly one element" not in str(refusal(li.list.count_matches(1)))


# --- Python functions -------------------------------------------------------------------------------------------------

PYTHON = [
    example
    for _, entry in ENTRIES
    if entry.why == verdicts.PYTHON
    for example in entry.refused
    if isinstance(example, pl.Expr) and ".py:p" not in str(example)  # the plugin is none
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, where a float is not finite
@pytest.mark.parametrize("expr", PYTHON, ids=str)
def test_python_passes_if_declared_pure(expr: pl.Expr) -> None:
    assert "say so with .assume_pure()" in str(refusal(expr))
    assert refusal(expr, pure=True) is None
    assert evaluated_apart(expr, random.Random(3)) >= PLAIN_ROWS


@pytest.mark.parametrize("expr", PYTHON, ids=str)
def test_declaring_python_pure_makes_nothing_else_pass(expr: pl.Expr) -> None:
    for unsafe in (f.mean(), f.shift(), f.shuffle(), pl.len(), i.is_in(pl.col("n"))):
        assert refusal(pl.struct(x=expr, y=unsafe), pure=True)
    assert refusal(expr.over("t"), pure=True)


def test_python_that_is_given_an_aggregate_is_refused() -> None:
    assert refusal(i.sum().map_elements(lambda value: value, return_dtype=pl.Int128), pure=True)
    assert refusal(pl.fold(f.mean(), lambda acc, value: acc + value, [f]), pure=True)


def test_python_function_that_does_not_travel_is_told() -> None:
    lock = threading.Lock()
    expr = i.map_elements(lambda value: (lock, value)[1], return_dtype=pl.Int128)
    assert "cannot be checked: python: TypeError: cannot pickle '_thread.lock' object" in str(refusal(expr, pure=True))


def test_only_python_calls_python() -> None:
    assert not any(calls_python(expr) for expr in PASSING)
    assert not calls_python(pl.col("AnonymousFunction") + pl.lit("FoldHorizontal"))


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("now()", "NOW ()", "now/**/()", '"now"()', "`now`()", "now() - now", "now() = 'now'", "'x' || now()"),
        *("CURRENT_TIMESTAMP", "current_timestamp()", "LocalTime", "a, localtimestamp as t", "a + day(current_date)"),
        *(
            "coalesce(a, now())",
            "case when b < now() then 1 end",
            "CAST(now() AS DATE)",
            'current_date = "current_date"',
        ),
        *(
            "a > CURRENT_DATE - INTERVAL '1 day'",
            "date_trunc('day', now())",
            "-- it's\n now()",
            "/* ' */ now() /* ' */",
        ),
    ],
)
def test_sql_that_reads_the_clock_is_refused(text: str) -> None:
    with pytest.raises(CalculationError) as caught:
        Calculation.from_sql(text)
    assert CLOCK.fullmatch(str(caught.value)), caught.value
    with pytest.raises(CalculationError, match="reads the clock"):
        Calculation.from_sql("", where=f"({text.removeprefix('a, ').removesuffix(' as t')}) is null")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "now",
            "now + 1",
            '"now"',
            "`now`",
            '"current_date"',
            "`CURRENT_DATE`",
            '"a now()" + 1',
            "r.now",
            "nowhere + known",
        ),
        *("'now()'", "s = 'NOW()'", "s in ('now', 'later')", "s = 'it''s now()'", "s like '%now%'", "$$now()$$"),
        *("a AS now", "a AS current_date", "a -- now()", "a /* now() */ + 1", "lower('localtime')", '"it\'s" || now'),
        *("DATE '2024-02-29'", "TIMESTAMP '2024-02-29 12:00:00'", "date_part('day', DATE '2024-02-29')"),
    ],
)
def test_sql_that_only_looks_like_a_clock_passes(text: str) -> None:
    assert len(parse_sql(text)) == 1


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(lambda: pl.lit(datetime.now()), id="local"),
        pytest.param(lambda: pl.lit(datetime.now(UTC)), id="UTC"),
        pytest.param(lambda: pl.lit(datetime.now(UTC).isoformat()), id="text"),
        pytest.param(lambda: pl.lit(time.time()), id="seconds"),
        pytest.param(lambda: pl.lit(datetime.now()).dt.year() + 1, id="within"),
    ],
)
def test_literal_that_the_clock_gave_is_refused(moment: Callable[[], pl.Expr]) -> None:
    with pytest.raises(CalculationError, match="is the present time: the output would depend on when it ran"):
        Calculation(t=moment())
    with pytest.raises(CalculationError, match="is the present time"):
        Calculation().filter(moment() == pl.col("t"))


def test_literals_of_other_times_pass() -> None:
    now = datetime.now()
    for fixed in (
        now.replace(microsecond=0),
        now - timedelta(days=1),
        now + timedelta(days=1),
        now.date(),
        1.5e9 + 0.25,
    ):
        assert Calculation(t=pl.lit(fixed)).results == ("t",)


# --- size -------------------------------------------------------------------------------------------------------------


def test_long_expressions_pass() -> None:
    chain: Any = pl.when(i == 0).then(0)
    for place in range(1, 200):
        chain = chain.when(i == place).then(place * 2)
    assert refusal(chain.otherwise(None)) is None
    assert refusal(functools.reduce(lambda total, _: total + f, range(200), f)) is None


def test_too_deep_an_expression_is_told_in_a_line() -> None:
    message = refusal(functools.reduce(lambda inner, _: (inner + f).abs(), range(2000), f))
    assert message is not None
    assert "is nested too deeply to be checked; for long chains there are functions of many arguments" in message
    assert len(message) < 1000
    assert len(str(refusal(functools.reduce(lambda inner, _: (inner + f).abs(), range(100), f.mean())))) < 1000


# --- what the evaluator has to see to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "example",
    [
        f / 10,
        i / 3,
        f // 49,
        f % 49,
        "f / 10",
        "-f",
        pl.col("lf").list.eval(element / 49),
        s.str.replace_all("a", pl.col("t")),
    ],
    ids=str,
)
def test_evaluator_gives_the_same_for_rows_apart(example: verdicts.Example) -> None:
    (expr,) = parsed(example)
    evaluator = Evaluator({"x": expr}, (), SCHEMA)
    alone = [evaluator.evaluate(FRAME[place : place + 1]) for place in range(FRAME.height)]
    assert not any(piece.failed for piece in alone)
    assert pl.concat([as_texts(piece) for piece in alone]).equals(as_texts(evaluator.evaluate(FRAME)))


@pytest.mark.parametrize("expr", [li.list.set_union([1, 2]), li.list.set_symmetric_difference([1, 2])], ids=str)
def test_evaluator_takes_what_polars_cannot_do_on_no_rows(expr: pl.Expr) -> None:
    evaluator = Evaluator({"x": expr}, [i > 2**120], SCHEMA)
    assert not any(evaluator.evaluate(FRAME[place : place + 1]).failed for place in range(FRAME.height))


def test_evaluator_takes_a_panic_of_polars_for_the_failure_of_a_row() -> None:
    rows = pl.DataFrame({"s": ["a", "ß"], "ls": [["a"], [""]]}, {"s": pl.String, "ls": pl.List(pl.String)})
    evaluator = Evaluator({"x": s.str.extract_many("ls")}, (), rows.schema)
    assert set(evaluator.evaluate(rows).failed) == {1}


# --- literals that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_literal_that_is_not_finite_is_told_in_a_line(value: float) -> None:
    for expr in (
        pl.lit(value),
        pl.lit(value, dtype=pl.Float32),
        pl.lit({"a": value}),
        f.fill_null(value),
        pl.when(f < value).then(1),
    ):
        message = refusal(expr)
        assert message is not None
        assert "holds NaN or an infinity as a literal" in message
    assert refusal(pl.lit('"Float": null')) is None
    assert refusal(pl.lit(None, dtype=pl.Float64)) is None
