"""SQL as people write it, for us and for DuckDB: a grammar, and what both make of an expression."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import polars as pl
from hypothesis import event
from hypothesis import strategies as st

from tests.support import duck
from tests.support.apart import Apart, DiedError
from tests.support.duck import FAILED, Row
from transform import Calculation, TransformError
from transform.expressions.parse import parse_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

CRASHED = "crashes"
MEMORY = 4_000_000_000
"""The maximum number of bytes that either process allocates. What takes more fails here and not by chance elsewhere."""


@dataclass(frozen=True)
class Pair:
    """An expression as we take it, and as DuckDB does: a decimal literal is a DECIMAL there, DATE has one argument."""

    ours: str
    duck: str

    def __str__(self) -> str:
        return self.ours if self.ours == self.duck else f"{self.ours}  (DuckDB: {self.duck})"


def same(text: str) -> Pair:
    return Pair(text, text)


def made(template: str, *parts: Pair, duck: str = "") -> Pair:
    """Return the expression of a template with `{}` for each part."""
    return Pair(
        template.format(*(part.ours for part in parts)), (duck or template).format(*(part.duck for part in parts))
    )


# --- the rows ---------------------------------------------------------------------------------------------------------

COLUMNS = {
    "i": (pl.Int128(), "HUGEINT"),
    "n": (pl.Int128(), "BIGINT"),
    "f": (pl.Float64(), "DOUBLE"),
    "g": (pl.Float64(), "DOUBLE"),
    "s": (pl.String(), "VARCHAR"),
    "t": (pl.String(), "VARCHAR"),
    "b": (pl.Boolean(), "BOOLEAN"),
    "c": (pl.Boolean(), "BOOLEAN"),
    "d": (pl.String(), "VARCHAR"),
    "o": (pl.Struct({"x": pl.Int128(), "y": pl.String()}), "STRUCT(x HUGEINT, y VARCHAR)"),
    "l": (pl.List(pl.Int128()), "HUGEINT[]"),
    "k": (pl.List(pl.String()), "VARCHAR[]"),
    # names that look like what polars makes of an expression
    "Nullen": (pl.Int128(), "BIGINT"),
    "bit_rate": (pl.Int128(), "BIGINT"),
    "decimal": (pl.Int128(), "BIGINT"),
    "LenChars": (pl.Int128(), "BIGINT"),
}
INTEGERS = [0, 1, -1, 2, 7, -7, 10, 100, 2**31, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
FLOATS = [0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.1, 0.3, 2.675, 1e16, 1e-7, 123456.789, -1.0, 3.0, 1e100]
TEXTS = [
    "",
    "a",
    "A",
    "abc",
    "Café",
    "ünder",
    "日本語",
    "🎉 x",
    "it's",
    '"q"',
    "100%",
    "a_b",
    "  pad ",
    "12",
    "-5",
    "a.b",
]
TEXTS += ["a,b,c", "A B", "\\d", "line\ntwo"]


def _nullable(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(values), st.sampled_from(values), st.sampled_from(values), st.none())


DATES = ["2024-02-29", "1999-12-31", "2024-12-30", "0999-01-01", "2100-06-15"]
rows = st.fixed_dictionaries(
    {
        "i": _nullable(INTEGERS),
        "n": _nullable([*range(-3, 10)]),
        "f": st.one_of(_nullable(FLOATS), st.floats(-1e6, 1e6)),
        "g": _nullable([0.0, 1.0, 2.5, -3.5, 0.25]),
        "s": _nullable(TEXTS),
        "t": _nullable(TEXTS),
        "b": _nullable([True, False]),
        "c": _nullable([True, False]),
        "d": _nullable(DATES),
        "l": st.one_of(st.none(), st.lists(_nullable([*range(-3, 8)]), max_size=4)),
        "k": st.one_of(st.none(), st.lists(_nullable(TEXTS[:6]), max_size=4)),
        **{name: _nullable([*range(-2, 7)]) for name in ("Nullen", "bit_rate", "decimal", "LenChars")},
        "o": st.one_of(st.none(), st.fixed_dictionaries({"x": _nullable(INTEGERS), "y": _nullable(TEXTS)})),
    }
)

# --- the grammar ------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _each(*templates: str) -> st.SearchStrategy[str]:
    return st.sampled_from(templates)


def _calls(templates: Sequence[str], *parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.builds(made, st.sampled_from(templates), *parts)


def _spelt(template: str, duck: str, *parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.builds(lambda *found: made(template, *found, duck=duck), *parts)


literal_texts = st.sampled_from([*TEXTS[:-2], "%", "a%"]).map(lambda text: same(quoted(text)))
literal_integers = st.sampled_from([0, 1, 2, 3, 7, 10, -1, -4, 100]).map(lambda value: same(str(value)))
patterns = st.sampled_from(["a%", "%b", "%a_b%", "_", "%", "caf_", "%ü%", "100\\%", "", "a.b", "%.%", "%''%", "A%"])


@dataclass(frozen=True)
class Grammar:
    """Expressions by their type, made of one another; `arithmetic` has what is exact only with doubles and rounding."""

    numbers: st.SearchStrategy[Pair]
    texts: st.SearchStrategy[Pair]
    truths: st.SearchStrategy[Pair]
    times: st.SearchStrategy[Pair]

    @property
    def all(self) -> st.SearchStrategy[Pair]:
        return st.one_of(self.numbers, self.texts, self.truths, self.times)


def grammar(*, arithmetic: bool, depth: int = 3) -> Grammar:
    """Return the expressions that people write.

    Args:
        arithmetic: Whether there are divisions, remainders, ROUND and decimal literals among them.
        depth: How deep they are at most.
    """
    decimals = st.sampled_from(["0.1", "2.5", "1.0", "100.0", "0.005"]).map(lambda text: Pair(text, f"{text}e0"))
    integers = st.one_of(_each("i", "n", "o.x").map(same), literal_integers)
    floats = _each("f", "g").map(same) if not arithmetic else st.one_of(_each("f", "g").map(same), decimals)
    numbers = st.one_of(integers, floats)
    texts = st.one_of(_each("s", "t", "o.y").map(same), literal_texts)
    truths = _each("b", "c", "TRUE", "FALSE").map(same)
    day = Pair("DATE(d, '%Y-%m-%d')", "CAST(d AS DATE)")
    times = st.one_of(
        st.just(day),
        st.just(same("STRPTIME(d, '%Y-%m-%d')")),
        _each("DATE '2024-02-29'", "TIMESTAMP '2024-02-29 13:05:09'").map(same),
    )
    found = Grammar(numbers, texts, truths, times)
    for _ in range(depth):
        found = _deeper(found, integers, floats, arithmetic=arithmetic)
    return found


def _deeper(
    of: Grammar, integers: st.SearchStrategy[Pair], floats: st.SearchStrategy[Pair], *, arithmetic: bool
) -> Grammar:
    small = st.sampled_from([1, 2, 3, 5]).map(lambda value: same(str(value)))
    counts = _counts(of)
    numbers = [
        counts.map(lambda count: made("({})", count)),
        _calls(["({} & {})", "({} | ({} & 3))"], small_integers, small_integers),
        _spelt("BIT_XOR({}, {})", "xor({}, {})", small_integers, small_integers),
        _spelt(
            "BIT_AND({0}, {1}) + (({1} & {0}) | 1)", "({0} & {1}) + (({1} & {0}) | 1)", small_integers, small_integers
        ),
        st.sampled_from([same("ARRAY_LENGTH(l)"), Pair("ARRAY_SUM(l)", "LIST_SUM(l)")]),
        _calls(["ARRAY_LENGTH(STRING_TO_ARRAY({}, {}))"], of.texts, _each("t", "'a'", "' '", "''").map(same)),
        _calls(["{} + {}", "{} - {}", "({} * {})", "({} - {})"], integers, integers),
        _calls(["{} + {} * {}", "{} - {} - {}", "{} * ({} + {})"], of.numbers, integers, floats),
        _calls(["ABS({})", "-({})", "SIGN({})", "+({})"], integers),
        _calls(["CEIL({})", "FLOOR({})", "CEILING({})", "SQRT(ABS({}))", "TRUNC({})", "LN(ABS({}) + 1)"], floats),
        _calls(["POWER({}, 2)", "CBRT({})", "LOG10(ABS({}) + 1)", "LOG2(ABS({}) + 1)"], floats),
        _calls(["LENGTH({})", "CHAR_LENGTH({})", "BIT_LENGTH({})"], of.texts),
        _calls(["STRPOS({}, {})", "POSITION({} IN {})"], of.texts, of.texts),
        _calls(
            ["COALESCE({}, {})", "NULLIF({}, {})", "GREATEST({}, {})", "LEAST({}, {})", "IFNULL({}, {})"],
            integers,
            integers,
        ),
        _calls(["COALESCE({}, {}, 0)", "GREATEST({}, {})", "LEAST({}, {}, 3)"], of.numbers, of.numbers),
        _calls(["CASE WHEN {} THEN {} ELSE {} END", "IF({}, {}, {})"], of.truths, of.numbers, of.numbers),
        _calls(["CASE WHEN {} THEN {} END"], of.truths, of.numbers),
        _calls(["CASE {} WHEN 1 THEN {} WHEN {} THEN 2 ELSE 3 END"], integers, of.numbers, literal_integers),
        _calls(["CAST({} AS DOUBLE)", "CAST({} AS HUGEINT)", "({})::double"], integers),
        _calls(["CAST({} AS INTEGER)"], of.truths),
        _calls(["TRY_CAST({} AS BIGINT)", "TRY_CAST({} AS DOUBLE)"], _each("s", "'12'", "'x'", "'-3'").map(same)),
        _calls(["YEAR({})", "MONTH({})", "DAY({})", "DATE_PART('dow', {})", "EXTRACT(doy FROM {})"], of.times),
        _calls(["QUARTER({})", "WEEK({})", "EXTRACT(isodow FROM {})", "DAYOFWEEK({})"], of.times),
    ]
    if arithmetic:
        numbers += [
            _calls(["{} / {}", "({} / {})"], of.numbers, small),
            _calls(["{} / NULLIF({}, 0)"], integers, integers),
            _calls(["{} / 10", "{} / 1000", "{} / 3"], integers),
            _calls(["{} % {}", "MOD({}, {})", "{} // {}"], integers, small),
            _calls(["{} % {}"], floats, small),
            _calls(["ROUND({})", "ROUND({}, 1)", "ROUND({}, 2)", "ROUND({} * 100) / 100"], _each("f", "g").map(same)),
            _calls(["{} * {}", "{} + {}"], floats, floats),
        ]
    texts = [
        _calls(["LEFT({}, {})", "RIGHT({}, {})"], of.texts, counts),
        _calls(["LPAD({}, {}, '0')", "RPAD({}, {}, '*')"], _each("s", "t", "o.y").map(same), counts),
        _calls(["SUBSTR({}, GREATEST(1, {}))", "SPLIT_PART({}, ' ', {})"], of.texts, counts),
        _calls(["SUBSTR({}, GREATEST(1, {}), GREATEST(0, {}))"], of.texts, counts, counts),
        _calls(["SUBSTRING({} FROM GREATEST(1, {}) FOR ABS({}))"], of.texts, counts, counts),
        _calls(["REPLACE({}, 'a', {})", "REPLACE({}, ' ', {})", "SPLIT_PART({}, {}, 1)"], of.texts, of.texts),
        _calls(["ARRAY_TO_STRING(STRING_TO_ARRAY({}, {}), '+')"], of.texts, of.texts),
        _each("ARRAY_TO_STRING(k, '-')", "ARRAY_TO_STRING(l, ', ')").map(same),
        _calls(
            ["LEFT({}, n)", "RIGHT({}, n)", "SUBSTR({}, ABS(n))", "SUBSTR({}, ABS(n), 2)", "SUBSTR({}, 2, ABS(n))"],
            of.texts,
        ),
        _calls(["LOWER({})", "UPPER({})", "TRIM({})", "LTRIM({})", "RTRIM({})", "REVERSE({})"], of.texts),
        _calls(
            ["{} || {}", "CONCAT({}, {})", "CONCAT_WS('-', {}, {})", "COALESCE({}, {})", "NULLIF({}, {})"],
            of.texts,
            of.texts,
        ),
        _calls(["SUBSTR({}, {})", "LEFT({}, {})", "RIGHT({}, {})", "SPLIT_PART({}, ' ', {})"], of.texts, small),
        _calls(
            [
                "SUBSTR({}, 1, {})",
                "SUBSTR({}, 2, {})",
                "SUBSTRING({} FROM 2 FOR {})",
                "LPAD({}, {}, '0')",
                "RPAD({}, {}, '*')",
            ],
            of.texts,
            small,
        ),
        _calls(
            ["REPLACE({}, 'a', 'b')", "REPLACE({}, '.', '-')", "REPLACE({}, '%', '$1')", "TRIM(BOTH 'a' FROM {})"],
            of.texts,
        ),
        _calls(["CASE WHEN {} THEN {} ELSE {} END"], of.truths, of.texts, of.texts),
        _calls(["CASE {} WHEN 'a' THEN 'is a' WHEN {} THEN {} END"], of.texts, of.texts, of.texts),
        _calls(["CAST({} AS VARCHAR)", "'n' || {}", "CONCAT({}, 'x')"], integers),
        # Not of a constant, as DuckDB then converts what it is compared with to a boolean, and fails.
        _calls(["CAST({} AS VARCHAR)"], _each("b", "c").map(same)),
        _calls(["GREATEST({}, {})", "LEAST({}, {})"], of.texts, of.texts),
        _calls(["STRFTIME({}, '%d.%m.%y')", "STRFTIME({}, '%Y-%j %A %b')", "STRFTIME({}, '%u %V')"], of.times),
    ]
    compare = ["{} = {}", "{} <> {}", "{} < {}", "{} <= {}", "{} > {}", "{} >= {}", "{} != {}", "{} == {}"]
    truths = [
        _calls(
            ["({} AND {})", "({} OR {})", "(({} & 1) = 0 AND {})", "({} OR {} & 1)"], taken_for_truth, taken_for_truth
        ),
        _spelt("({} AND BIT_OR({}, 2) OR {})", "({} AND ({} | 2) OR {})", taken_for_truth, small_integers, of.truths),
        _calls(["ARRAY_CONTAINS(l, {})", "(({}) IN (l[1], 3))"], small_integers),
        _calls(["ARRAY_CONTAINS(k, {})"], of.texts),
        _calls(compare, integers, integers),
        _calls(compare, integers, of.numbers.map(lambda part: made("({})", part))),
        _calls(compare, of.texts, of.texts),
        _calls(compare, of.times, of.times),
        _calls(
            ["{} AND {}", "{} OR {}", "NOT {} OR {}", "({}) AND NOT ({})", "({} OR {})", "COALESCE({}, {})"],
            of.truths,
            of.truths,
        ),
        _calls(
            ["{} AND {} OR {}", "{} OR {} AND {}", "CASE WHEN {} THEN {} ELSE {} END"], of.truths, of.truths, of.truths
        ),
        _calls(["({}) IS NULL", "({}) IS NOT NULL"], of.all),
        _calls(
            ["({}) IS TRUE", "({}) IS NOT TRUE", "({}) IS FALSE AND TRUE", "({}) IS NOT FALSE", "({}) IS UNKNOWN"],
            of.truths,
        ),
        _calls(["(({}) IS DISTINCT FROM {})", "(({}) IS NOT DISTINCT FROM {})"], integers, integers),
        _calls(
            ["{} IN (1, 2, {})", "{} NOT IN (0, {}, 7)", "{} IN (1, NULL)", "{} NOT IN (1, NULL, 2)"],
            _each("i", "n", "o.x").map(same),
            literal_integers,
        ),
        _calls(["{} IN ('a', 'abc', {})", "{} NOT IN ('', {})"], of.texts, literal_texts),
        _calls(["{} IN ({}, 7)"], integers, integers),
        _calls(["{} BETWEEN {} AND {}", "{} NOT BETWEEN {} AND {}"], integers, integers, integers),
        _calls(["{} BETWEEN {} AND 'b'"], of.texts, of.texts),
        _calls(["STARTS_WITH({}, {})", "ENDS_WITH({}, {})", "({}) ^@ ({})"], of.texts, of.texts),
        st.builds(
            lambda part, word, pattern: made(f"({{}}) {word} '{pattern.replace(chr(123), '')}'", part),
            of.texts,
            _each("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"),
            patterns,
        ),
        _calls(["({}) ~ '^a.*'", "({}) !~ '[a-c]'"], of.texts),
    ]
    times = [
        _calls(["CASE WHEN {} THEN {} END"], of.truths, st.just(same("STRPTIME(d, '%Y-%m-%d')"))),
        st.just(same("STRPTIME(d, '%Y-%m-%d') + INTERVAL '1 day'")),
        st.just(same("STRPTIME(d, '%Y-%m-%d') - INTERVAL '2 hours'")),
        st.just(same("STRPTIME(d || ' 13:05', '%Y-%m-%d %H:%M')")),
        _calls(["CAST({} AS DATE)"], st.just(same("STRPTIME(d, '%Y-%m-%d')"))),
    ]
    return Grammar(
        _or_deeper(of.numbers, numbers),
        _or_deeper(of.texts, texts),
        _or_deeper(of.truths, truths),
        _or_deeper(of.times, times),
    )


small_columns = st.sampled_from(["n", "Nullen", "bit_rate", "decimal", "LenChars"]).map(same)
small_integers = st.one_of(small_columns, literal_integers)
taken_for_truth = st.one_of(small_columns, st.sampled_from(["0", "1"]).map(same))


def _counts(of: Grammar) -> st.SearchStrategy[Pair]:
    """Return expressions of what DuckDB takes for a number of characters."""
    found = st.one_of(
        small_integers,
        _calls(["LENGTH({}) - 2", "1 + LENGTH({})", "LENGTH({})"], of.texts),
        _calls(["STRPOS({}, {}) - 1", "STRPOS({}, {}) + LENGTH(t)"], of.texts, of.texts),
        _calls(["CASE WHEN {} THEN {} ELSE LENGTH(s) END", "IF({}, {}, 2)"], of.truths, small_integers),
        _calls(["NULLIF({}, 3)", "COALESCE({}, 1)", "{} & 3", "ABS({}) % 4"], small_integers),
    )
    return found.map(lambda count: Pair(count.ours, f"CAST({count.duck} AS INTEGER)"))


def _or_deeper(shallow: st.SearchStrategy[Pair], deeper: Sequence[st.SearchStrategy[Pair]]) -> st.SearchStrategy[Pair]:
    """Return one or the other, as likely; hypothesis would join the alternatives of both in one list otherwise."""
    return st.booleans().flatmap(lambda deep: st.one_of(*deeper) if deep else shallow)


# --- what both make of it ---------------------------------------------------------------------------------------------


def ours(texts: Sequence[str], given: Sequence[Row], schema: dict[str, pl.DataType] | None = None) -> list[list[Any]]:
    """Return the value of each expression for each row, `FAILED` where its line is rejected."""
    types = {name: dtype for name, (dtype, _) in COLUMNS.items()} if schema is None else schema
    together = _run(texts, given, types)
    return [
        [
            together[place][column] if place in together else _run([text], [row], types).get(0, [FAILED])[0]
            for place, row in enumerate(given)
        ]
        for column, text in enumerate(texts)
    ]


def _run(texts: Sequence[str], given: Sequence[Row], types: dict[str, pl.DataType]) -> dict[int, list[Any]]:
    """Return the values for the rows whose lines are not rejected, by the places of the rows."""
    calculation = Calculation.from_sql([f"{text} AS r{number}" for number, text in enumerate(texts)])
    declared = {name: dtype for name, dtype in types.items() if name in calculation.columns}
    lines = "".join(json.dumps({**row, "place": place}) + "\n" for place, row in enumerate(given))
    output = io.BytesIO()
    try:
        calculation.with_schema(declared).run(io.BytesIO(lines.encode()), output, workers=1)
    except TransformError as error:
        if "every line was rejected" not in str(error):
            raise
        return {}
    read = [json.loads(line) for line in output.getvalue().splitlines()]
    return {row["place"]: [row[f"r{number}"] for number in range(len(texts))] for row in read}


_LONGEST_EXPRESSION = 30_000


def too_long(pair: Pair) -> bool:
    """Return whether polars' form of an expression is so long that it takes seconds and gigabytes.

    It repeats arguments, so that nested functions of few characters make many. Beyond 65,535 characters polars refuses
    it, as it cannot show its plan.
    """
    found = any(len(str(expr)) > _LONGEST_EXPRESSION for expr in parse_sql(f"{pair.ours} AS r"))
    if found:
        event(f"too long: {pair}")
    return found


_ours_apart = Apart(ours, MEMORY)
_duck_apart = Apart(duck.evaluate, MEMORY)


def ours_apart(texts: Sequence[str], given: Sequence[Row]) -> list[list[Any]]:
    """Return what `ours` does, from another process; the test fails if an expression ends that process."""
    try:
        return cast("list[list[Any]]", _ours_apart(texts, given))
    except DiedError as error:
        for text in texts:
            try:
                _ours_apart([text], given)
            except DiedError as again:
                raise AssertionError(f"{text}: {again}, for {given}") from None
        raise AssertionError(f"{error}, for {given}, but not for each alone of:\n" + "\n".join(texts)) from None


def theirs(texts: Sequence[str], given: Sequence[Row], columns: dict[str, str] | None = None) -> list[list[Any]]:
    """Return the value of each expression for each row as DuckDB has it, in another process.

    It is `FAILED` where DuckDB has none, and `CRASHED` for an expression that ends its process.
    """
    types = {name: dtype for name, (_, dtype) in COLUMNS.items()} if columns is None else columns
    try:
        return cast("list[list[Any]]", _duck_apart(texts, given, types))
    except DiedError:
        _duck_apart(["1"], given, types)  # which would die if the reason was not an expression
    found = []
    for text in texts:
        try:
            found += _duck_apart([text], given, types)
        except DiedError as error:
            event(f"DuckDB crashes: {text}: {error}")
            found.append([CRASHED] * len(given))
    return found


_EXACT_INTEGERS = 2**53
_HUGEINT_TOLERANCE = 2**-51


def alike(mine: Any, theirs: Any, rel_tol: float = 0) -> bool:
    """Return whether a value of our JSON is the one that DuckDB gives: numbers by value, times as ISO 8601 has them.

    NaN and infinities are null in JSON.

    Args:
        mine: A value of JSON.
        theirs: A value of DuckDB.
        rel_tol: The relative difference of floats that are alike.
    """
    match theirs:
        case bool() | None | str():
            return type(mine) is type(theirs) and mine == theirs
        case float() if not math.isfinite(theirs):
            return mine is None
        case float():
            # DuckDB does not convert HUGEINT to the nearest double, as a row of the table of differences shows.
            rel_tol = max(rel_tol, _HUGEINT_TOLERANCE if abs(theirs) >= _EXACT_INTEGERS else 0)
            return _is_number(mine) and math.isclose(mine, theirs, rel_tol=rel_tol)
        case int():
            return bool(_is_number(mine) and mine == theirs)
        case decimal.Decimal():
            return bool(_is_number(mine) and mine == (float(theirs) if isinstance(mine, float) else theirs))
        case dt.datetime():
            return bool(mine == theirs.isoformat(timespec="microseconds"))
        case dt.date() | dt.time():
            return bool(mine == theirs.isoformat())
        case list() | tuple():
            return (
                isinstance(mine, list)
                and len(mine) == len(theirs)
                and all(alike(*pair, rel_tol) for pair in zip(mine, theirs, strict=True))
            )
    return False


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


_ROUNDED_DIFFERENTLY = re.compile(r"\b(LN|LOG10|LOG2|CBRT)\(")


def tolerance(pair: Pair) -> float:
    """Return how far apart floats may be: logarithms and roots differ in the last digits from library to library."""
    return 1e-14 if _ROUNDED_DIFFERENTLY.search(pair.ours) else 0
