"""Dates, times and durations are right, or their line is rejected; they do not wrap around."""

from __future__ import annotations

import datetime as dt
import operator
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transform.errors import CalculationError
from transform.expressions.evaluate import Evaluator
from transform.expressions.parse import parse_sql

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = {
    "n": pl.Int128(),
    "d": pl.Date(),
    "t": pl.Datetime("us"),
    "u": pl.Duration("us"),
    "ns": pl.Duration("ns"),
    "s": pl.String(),
}
n, d, t, u, ns, s = (pl.col(name) for name in SCHEMA)
BEYOND = "the calculation failed: a date, a time or a duration is beyond its range"
NO_SUCH = "the calculation failed: there is no such date or time"
DAY_US = 86_400 * 10**6
LAST_US = 95_026_236 * DAY_US
EPOCH = dt.date(1970, 1, 1)


def evaluator(expr: pl.Expr | str) -> Evaluator:
    return Evaluator({"r": parse_sql(expr)[0] if isinstance(expr, str) else expr}, [], SCHEMA)


def row(**values: Any) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(SCHEMA) | values], SCHEMA)


def result(expr: pl.Expr | str, **values: Any) -> Any:
    """Return the value of an expression on a row, or why the row is rejected."""
    found = evaluator(expr)
    failed = found.evaluate(row(**values)).failed
    return str(failed[0]) if failed else found.compute(row(**values))["r"].item()


INTEGERS = st.integers(-9, 9) | st.integers(-(10**6), 10**6) | st.integers(-(2**64), 2**64) | st.just(2**100)
MICROSECONDS = st.integers(-(2**62), 2**62) | st.integers(-(10**9), 10**9).map(lambda seconds: seconds * 10**6)
DATES = st.integers(-(9 * 10**7), 9 * 10**7) | st.integers(-800_000, 800_000)
PHYSICAL: dict[str, tuple[Callable[[pl.Expr], pl.Expr], int]] = {
    "d": (lambda e: e.cast(pl.Int64), 95_026_236),
    "t": (lambda e: e.cast(pl.Int64), LAST_US),
    "u": (lambda e: e.cast(pl.Int64), 2**63),
}
CASES: list[tuple[pl.Expr, str, Callable[[int, int, int, int], float]]] = [
    (u * n, "u", lambda _d, _t, u, n: u * n),
    (n * u, "u", lambda _d, _t, u, n: u * n),
    (u + u, "u", lambda _d, _t, u, _n: 2 * u),
    (pl.sum_horizontal(u, u), "u", lambda _d, _t, u, _n: 2 * u),
    (pl.concat_list(u, u, u).list.agg(pl.element().sum()), "u", lambda _d, _t, u, _n: 3 * u),
    (pl.concat_list(u, u, u).list.eval(pl.element().cum_sum()).list.get(2), "u", lambda _d, _t, u, _n: 3 * u),
    (t + u, "t", lambda _d, t, u, _n: t + u),
    (t - u, "t", lambda _d, t, u, _n: t - u),
    (t - d, "u", lambda d, t, _u, _n: t - d * DAY_US),
    (pl.duration(days=n), "u", lambda _d, _t, _u, n: n * DAY_US),
    (pl.duration(hours=n, seconds=n), "u", lambda _d, _t, _u, n: n * 3601 * 10**6),
    (t + pl.duration(days=n), "t", lambda _d, t, _u, n: t + n * DAY_US),
    (d + pl.duration(days=n), "d", lambda d, _t, _u, n: d + n),
    (t.dt.offset_by("20000000d"), "t", lambda _d, t, _u, _n: t + 20_000_000 * DAY_US),
    (d.dt.offset_by("-20000000d"), "d", lambda d, _t, _u, _n: d - 20_000_000),
    (n.cast(pl.Datetime("us")), "t", lambda _d, _t, _u, n: n),
    (n.cast(pl.Date), "d", lambda _d, _t, _u, n: n),
    (pl.concat_list(u).list.eval(pl.element() * 1000).list.get(0), "u", lambda _d, _t, u, _n: u * 1000),
]


@settings(max_examples=40, deadline=None)
@given(days=DATES, instant=MICROSECONDS, span=MICROSECONDS, number=INTEGERS)
@example(days=9 * 10**7, instant=2**62, span=2**62, number=10**9)
@example(days=-(9 * 10**7), instant=-(2**62), span=-(2**62), number=-(10**9))
@example(days=0, instant=0, span=0, number=2**100)
@example(days=0, instant=0, span=3 * DAY_US, number=2**100)
def test_times_are_exact_or_their_line_is_rejected(days: int, instant: int, span: int, number: int) -> None:
    frame = pl.DataFrame({"n": [number]}, {"n": pl.Int128}).with_columns(
        pl.lit(days, pl.Int32).cast(pl.Date).alias("d"),
        pl.lit(instant, pl.Int64).cast(pl.Datetime("us")).alias("t"),
        pl.lit(span, pl.Int64).cast(pl.Duration("us")).alias("u"),
    )
    for expr, kind, compute in CASES:
        physical, limit = PHYSICAL[kind]
        wanted = compute(days, instant, span, number)
        found = Evaluator({"r": expr}, [], frame.schema)
        failed = found.evaluate(frame).failed
        if failed:
            assert str(failed[0]) == BEYOND or "conversion from" in str(failed[0])
            assert abs(wanted) > limit * 0.75 or abs(number) > 2**62 // DAY_US, (expr, wanted)
        else:
            assert found.compute(frame).select(physical(pl.col("r"))).item() == wanted, expr


@pytest.mark.parametrize(
    ("expr", "values", "wanted"),
    [
        (pl.duration(days=n), {"n": 10**9}, BEYOND),
        (pl.duration(hours=n) * n, {"n": 10**9}, BEYOND),
        (u * n, {"u": dt.timedelta(1), "n": 2**100}, BEYOND),
        (u / 1e-9, {"u": dt.timedelta(30000)}, BEYOND),
        (u / n, {"u": dt.timedelta(2), "n": 0}, None),
        (u / n, {"u": dt.timedelta(2), "n": 2**100}, BEYOND),
        (u / n, {"u": dt.timedelta(2), "n": 2}, dt.timedelta(1)),
        ("d + INTERVAL '1 month'", {"d": dt.date(2024, 1, 31)}, dt.date(2024, 2, 29)),
        ("t + INTERVAL '1 month 2 hours'", {"t": dt.datetime(2024, 1, 31)}, dt.datetime(2024, 2, 29, 2)),
        (t.dt.offset_by("10000000000d"), {"t": dt.datetime(2024, 1, 31)}, BEYOND),
        (d.dt.offset_by("24h"), {"d": dt.date(2024, 1, 31)}, dt.date(2024, 2, 1)),
        (d + u, {"d": dt.date(2024, 1, 31), "u": dt.timedelta(1)}, dt.date(2024, 2, 1)),
        (d - d.dt.offset_by("-1d"), {"d": dt.date(2024, 1, 31)}, dt.timedelta(1)),
        (s.str.to_datetime("%Y-%m-%d", time_unit="ns"), {"s": "9999-12-31"}, BEYOND),
        (s.str.to_datetime("%Y-%m-%d", time_unit="ns"), {"s": "1600-01-01"}, BEYOND),
        (s.str.to_datetime("%Y-%m-%d", time_unit="ns"), {"s": "2024-01-01"}, dt.datetime(2024, 1, 1)),
        (s.str.to_datetime("%Y-%m-%d"), {"s": "9999-12-31"}, dt.datetime(9999, 12, 31)),
        (u.cast(pl.Duration("ns")), {"u": dt.timedelta(200_000)}, BEYOND),
        (u.dt.cast_time_unit("ns"), {"u": dt.timedelta(200_000)}, BEYOND),
        (u.dt.cast_time_unit("ms"), {"u": dt.timedelta(200_000)}, dt.timedelta(200_000)),
        (u.dt.total_nanoseconds(), {"u": dt.timedelta(200_000)}, 200_000 * DAY_US * 1000),
        (u.dt.total_microseconds(), {"u": dt.timedelta(200_000)}, 200_000 * DAY_US),
        (t.dt.timestamp("ns"), {"t": dt.datetime(9999, 12, 31)}, (dt.date(9999, 12, 31) - EPOCH).days * DAY_US * 1000),
        (t.dt.timestamp("ms"), {"t": dt.datetime(1970, 1, 2)}, DAY_US // 1000),
        (d.dt.epoch("ns"), {"d": dt.date(1600, 1, 1)}, (dt.date(1600, 1, 1) - EPOCH).days * DAY_US * 1000),
        (pl.date(2024, 1, n), {"n": 257}, NO_SUCH),
        (pl.date(2024, n, 1), {"n": -255}, NO_SUCH),
        (pl.date(n, 1, 1), {"n": 2**32 + 2024}, NO_SUCH),
        (pl.date(2024, 1, n), {"n": 31}, dt.date(2024, 1, 31)),
        (pl.date(2024, 1, n), {"n": None}, None),
        (pl.datetime(2024, 1, 1, n), {"n": 256}, NO_SUCH),
        (pl.datetime(n, 1, 1, time_unit="ns"), {"n": 9999}, NO_SUCH),
        (pl.time(n, 0, 0), {"n": 256}, NO_SUCH),
        (t.dt.replace(day=n), {"t": dt.datetime(2024, 1, 1), "n": 257}, NO_SUCH),
        (t.dt.replace(day=n), {"t": dt.datetime(2024, 1, 1), "n": 5}, dt.datetime(2024, 1, 5)),
        ("CASE WHEN n > 1 THEN d ELSE NULL END", {"n": 2, "d": dt.date(2024, 1, 1)}, dt.date(2024, 1, 1)),
        (pl.when(n < 9).then(u).otherwise(u * n), {"n": 2, "u": dt.timedelta(10**6)}, dt.timedelta(10**6)),
        (pl.when(n < 9).then(u).otherwise(u * n), {"n": 10**9, "u": dt.timedelta(10**6)}, BEYOND),
        (pl.from_epoch("n", "us"), {"n": 2**63 - 1}, BEYOND),
        (pl.from_epoch("n", "s"), {"n": 86_400}, dt.datetime(1970, 1, 2)),
        (ns * 2, {"ns": dt.timedelta(100_000)}, BEYOND),
    ],
    ids=str,
)
def test_what_is_beyond_its_range_is_rejected(expr: pl.Expr | str, values: dict[str, Any], wanted: Any) -> None:
    assert result(expr, **values) == wanted
    assert result(expr) is None


def test_nothing_is_printed_for_times_beyond_their_range(capfd: pytest.CaptureFixture[str]) -> None:
    assert result(pl.from_epoch("n", "us"), n=2**63 - 1) == BEYOND
    assert result(n.cast(pl.Date), n=2**31 - 1) == BEYOND
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("expr", ["d + INTERVAL '12 hours'", "d - INTERVAL '1 second'", d.dt.offset_by("1d12h")])
def test_parts_of_a_day_are_not_added_to_a_date(expr: str | pl.Expr) -> None:
    with pytest.raises(CalculationError, match=r"a date has no hours.*CAST\(… AS TIMESTAMP\)"):
        evaluator(expr)
    assert result("CAST(d AS TIMESTAMP) + INTERVAL '12 hours'", d=dt.date(2024, 1, 1)) == dt.datetime(2024, 1, 1, 12)


@pytest.mark.parametrize("of", [operator.add, operator.sub])
def test_a_line_that_adds_parts_of_a_day_to_a_date_is_rejected(of: Callable[..., pl.Expr]) -> None:
    found = result(of(d, u), d=dt.date(2024, 1, 1), u=dt.timedelta(hours=36))
    assert found.startswith("the calculation failed: a date has no hours")
    assert result(of(d, u), d=dt.date(2024, 1, 1), u=dt.timedelta(days=2)) == of(dt.date(2024, 1, 1), dt.timedelta(2))


def test_offsets_beyond_64_bits_in_nanoseconds_are_refused() -> None:
    with pytest.raises(CalculationError, match="write it in days"):
        evaluator(t.dt.offset_by("3000000h"))


def test_sums_of_lists_of_durations_are_refused() -> None:
    with pytest.raises(CalculationError, match=r"wraps around. Write .list.agg\(pl.element\(\).sum\(\)\)"):
        evaluator(pl.concat_list(u, u).list.sum())
