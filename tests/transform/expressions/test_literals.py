"""Literals that cannot mean what they say are refused before any row is read: null, formats, patterns; and hashes."""

from __future__ import annotations

import datetime as dt
import io
import json
import string
import warnings
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform import Calculation, CalculationError
from transform.expressions.literals import format_objection, pattern_objection
from transform.expressions.reads import columns_read
from transform.expressions.row_wise import check_row_wise

SCHEMA: dict[str, pl.DataType] = {
    "a": pl.Int128(),
    "s": pl.String(),
    "l": pl.List(pl.Int128()),
    "o": pl.Struct({"x": pl.Int128(), "y": pl.Int128()}),
}
a, s, ll, o = (pl.col(name) for name in SCHEMA)
element = pl.element()


def refusal(expr: pl.Expr) -> str:
    with pytest.raises(CalculationError) as caught:
        check_row_wise(expr, SCHEMA)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def results(calculation: Calculation, *lines: dict[str, Any]) -> list[Any]:
    output = io.BytesIO()
    calculation.select("r").run(io.BytesIO(b"\n".join(json.dumps(line).encode() for line in lines)), output)
    return [json.loads(line)["r"] for line in output.getvalue().splitlines()]


# --- null -------------------------------------------------------------------------------------------------------------


def comparisons() -> list[pl.Expr]:
    none: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # polars warns, too
        return [
            a == none,
            a != none,
            a > None,
            pl.lit(None) < a,
            a.eq(pl.lit(None, pl.Int64)),
            a.is_between(1, 2) & (a == none),
        ]


@pytest.mark.parametrize("expr", comparisons(), ids=str)
def test_a_comparison_with_null_is_refused(expr: pl.Expr) -> None:
    for inside in (expr, expr.not_(), pl.when(expr).then(1), ll.list.eval(element.is_in([1]) | expr)):
        assert ".is_null() or .is_not_null() in Python" in refusal(inside)


@pytest.mark.parametrize("values", [[None], [1, None], [None, None, 2]])
def test_null_in_a_list_is_refused(values: list[int | None]) -> None:
    assert "nulls_equal=True" in refusal(a.is_in(values))
    check_row_wise(a.is_in(values, nulls_equal=True), SCHEMA)


@pytest.mark.parametrize(
    "expr", [a.eq_missing(None), a.ne_missing(None), a.is_in([1]), a.fill_null(0), a + None], ids=str
)
def test_null_that_is_meant_passes(expr: pl.Expr) -> None:
    check_row_wise(expr, SCHEMA)


# --- hashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expr", [a.hash(), s.hash(seed=3), o.hash(), ll.hash(), pl.struct(a, s).hash(), a.hash() % 8], ids=str
)
def test_a_hash_is_refused(expr: pl.Expr) -> None:
    assert "take sha256(…) or hmac_sha256(…) of transform, or hashlib in a Python function" in refusal(expr)
    assert "hashlib" in refusal(pl.when(a > 1).then(expr))


# --- patterns ---------------------------------------------------------------------------------------------------------

PATTERNS = {
    "(?=x)": "look-ahead",
    "(?!x)": "look-ahead",
    "(?<=x)y": "look-behind",
    "(?<!x)y": "look-behind",
    r"(x)\1": "references back",
    "(?P<n>x)(?P=n)": "references to names",
    "(?>x)": "atomic groups",
    "(x": "`(` is not closed",
    "x)": "`)` closes nothing",
    "[x": "`[` is not closed",
    "*x": "has nothing before it to repeat",
    r"x\Z": "the end of a text is `$`",
    "x{1000000}": "too large",
    "x{2,1}": "invalid repetition count range",
}
WITH_PATTERN = {
    "contains": s.str.contains,
    "count_matches": s.str.count_matches,
    "extract": s.str.extract,
    "extract_all": s.str.extract_all,
    "find": s.str.find,
    "replace": lambda pattern: s.str.replace(pattern, "y"),
    "replace_all": lambda pattern: s.str.replace_all(pattern, "y"),
    "split": lambda pattern: s.str.split(pattern, literal=False),
}


@pytest.mark.parametrize("make", WITH_PATTERN.values(), ids=WITH_PATTERN)
@pytest.mark.parametrize(("pattern", "said"), PATTERNS.items())
def test_a_pattern_that_is_not_valid_is_refused(make: Any, pattern: str, said: str) -> None:
    message = refusal(make(pattern))
    assert said in message
    assert f"has the pattern `{pattern}`" in message


def test_patterns_that_are_texts_or_columns_are_left() -> None:
    for expr in (
        s.str.contains("(", literal=True),
        s.str.replace_all("[", "", literal=True),
        s.str.count_matches("(", literal=True),
        s.str.find("*", literal=True),
        s.str.split("("),
        s.str.contains(s),
        s.str.starts_with("("),
    ):
        check_row_wise(expr, SCHEMA)


@given(st.text(alphabet="ab()[]{}*+?|\\.^$?<=!:1,P>", max_size=8))
def test_a_pattern_is_refused_if_polars_fails_on_it(pattern: str) -> None:
    try:
        pl.DataFrame({"s": ["ab", "b"]}).select(pl.col("s").str.contains(pattern))
    except pl.exceptions.ComputeError:
        assert pattern_objection(pattern)
    else:
        assert pattern_objection(pattern) is None


# --- formats ----------------------------------------------------------------------------------------------------------

READ = {
    "%Y %S,%f": "a number of nanoseconds",
    "%-f": "a number of nanoseconds",
    "%Y-%m-%d %Z": "is skipped",
    "%Y-%m-%i": "minutes are `%M`",
    "%Y-%m-%dT%H:%M:%S.%L": "milliseconds are `%3f`",
    "%Y-%m-%E": "no alternative forms",
    "%Y-%m-%d %": "there is no directive `%`",
    "%Y-%m-%4f": "there is no directive",
    "yyyy-MM-dd": "has no directive",
    "100%%": "has no directive",
    "%Y-%m-%d %H": "both hour and minute",
    "%H:%M": "does not say the year",
    "%Y-%m-%d %I:%M": "12-hour",
}


@pytest.mark.filterwarnings("ignore:Detected the pattern")  # polars warns of some, too
@pytest.mark.parametrize(("form", "said"), READ.items())
def test_a_format_that_cannot_be_read_is_refused(form: str, said: str) -> None:
    for expr in (s.str.to_datetime(form), s.str.strptime(pl.Datetime("ms"), form, strict=False)):
        assert said in refusal(expr)
        assert said in refusal(pl.concat_list(s).list.eval(element.str.to_datetime(form)))


@pytest.mark.parametrize("form", ["%f", "%H:%M:%S.%f", "%Q", "%", "text", "%#z"])
def test_a_format_that_cannot_be_written_is_refused(form: str) -> None:
    for expr in (pl.lit(dt.datetime(2024, 1, 2)).dt.to_string(form), s.str.to_datetime("%Y-%m-%d").dt.strftime(form)):
        assert "has the format" in refusal(expr)


def test_a_format_has_to_fit_its_type() -> None:
    day, clock = s.str.to_date("%Y-%m-%d"), s.str.to_time("%H:%M")
    assert "a Date has no hours" in refusal(day.dt.to_string("%Y-%m-%d %H:%M"))
    assert "a Time has no days" in refusal(clock.dt.to_string("%d"))
    assert "does not say all that a Time needs" in refusal(s.str.to_time("%H"))
    assert "as Date" in refusal(s.str.to_date("%H"))
    for expr in (
        day.dt.to_string("%d.%m.%Y"),
        clock.dt.to_string("%H:%M"),
        day.dt.to_string("iso"),
        day.dt.to_string(),
    ):
        check_row_wise(expr, SCHEMA)


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%y", "%Y-%j", "%G-W%V-%u", "%A %d %B %Y", "%D", "%c", "%s", "%+"])
@pytest.mark.parametrize("more", ["", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", "T%T.%3f", " %R %:z", " %T%z"])
def test_a_format_that_can_be_read_passes(form: str, more: str) -> None:
    whole = form if form in ("%c", "%s", "%+") else form + more
    assert format_objection(whole, {"Literal": {"Datetime": ["Microseconds", None]}}) is None


@given(st.text(alphabet=string.ascii_letters + "%.:-_#+36 9", max_size=6))
def test_a_format_is_refused_if_polars_fails_on_it(form: str) -> None:
    when = pl.Series([dt.datetime(2024, 1, 2, 3, 4, 5)]).dt.replace_time_zone("Europe/Berlin")
    try:
        when.dt.to_string(form)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        assert format_objection(form)


@pytest.mark.parametrize(("text", "microseconds"), [(".312", 312_000), (".5", 500_000), (".312000", 312_000), ("", 0)])
def test_fractions_of_seconds_are_what_they_say(text: str, microseconds: int) -> None:
    at = s.str.to_datetime("%Y-%m-%d %H:%M:%S%.f")
    in_sql = "EXTRACT(microsecond FROM TIMESTAMP(s, '%Y-%m-%d %H:%M:%S%.f')) AS r"
    line = {"s": f"2024-11-28 23:59:00{text}"}
    assert results(Calculation(r=at.dt.microsecond()), line) == [microseconds]
    assert results(Calculation.from_sql(in_sql), line) == [microseconds]


# --- columns ----------------------------------------------------------------------------------------------------------

READS = [
    (ll.list.filter(element > 1), ["l"]),
    (ll.list.eval(element.filter(element > 1)), ["l"]),
    (ll.list.eval(pl.col("") + 1), ["l"]),
    (ll.list.agg(element.filter(element > 1).len()) + a, ["l", "a"]),
    (pl.concat_list(pl.col(""), a).list.filter(element > 1), ["", "a"]),
    (pl.col("") + 1, [""]),
    (pl.concat_list(ll, ll).list.eval(element.list.filter(element > 1)), ["l"]),
    (o.struct.with_fields(x=pl.field("y") + a), ["o", "a"]),
    (a.cast(pl.dtype_of("o")), ["a", "o"]),
    (pl.lit('{"Column":"x"} dtype_of(') + s, ["s"]),
]


@pytest.mark.parametrize(("expr", "names"), READS, ids=[str(expr) for expr, _ in READS])
def test_columns_read_are_those_of_the_line(expr: pl.Expr, names: list[str]) -> None:
    assert columns_read([expr]) == names


def test_lists_are_filtered() -> None:
    lines: list[dict[str, Any]] = [{"l": [3, 1, 2], "": 7}, {"l": []}, {"l": None}]
    assert results(Calculation(r=ll.list.filter(element > 1)), *lines) == [[3, 2], [], None]
    assert results(Calculation(r=pl.concat_list(pl.col(""), 1).list.filter(element > 1)), lines[0]) == [[7]]


def _columns_given(monkeypatch: pytest.MonkeyPatch, width: int) -> int:
    """Return how many columns polars is given to check one expression beside others."""
    given_ = 0

    class Frame(pl.DataFrame):
        def with_columns(self, *exprs: Any, **named: Any) -> pl.DataFrame:
            nonlocal given_
            given_ += self.width
            return super().with_columns(*exprs, **named)

    monkeypatch.setattr(pl, "DataFrame", Frame)
    check_row_wise(pl.col("c0") * 2 + pl.col("c1"), {f"c{number}": pl.Int128() for number in range(width)})
    monkeypatch.undo()
    return given_


def test_a_check_costs_the_same_beside_any_other_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    few = _columns_given(monkeypatch, 4)
    assert few
    assert _columns_given(monkeypatch, 400) == few
