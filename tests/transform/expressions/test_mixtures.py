"""Values of types that do not go together are refused before anything is written, with what to write instead."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform import Calculation, CalculationError, TransformError

if TYPE_CHECKING:
    from collections.abc import Callable

LINE: dict[str, Any] = {
    "o": {"k": 1, "s": "x"},
    "l": [1, 2],
    "items": [{"k": 1}],
    "epoch": 1_700_000_000,
    "status": 200,
    "x": 12.5,
    "b": True,
    "s": "a",
    "price": "4.5",
    "ts": "2024-11-28T23:59:00Z",
    "day": "2024-01-02",
}


def run(calculation: Calculation, *lines: dict[str, Any]) -> list[Any]:
    output = io.BytesIO()
    text = "\n".join(map(json.dumps, lines or [LINE]))
    calculation.select("r").run(io.BytesIO(text.encode()), output)
    return [json.loads(line)["r"] for line in output.getvalue().splitlines()]


def sql_value(text: str, *lines: dict[str, Any]) -> Any:
    found = run(Calculation.from_sql(f"{text} AS r"), *lines)
    return found if lines else found[0]


def refusal(calculation: Calculation) -> str:
    """Return the message of a calculation that is refused with nothing written, not even a rejected line."""
    output = io.BytesIO()
    with pytest.raises(CalculationError) as caught:
        calculation.run(io.BytesIO(json.dumps(LINE).encode()), output)
    assert not output.getvalue()
    return str(caught.value)


def sql_refusal(text: str) -> str:
    message = refusal(Calculation.from_sql(f"{text} AS r"))
    assert message.startswith(f"`{text} AS r` is refused: "), "the words of the user"
    assert not any(part in message for part in ("dyn int", "Int128", "strict_cast", "List("))
    where = refusal(Calculation.from_sql(where=f"({text}) IS NULL"))
    assert where.startswith(f"`({text}) IS NULL` is refused: ")
    return message


# --- objects and lists as text ----------------------------------------------------------------------------------------

TEMPLATES = (
    *("{}::VARCHAR", "CAST({} AS VARCHAR)", "TRY_CAST({} AS VARCHAR)", "COALESCE({}, 'x')", "COALESCE(s, {})"),
    *("IFNULL({}, 'x')", "CONCAT({}, 'y')", "CONCAT(s, {})", "CONCAT_WS('-', s, {})", "{} || 'y'", "s || {}"),
    *("CASE WHEN b THEN {} ELSE 'x' END", "IF(b, 'x', {})", "{} = 'x'", "NULLIF({}, 'x')", "UPPER({})", "{} LIKE 'a%'"),
    *("{} > 'x'", "GREATEST({}, 'x')", "STARTS_WITH({}, 'a')", "TRIM({})", "SUBSTR({}, 1, 1)"),
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("o", "`o` is an object, which is not text; name one of its members, as in o.k in SQL"),
        (
            "l",
            "`l` is a list, which is not text; name one of its elements, as in l[1], or write ARRAY_TO_STRING(l, ',')",
        ),
        ("items", ".list.eval(pl.element().struct.json_encode())"),
    ],
)
def test_objects_and_lists_do_not_become_text(template: str, name: str, said: str) -> None:
    assert said in sql_refusal(template.format(name))


COLUMNS = ("o", "l", "items")
IN_PYTHON: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "cast": lambda c: c.cast(pl.String),
    "lenient cast": lambda c: c.cast(pl.String, strict=False),
    "concat_str": lambda c: pl.concat_str("s", c),
    "format": lambda c: pl.format("{}-{}", "s", c),
    "coalesce": lambda c: pl.coalesce(c, "s"),
    "when": lambda c: pl.when("b").then(c).otherwise("s"),
    "otherwise": lambda c: pl.when("b").then(pl.lit("x")).otherwise(c),
    "fill_null": lambda c: c.fill_null(pl.lit("x")),
    "equality": lambda c: c == "x",
    "max": lambda c: pl.max_horizontal(c, "s"),
}


@pytest.mark.parametrize("way", IN_PYTHON)
@pytest.mark.parametrize("name", COLUMNS)
def test_objects_and_lists_do_not_become_text_in_python(way: str, name: str) -> None:
    message = refusal(Calculation(r=IN_PYTHON[way](pl.col(name))))
    assert f"`{name}` is " in message
    assert "which is not text" in message


def test_objects_in_lists_do_not_become_text() -> None:
    assert "`items` is a list" in refusal(Calculation(r=pl.col("items").cast(pl.List(pl.String))))
    assert "which is not text" in refusal(Calculation(r=pl.col("items").list.eval(pl.element().cast(pl.String))))
    assert run(Calculation(r=pl.col("l").cast(pl.List(pl.String)))) == [["1", "2"]]


def test_what_the_message_advises_works() -> None:
    assert run(Calculation(r=pl.col("o").struct.json_encode())) == ['{"k":1,"s":"x"}']
    assert sql_value("o.s || '!'") == "x!"
    assert sql_value("ARRAY_TO_STRING(l, ',')") == "1,2"
    assert run(Calculation(r=pl.col("l").list.eval(pl.element().cast(pl.String)).list.join(","))) == ["1,2"]
    encoded = pl.col("items").list.eval(pl.element().struct.json_encode()).list.join(",")
    assert run(Calculation(r=encoded)) == ['{"k":1}']


# --- numbers and times ------------------------------------------------------------------------------------------------

NUMBERS = ("epoch", "x", "b", "5", "12.5", "TRUE", "epoch + 1", "LENGTH(s)", "x * 1000000")
TIMES: tuple[str, ...] = ("TIMESTAMP '2024-01-01 10:00:03'", "DATE '2024-01-01'", "TIME '10:00:00'", "INTERVAL '1 day'")
TIMES += ("DATE(day, '%Y-%m-%d')", "DATE(day, '%Y-%m-%d') - DATE '2024-01-01'")


@pytest.mark.parametrize("cast", ["CAST({} AS {})", "TRY_CAST({} AS {})", "({})::{}"])
@pytest.mark.parametrize("target", ["TIMESTAMP", "DATE", "TIME"])
@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_are_not_cast_to_times_in_sql(value: str, target: str, cast: str) -> None:
    message = sql_refusal(cast.format(value, target))
    assert "pl.from_epoch(pl.col(" in message or "a boolean, not a" in message


@pytest.mark.parametrize("target", ["BIGINT", "DOUBLE", "BOOLEAN", "HUGEINT"])
@pytest.mark.parametrize("value", TIMES)
def test_times_are_not_cast_to_numbers_in_sql(value: str, target: str) -> None:
    assert ".dt.timestamp('ms')" in sql_refusal(f"CAST({value} AS {target})")


@pytest.mark.parametrize(
    "text", ["epoch::TIMESTAMP", "TIMESTAMP(epoch, '%s')", "TO_TIMESTAMP(epoch)", "FROM_UNIXTIME(epoch)", "YEAR(epoch)"]
)
def test_every_way_to_read_seconds_leads_to_one_that_works(text: str) -> None:
    with pytest.raises(TransformError) as caught:
        sql_value(text)
    for told in (
        "TIMESTAMP '1970-01-01' + INTERVAL '1 second' * epoch",
        'pl.from_epoch(pl.col("epoch"), time_unit="s")',
    ):
        assert told in str(caught.value)
    assert sql_value("TIMESTAMP '1970-01-01' + INTERVAL '1 second' * epoch") == "2023-11-14T22:13:20.000000"
    millis = {"epoch": 1_700_000_000_123}
    assert sql_value("TIMESTAMP '1970-01-01' + INTERVAL '1 millisecond' * epoch", millis) == [
        "2023-11-14T22:13:20.123000"
    ]
    units: tuple[tuple[Literal["s", "ms"], Any, str], ...] = (
        ("s", LINE, "2023-11-14T22:13:20.000000"),
        ("ms", millis, "2023-11-14T22:13:20.123000"),
    )
    for unit, line, value in units:
        assert run(Calculation(r=pl.from_epoch(pl.col("epoch"), time_unit=unit)), line) == [value]
        assert run(Calculation(r=pl.from_epoch(pl.col("x"), time_unit=unit)))[0].startswith("1970-01-01T00:00:")


@given(st.lists(st.integers(-(2**70), 2**70) | st.integers(-62_135_596_800, 253_402_300_799), min_size=1))
def test_seconds_since_1970_are_right_or_rejected(seconds: list[int]) -> None:
    """polars multiplies durations of 64 bits and wraps around."""
    start, units = dt.datetime(1970, 1, 1), (("second", 1), ("millisecond", 1000))
    lines = "".join(f'{{"place":{place},"epoch":{value}}}\n' for place, value in enumerate(seconds))
    for unit, per_second in units:
        calculation = Calculation.from_sql(f"TIMESTAMP '1970-01-01' + INTERVAL '1 {unit}' * epoch AS r").drop("epoch")
        output = io.BytesIO()
        try:
            calculation.run(io.BytesIO(lines.encode()), output)
        except TransformError as error:
            assert "every line was rejected" in str(error)  # noqa: PT017 - one of both
        found = {row["place"]: row["r"] for row in map(json.loads, output.getvalue().splitlines())}
        for place, value in enumerate(seconds):
            if place not in found:
                assert abs(value) * 1_000_000 // per_second > 2**62
                continue
            try:
                expected = start + dt.timedelta(microseconds=value * (1_000_000 // per_second))
            except OverflowError:
                continue  # beyond the years that Python has
            assert found[place] == expected.isoformat(timespec="microseconds")


@pytest.mark.parametrize("dtype", [pl.Date, pl.Time, pl.Datetime("ms"), pl.Duration("ms")], ids=str)
@pytest.mark.parametrize("name", ["x", "b"])
def test_floats_and_booleans_are_not_cast_to_times_in_python(name: str, dtype: Any) -> None:
    assert f"`{name}` is a " in refusal(Calculation(r=pl.col(name).cast(dtype)))


def test_integers_are_cast_to_times_in_python_where_the_type_has_the_unit() -> None:
    assert run(Calculation(r=pl.col("epoch").cast(pl.Datetime("ms")))) == ["1970-01-20T16:13:20.000"]
    assert run(Calculation(r=pl.col("status").cast(pl.Date))) == ["1970-07-20"]
    assert run(Calculation(r=pl.col("status").cast(pl.Duration("ms")))) == ["PT0.2S"]
    assert "not a time of day" in refusal(Calculation(r=pl.col("status").cast(pl.Time)))
    day = pl.col("day").str.to_date("%Y-%m-%d")
    assert run(Calculation(r=day.dt.epoch("d"))) == [19724]
    assert run(Calculation(r=day.dt.timestamp("ms"))) == [19724 * 86_400_000]
    assert "there is no unit" in refusal(Calculation(r=day.cast(pl.Datetime("us")).cast(pl.Int64)))


def test_times_are_made_of_numbers_with_their_units() -> None:
    with pytest.raises(TransformError, match="there is no such date or time"):
        run(Calculation(r=pl.datetime(pl.col("status") + 1800, "status", 2)))
    assert run(Calculation(r=pl.datetime(pl.col("status") + 1800, 2, 3, hour=4))) == ["2000-02-03T04:00:00.000000"]
    assert run(Calculation(r=pl.date(pl.col("status") + 1800, 2, 3))) == ["2000-02-03"]
    assert run(Calculation(r=pl.time(pl.col("status") - 190, 2))) == ["10:02:00"]
    assert run(Calculation(r=pl.duration(hours="status"))) == ["P8DT8H"]
    day = pl.col("day").str.to_date("%Y-%m-%d")
    assert run(Calculation(r=day.dt.combine(dt.time(1)))) == ["2024-01-02T01:00:00.000000"]
    assert run(Calculation(r=(day + pl.duration(days="status")))) == ["2024-07-20"]
    assert run(Calculation(r=(day - pl.date(2024, 1, 1)).dt.total_days())) == [1]


# --- text and numbers, text and times ---------------------------------------------------------------------------------

SAID = {
    "price > 4": "`price` is text, and `4` is an integer. Convert the text with CAST(price AS DOUBLE), or TRY_CAST(",
    "price * 1.1": "Convert the text with CAST(price AS DOUBLE)",
    "price IN (4)": "CAST(price AS DOUBLE)",
    "ABS(price)": "`price` is text. Convert the text with CAST(price AS DOUBLE)",
    "-price": "CAST(price AS DOUBLE)",
    "SIN(price)": "CAST(price AS DOUBLE)",
    "status = '200'": "`status` is an integer, and the value is text: write 200, without quotes",
    "status IN ('200')": "write 200, without quotes",
    "status IN ('200', '404')": "write 200, 404, without quotes",
    "status = 'ok'": "Write CAST(status AS VARCHAR)",
    "b = 'true'": "Write TRUE or FALSE without quotes",
    "UPPER(status)": "`status` is an integer, not text: write CAST(status AS VARCHAR)",
    "status LIKE '2%'": "write CAST(status AS VARCHAR)",
    "LENGTH(x)": "`x` is a number, not text: write CAST(x AS VARCHAR)",
    "LENGTH(l)": "write ARRAY_LENGTH(l)",
    "GREATEST(status, DATE '2024-01-01')": "`status` is an integer, and `2024-01-01` is a date",
    "status < DATE '2024-01-01'": "`status` is an integer, and `2024-01-01` is a date",
    "CASE WHEN b THEN status ELSE INTERVAL '1 day' END": "`status` is an integer, and `1d` is a duration",
    "YEAR(ts)": "`ts` is text, not a date or time. Read it with its format: TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ')",
    "EXTRACT(hour FROM ts)": "TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ')",
    "ts - INTERVAL '1 day'": "TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ')",
    "ts > DATE '2024-01-01'": "TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ')",
    "DATE(day, '%Y-%m-%d') > '2024-01-01'": "Write DATE '2024-01-01' in SQL",
    "TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ') <= '2024-01-01 10:00:00'": "Write TIMESTAMP '2024-01-01 10:00:00' in SQL",
    "CAST(ts AS TIMESTAMP)": "TIMESTAMP(ts, '%Y-%m-%dT%H:%M:%SZ') in SQL",
    "COALESCE(DATE(day, '%Y-%m-%d'), s)": "`s` is text, and",
    "CASE WHEN b THEN DATE(day, '%Y-%m-%d') ELSE s END": "`s` is text, and",
    "CAST(ts AS DATE)": "DATE(ts, '%Y-%m-%d') in SQL",
    "CAST(ts AS TIME)": "TIME(ts, '%H:%M:%S') in SQL",
    "CASE WHEN status THEN 1 END": "`status` is an integer, not true or false",
    "NOT s": "`s` is text, not true or false",
    "s AND b": "`s` is text, not true or false",
    "o > 1": "`o` is an object, and has no single value; name one of its members, as in o.k",
    "l = 1": "ARRAY_CONTAINS(l, 1)",
    "o.s > 1": "CAST(o.s AS DOUBLE)",
}


@pytest.mark.parametrize(("text", "said"), SAID.items())
def test_a_message_names_the_value_its_type_and_what_to_write(text: str, said: str) -> None:
    assert said in sql_refusal(text)


def test_a_filter_that_is_no_condition_is_named_as_it_was_written() -> None:
    assert refusal(Calculation.from_sql(where="status + 1")).startswith("the filter `status + 1` gives Int128")


def test_a_message_about_python_shows_python() -> None:
    assert refusal(Calculation.from_sql("b AS q").filter(pl.col("price") > 4)).startswith('`[(col("price")) > (dyn')


el, o, objects = pl.element(), pl.col("o"), pl.col("lo")
BY_PLACE: dict[str, pl.Expr] = {
    "rename_fields": o.struct.rename_fields(["x", "y"]),
    "rename_fields of elements": objects.list.eval(el.struct.rename_fields(["x", "y"])),
    "list.sort": objects.list.sort(),
    "list.arg_max": objects.list.arg_max(),
    "list.max": objects.list.max(),
    "list.set_difference": objects.list.set_difference(objects),
    "sort": objects.list.eval(el.sort()),
    "sort_by": objects.list.eval(el.sort_by(el)),
    "arg_sort": objects.list.eval(el.arg_sort()),
    "rank": objects.list.eval(el.rank()),
    "top_k": objects.list.eval(el.top_k(1)),
    "max": objects.list.eval(el.max()),
    "max_horizontal": pl.max_horizontal(o, o),
}


@pytest.mark.parametrize("name", BY_PLACE)
def test_what_goes_by_the_place_of_members_is_refused(name: str) -> None:
    """Their order in a type is that of the first line, and members have none."""
    for first in ('{"o":{"a":1,"b":2},"lo":[{"a":1,"b":9}]}', '{"o":{"b":1,"a":2},"lo":[{"b":1,"a":9}]}'):
        with pytest.raises(CalculationError, match="have no order"):
            Calculation(r=BY_PLACE[name]).run(io.BytesIO(first.encode()), io.BytesIO())


BY_NAME: dict[str, tuple[pl.Expr, object]] = {
    "sort_by": (objects.list.eval(el.sort_by(el.struct.field("b"))).list.eval(el.struct.field("a")), [2, 0, 1]),
    "top_k_by": (objects.list.eval(el.top_k_by(el.struct.field("a"), 1)).list.eval(el.struct.field("b")), [3]),
    "unique": (objects.list.n_unique(), 3),
    "cast": (o.cast(pl.Struct({"a": pl.Float64, "b": pl.Int64})).struct.field("a"), 1.0),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_what_goes_by_the_names_of_members_is_taken(name: str) -> None:
    expr, expected = BY_NAME[name]
    line = '{"o":{"a":1,"b":2},"lo":[{"a":1,"b":9},{"a":2,"b":3},{"a":0,"b":5}]}'
    target = io.BytesIO()
    Calculation(r=expr).run(io.BytesIO(line.encode()), target)
    assert json.loads(target.getvalue())["r"] == expected


@pytest.mark.parametrize(
    "expr",
    [
        o.cast(pl.Struct({"x": pl.Int64, "y": pl.Int64})),
        o.cast(pl.Struct({"b": pl.Int64, "a": pl.Int64})),
        objects.cast(pl.List(pl.Struct({"a": pl.Int64, "z": pl.Int64}))),
    ],
)
def test_a_cast_to_other_members_is_refused(expr: pl.Expr) -> None:
    line = '{"o":{"a":1,"b":2},"lo":[{"a":1,"b":9}]}'
    with pytest.raises(CalculationError, match="cannot get other members by a cast"):
        Calculation(r=expr).run(io.BytesIO(line.encode()), io.BytesIO())
