"""A calculation: how it is written, loaded and shown, what it refuses, and what preview and run make of it."""

from __future__ import annotations

import datetime as dt
import importlib
import io
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trial import OLD, attempt, lines, refusal
from transform import (
    Calculation,
    CalculationError,
    InputError,
    RejectedError,
    SchemaError,
    Summary,
    TransformError,
    load,
)
from transform.engine.options import Policy
from transform.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

a, b, s = (pl.col(name) for name in "abs")
ROWS = lines('{"a":1,"b":2,"s":"x"}', '{"a":3,"b":0.5,"s":"y"}', '{"a":5,"b":6,"s":null}')


# --- names ---------------------------------------------------------------------------------------------------------


NAMED: dict[str, tuple[Callable[[], Calculation], tuple[str, ...]]] = {
    "keyword": (lambda: Calculation(x=a * b), ("x",)),
    "alias": (lambda: Calculation((a * b).alias("x")), ("x",)),
    "keyword over alias": (lambda: Calculation(x=(a * b).alias("y")), ("x",)),
    "alias that is the column's name": (lambda: Calculation((a * 2).alias("a")), ("a",)),
    "bare column": (lambda: Calculation(a), ("a",)),
    "text": (lambda: Calculation("a", x="b"), ("a", "x")),
    "suffix": (lambda: Calculation((a * 2).name.suffix("_x")), ("a_x",)),
    "constants": (lambda: Calculation(i=3, f=1.5, t=True, n=None), ("i", "f", "t", "n")),
    "order": (lambda: Calculation(b.alias("z"), "a", y=a, x=b), ("z", "a", "y", "x")),
}


@pytest.mark.parametrize(("make", "names"), NAMED.values(), ids=NAMED)
def test_results_are_named(make: Callable[[], Calculation], names: tuple[str, ...]) -> None:
    assert make().results == names


@pytest.mark.parametrize(
    ("expr", "polars_name"),
    [
        (a * b, "a"),
        (a + 1, "a"),
        (a.cast(pl.Int8), "a"),
        (pl.lit(1), "literal"),
        (pl.struct("a", "b"), "a"),
        (pl.when(a > 1).then(b).otherwise(a), "b"),
        (s.str.to_uppercase(), "s"),
    ],
    ids=str,
)
def test_expression_without_a_name_is_refused_with_advice(expr: pl.Expr, polars_name: str) -> None:
    with pytest.raises(CalculationError) as caught:
        Calculation(expr)
    assert str(caught.value) == (
        f"`{expr}` needs a name for its result: write it with AS in SQL, as a keyword or with .alias(…) in Python. "
        f"(polars alone would name it `{polars_name}` and replace that member.)"
    )


@pytest.mark.parametrize("text", ["a * b", "a + 1", "upper(s)", "a AS x, b * 2", "1", "CASE WHEN a = 1 THEN b END"])
def test_sql_without_a_name_is_refused_with_advice(text: str) -> None:
    with pytest.raises(CalculationError, match="needs a name for its result: write it with AS in SQL"):
        Calculation.from_sql(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Calculation(a, a),
        lambda: Calculation("a", a=b),
        lambda: Calculation(b.alias("x"), x=a),
        lambda: Calculation.from_sql("a AS x, b AS x"),
        lambda: Calculation.from_sql('a, b AS "a"'),
    ],
)
def test_two_results_of_one_name_are_refused(make: Callable[[], Calculation]) -> None:
    with pytest.raises(CalculationError, match=r"^two results are named `[ax]`; give one of them another name$"):
        make()


SEVERAL: dict[str, pl.Expr] = {
    "all": pl.all(),
    "star": pl.col("*"),
    "list of columns": pl.col("a", "b"),
    "regex": pl.col("^a.*$"),
    "type": pl.col(pl.Int64),
    "selector": cs.numeric(),
    "selector of one name": cs.by_name("a"),
    "first": pl.first(),
    "place": pl.nth(0),
    "exclude": pl.exclude("a"),
    "within arithmetic": cs.numeric() + a,
    "within a function": pl.sum_horizontal(pl.all()),
    "within a struct": pl.struct(a, cs.numeric()),
    "within a condition": pl.when(cs.boolean()).then(a),
    "fields": a.struct.field("x", "y"),
    "all fields": a.struct.field("*"),
}


@pytest.mark.parametrize("expr", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("use", [Calculation, lambda expr: Calculation(x=expr), Calculation(a).filter])
def test_what_stands_for_several_columns_is_refused(use: Callable[[pl.Expr], Calculation], expr: pl.Expr) -> None:
    with pytest.raises(CalculationError, match=r"name one column in each expression$"):
        use(expr)


@pytest.mark.parametrize(
    "make", [lambda: Calculation(x=pl.lit("physics.org")), lambda: Calculation.from_sql("'docs.x' AS x")]
)
def test_constant_text_is_no_selector(make: Callable[[], Calculation]) -> None:
    assert make().results == ("x",)


@pytest.mark.parametrize(
    "value", [3, None, [a, b], {"x": a}, dt.date(2024, 1, 1), pl.Series([1]), object()], ids=lambda v: type(v).__name__
)
def test_what_is_no_expression_is_refused(value: object) -> None:
    with pytest.raises(CalculationError, match=f"^expected a polars expression, got {type(value).__name__}: "):
        Calculation(value)
    with pytest.raises(CalculationError, match=r"^expected a polars expression, got "):
        Calculation(a).filter(value)


@pytest.mark.parametrize("name", ["\ud83d", "caf\udce9"])
def test_names_that_are_not_unicode_are_refused(name: str) -> None:
    for use in (Calculation, Calculation(a).filter, Calculation(a).reject):
        with pytest.raises(CalculationError, match=r"^the name of a column is not valid Unicode: '.*'$"):
            use(name)
    with pytest.raises(CalculationError, match=r"^the name of a result is not valid Unicode: '.*'$"):
        Calculation(**{name: a})


def test_function_in_place_of_an_expression_is_named_as_what_it_can_be() -> None:
    with pytest.raises(CalculationError, match=r"; a function that takes a whole line is LineFunction\(function\)$"):
        Calculation(x=lambda line: line)


# --- steps ---------------------------------------------------------------------------------------------------------


def test_calculation_cannot_be_changed() -> None:
    calculation = Calculation(x=a)
    for name in ("x", "results", "columns", "_task", "anything"):
        with pytest.raises(AttributeError, match=f"^a Calculation is immutable; cannot set {name}$"):
            setattr(calculation, name, 1)
    assert calculation.results == ("x",)


def test_steps_return_new_calculations_and_leave_the_old_one_alone() -> None:
    first = Calculation(x=a)
    before = repr(first)
    second = first.filter(b > 1)
    third = second.with_schema({"a": pl.Int8})
    fourth = third.filter("s").with_schema({"b": pl.Float64, "a": pl.Int16})
    assert len({id(calculation) for calculation in (first, second, third, fourth)}) == 4
    assert repr(first) == before
    assert [c.columns for c in (first, second, third, fourth)] == [("a",), ("a", "b"), ("a", "b"), ("a", "b", "s")]
    assert "Int8" in repr(third)
    assert "Int8" not in repr(fourth)
    assert attempt(ROWS, first).summary.lines_out == 3
    assert attempt(ROWS, second).summary.lines_out == 2
    assert attempt(ROWS, third).summary.schema["a"] == ("Int8", "declared")


def test_changing_what_a_schema_was_made_from_changes_nothing() -> None:
    schema: dict[str, object] = {"a": pl.Int8}
    calculation = Calculation(x=a).with_schema(schema)
    schema["a"] = pl.String
    assert "schema a: Int8" in repr(calculation)


def test_steps_keep_the_class() -> None:
    class Special(Calculation):
        pass

    assert type(Special(x=a).filter(b > 1).with_schema({})) is Special
    assert type(Special.from_sql("a AS x", where="b > 1")) is Special


def test_all_filters_have_to_be_true() -> None:
    data = lines(*(json.dumps({"a": one, "b": other}) for one in (True, False, None) for other in (True, False, None)))
    once, twice = Calculation(x=a).filter(a, b), Calculation(x=a).filter(a).filter("b")
    for calculation in (once, twice):
        outcome = attempt(data, calculation)
        assert outcome.rows == [{"a": True, "b": True, "x": True}]
        assert outcome.summary.filtered == 8


def test_columns_are_each_named_once_in_order_of_appearance() -> None:
    assert Calculation(x=b * a + b, y=pl.lit(1)).filter(s.is_null(), a > 1).columns == ("b", "a", "s")
    assert Calculation(x=1).columns == ()


# --- SQL -----------------------------------------------------------------------------------------------------------


SQL: dict[str, tuple[str, ...]] = {
    "": (),
    "  \n": (),
    "a": ("a",),
    "a AS x, b AS y": ("x", "y"),
    "a * b AS x": ("x",),
    "concat('p,q', s) AS c, b": ("c", "b"),
    "'it''s, fine' AS t, a": ("t", "a"),
    "CASE WHEN a = 1 THEN 'p,q' WHEN b > 2 THEN 'r' ELSE 's' END AS c, a": ("c", "a"),
    "coalesce(a, b, 0) AS c, upper(s) AS u": ("c", "u"),
    "round(a / (b + 1), 2) AS c, a IN (1, 2, 3) AS i": ("c", "i"),
    "[1, 2, 3] AS l, a": ("l", "a"),
    '"q,x" AS c, a AS "x,y"': ("c", "x,y"),
    '"a""b" AS z': ("z",),
    "`q,x` AS c": ("c",),
    "a BETWEEN 1 AND 2 AS b, s LIKE 'x,%' AS l": ("b", "l"),
    "a /* x, y */ AS x, b AS z": ("x", "z"),
    "CAST(a AS DECIMAL(10, 2)) AS d,\n\tb": ("d", "b"),
    "INTERVAL '1 day, 2 hours' AS i": ("i",),
}


@pytest.mark.parametrize(("text", "names"), SQL.items())
def test_sql_expressions_are_separated_as_in_a_select_list(text: str, names: tuple[str, ...]) -> None:
    assert Calculation.from_sql(text).results == names


@pytest.mark.parametrize("name", ["a--b", "a /* b */ c"])
def test_name_in_backticks_holds_no_comment(name: str) -> None:
    assert Calculation.from_sql(f"`{name}` AS x, b").columns == (name, "b")


def test_comma_in_a_line_comment_does_not_separate() -> None:
    assert Calculation.from_sql("a -- one, two\n AS x").results == ("x",)


def test_sql_means_what_it_says() -> None:
    calculation = Calculation.from_sql(
        "a * b AS product, CASE WHEN a > 2 THEN 'p,q' ELSE upper(s) END AS c, coalesce(s, 'no, none') AS t, "
        "a IN (1, 5) AS i, -a AS minus, a / 2 AS half, a % 2 AS odd, s IS NULL AS n",
        where="b <> 6 OR s IS NULL",
    )
    assert attempt(ROWS, calculation).rows == [
        {"a": 1, "b": 2, "s": "x", "product": 2.0, "c": "X", "t": "x", "i": True}
        | {"minus": -1, "half": 0.5, "odd": 1, "n": False},
        {"a": 3, "b": 0.5, "s": "y", "product": 1.5, "c": "p,q", "t": "y", "i": False}
        | {"minus": -3, "half": 1.5, "odd": 1, "n": False},
        {"a": 5, "b": 6, "s": None, "product": 30.0, "c": "p,q", "t": "no, none", "i": True}
        | {"minus": -5, "half": 2.5, "odd": 1, "n": True},
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a +", "polars does not understand the SQL `a +`: "),
        ("a AS x, b *", "polars does not understand the SQL `b *`: "),
        ("foo(a) AS x", "the SQL `foo(a) AS x`: there is no function `foo`: did you mean `FLOOR`?"),
        ("a AS x b", "polars does not understand the SQL `a AS x b`: "),
        ("SELECT a", "polars does not understand the SQL `SELECT a`: "),
        ("a AS x; b", "polars does not understand the SQL `a AS x; b`: "),
        ("'open AS x, b AS y", "polars does not understand the SQL `'open AS x, b AS y`: "),
        ("a AS x,,b", "the SQL `a AS x,,b` has no expression before a comma"),
        ("*", "polars does not understand the SQL `*`: "),
        ("COLUMNS('a') AS x", "the SQL `COLUMNS('a') AS x`: there is no function `COLUMNS`: "),
    ],
)
def test_bad_sql_is_refused_with_the_part_at_fault(text: str, start: str) -> None:
    with pytest.raises(CalculationError) as caught:
        Calculation.from_sql(text)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


SEPARATE = [
    (["a AS b --note", "s AS d"], ("b", "d")),
    (["a AS b --note", "s AS d --note, 1 AS e"], ("b", "d")),
    (["a AS b /* it's */ -- 'x", "'--' AS d"], ("b", "d")),
    (["a AS x, b", "s"], ("x", "b", "s")),
    (["a AS b --note"], ("b",)),
    (["a AS b", "s AS d", "1 AS e"], ("b", "d", "e")),
    ([], ()),
    ([""], ()),
    ("a AS b", ("b",)),
]


@pytest.mark.parametrize(("texts", "names"), SEPARATE)
def test_sql_texts_are_parsed_each_on_its_own(texts: list[str] | str, names: tuple[str, ...]) -> None:
    assert Calculation.from_sql(texts).results == names


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (['a AS "b', 's AS d"'], """expression 1 of 2: {}`a AS "b`: the quote that starts with `"b` is not closed"""),
        (["a AS b", "'c AS d"], "expression 2 of 2: {}`'c AS d`: the quote that starts with `'c AS d` is not closed"),
        (["a AS `b", "c`"], "expression 1 of 2: {}`a AS `b`: the quote that starts with ``b` is not closed"),
        (
            ["a AS b /*", "*/, 1 AS c"],
            "expression 1 of 2: {}`a AS b /*`: the comment that starts with `/*` is not closed",
        ),
        (["'it''s' AS x, 'a'' AS b"], "{}`'a'' AS b`: the quote that starts with `'a'' AS b` is not closed"),
        (["coalesce(a", "b) AS c"], "expression 1 of 2: {}`coalesce(a`: "),
        (["a,", "b"], "expression 1 of 2: the SQL `a,` has no expression at its end"),
        (["a", " "], "expression 2 of 2: the SQL `` has no expression at its end"),
        (["s AS -- it's"], "{}`s AS`: there is no name after AS"),
        (["a AS b -- it's", "s AS"], "expression 2 of 2: {}`s AS`: there is no name after AS"),
    ],
)
def test_sql_text_that_is_not_complete_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(CalculationError) as caught:
        Calculation.from_sql(texts)
    assert str(caught.value).startswith(message.format("polars does not understand the SQL "))


def test_a_where_that_is_not_complete_says_so() -> None:
    with pytest.raises(CalculationError, match="the quote that starts with `'x` is not closed"):
        Calculation.from_sql(where="a > 'x")


def test_the_identity_is_of_the_joined_text_where_that_means_the_same() -> None:
    two = ["a AS b", "s AS d --note"]
    assert Calculation.from_sql(two).digest == Calculation.from_sql("a AS b, s AS d --note").digest
    assert Calculation.from_sql(two).spec_for("").origin == (b"sql", b"a AS b, s AS d --note"), "as ever"
    assert Calculation.from_sql([]).digest == Calculation.from_sql("").digest == Calculation.from_sql([""]).digest
    hidden = ["a AS b --note", "s AS d"]
    others = [hidden, hidden[::-1], [", ".join(hidden)], [*hidden, "1 AS e"], ["a AS b --note, s AS d"], two]
    digests = {Calculation.from_sql(texts).digest for texts in others}
    assert len(digests) == 5, "the joined text and that of one line are the same"


def test_where_takes_one_condition() -> None:
    with pytest.raises(CalculationError, match=r"^expected one condition, got 2: `a = 1, b = 2`; join them with AND$"):
        Calculation.from_sql(where="a = 1, b = 2")
    with pytest.raises(CalculationError, match=r"^polars does not understand the SQL `a =`"):
        Calculation.from_sql("a", where="a =")
    calculation = Calculation.from_sql(where="a IN (1, 3) AND b < 1")
    assert calculation.results == ()
    assert calculation.columns == ("a", "b")
    assert attempt(ROWS, calculation).output == ROWS.splitlines(keepends=True)[1]


# --- looks ---------------------------------------------------------------------------------------------------------


def test_repr_shows_results_expressions_columns_and_types() -> None:
    calculation = Calculation(score=a * b, one=1, s=s).filter(a > 1, s.is_not_null())
    assert repr(calculation) == "\n".join(
        [
            "Calculation",
            '  score = [(col("a")) * (col("b"))]',
            "    reads a, b; type follows from the columns",
            "  one = dyn int: 1",
            "    reads nothing; type follows from the columns",
            '  s = col("s")',
            "    reads s; type follows from the columns",
            '  where [(col("a")) > (dyn int: 1)]',
            '  where col("s").is_not_null()',
        ]
    )
    typed = repr(calculation.with_schema({"a": pl.Int8, "b": pl.Float64, "s": pl.String})).splitlines()
    assert typed[2] == "    reads a, b; type Float64"
    assert typed[6] == "    reads s; type as it is"
    assert typed[-3:] == ["  schema a: Int8", "  schema b: Float64", "  schema s: String"]


def test_repr_shows_integers_as_they_are_evaluated() -> None:
    assert "type Int128" in repr(Calculation(x=a * 2).with_schema({"a": pl.UInt8}))


@pytest.mark.parametrize("make", [Calculation, Calculation.from_sql])
def test_repr_of_nothing(make: Callable[[], Calculation]) -> None:
    assert repr(make()) == "Calculation"


@pytest.mark.parametrize(
    "expr",
    [a.sum(), a.str.to_uppercase()],
    ids=["not row-wise", "wrong type"],
)
def test_repr_never_fails(expr: pl.Expr) -> None:
    text = repr(Calculation(x=expr).with_schema({"a": pl.Int8}))
    assert text.startswith("Calculation\n  x = col(")


# --- preview -------------------------------------------------------------------------------------------------------


def preview(tmp_path: Path, data: bytes, calculation: Calculation, **options: Any) -> pl.DataFrame:
    source = tmp_path / "in.jsonl"
    source.write_bytes(data)
    frame = calculation.preview(source, **options)
    assert list(tmp_path.iterdir()) == [source], "looking writes nothing"
    return frame


def test_preview_is_a_frame_of_the_columns_read_and_the_results(tmp_path: Path) -> None:
    frame = preview(tmp_path, ROWS, Calculation(x=a * b, y=pl.lit("k")))
    assert frame.schema == {"a": pl.Int128, "b": pl.Float64, "x": pl.Float64, "y": pl.String}
    assert frame.rows() == [(1, 2.0, 2.0, "k"), (3, 0.5, 1.5, "k"), (5, 6.0, 30.0, "k")]


@pytest.mark.parametrize(("rows", "height"), [(0, 0), (1, 1), (2, 2), (3, 3), (100, 3)])
def test_preview_has_so_many_rows_at_most(tmp_path: Path, rows: int, height: int) -> None:
    frame = preview(tmp_path, ROWS, Calculation(x=a, y=b * 2), rows=rows)
    assert frame["x"].to_list() == [1, 3, 5][:height]
    assert frame["y"].to_list() == [4, 1, 12][:height]
    assert frame.columns == ["b", "x", "y"], "a column without a type is only there as the result"


def test_preview_shows_ten_rows_unless_told(tmp_path: Path) -> None:
    assert preview(tmp_path, lines(*['{"a":1}'] * 50), Calculation(x=a)).height == 10


def test_preview_reads_on_until_it_has_the_rows(tmp_path: Path) -> None:
    data = b"".join(b'{"a":%d}\n' % number for number in range(40_000))
    frame = preview(tmp_path, data, Calculation(x=a * 2).filter(a % 10_000 == 9_999), rows=4)
    assert frame.rows() == [(number, number * 2) for number in (9_999, 19_999, 29_999, 39_999)]


def test_preview_leaves_out_rejected_filtered_and_blank_lines(tmp_path: Path) -> None:
    data = lines("nope", '{"a":1}', "", '{"a":"x"}', '{"a":2}', '{"a":300}', "[1]", '{"a":3}')
    calculation = Calculation(x=a.cast(pl.UInt8)).filter(a != 2).with_schema({"a": pl.Int16})
    assert preview(tmp_path, data, calculation).rows() == [(1, 1), (3, 3)]


def test_preview_shows_the_result_in_place_of_a_column_of_its_name(tmp_path: Path) -> None:
    frame = preview(tmp_path, ROWS, Calculation(a=s + "!", x=a))
    assert frame.columns == ["s", "a", "x"]
    assert frame.rows() == [("x", "x!", 1), ("y", "y!", 3), (None, None, 5)]


def test_preview_keeps_values_that_output_cannot_spell(tmp_path: Path) -> None:
    frame = preview(tmp_path, lines('{"a":0,"s":"2024-02-29"}'), Calculation(x=1 / a, d=s.str.to_date("%Y-%m-%d")))
    assert frame["x"].to_list() == [float("inf")]
    assert frame["d"].to_list() == [dt.date(2024, 2, 29)]


@pytest.mark.parametrize(
    ("calculation", "height"),
    [
        (Calculation(x=1), 3),
        (Calculation(x=1).filter(pl.lit(True)), 3),  # a literal
        (Calculation(x=1).filter(pl.lit(None)), 0),
        (Calculation(x=1).filter(a > 1), 2),
    ],
)
def test_preview_of_constants_has_a_row_for_each_line(tmp_path: Path, calculation: Calculation, height: int) -> None:
    frame = preview(tmp_path, ROWS, calculation)
    assert frame["x"].to_list() == [1] * height


def test_preview_turns_a_column_to_float_where_a_run_would(tmp_path: Path) -> None:
    data = lines(*['{"a":1}'] * 2000, '{"a":1.5}')
    frame = preview(tmp_path, data, Calculation(x=a * 2), rows=3000)
    assert frame.height == 2001
    assert frame.schema["x"] == pl.Float64
    assert frame["x"].to_list()[-1] == 3.0


@pytest.mark.parametrize("use", ["run", "preview", "compare", "profile"])
def test_a_frame_is_no_input(use: str) -> None:
    calculation, frame = Calculation(x=a), pl.DataFrame({"a": [1]})
    uses: dict[str, Callable[[], object]] = {
        "run": lambda: calculation.run(frame, io.BytesIO()),  # type: ignore[arg-type]
        "preview": lambda: calculation.preview(frame),  # type: ignore[arg-type]
        "compare": lambda: calculation.compare(dict, frame),  # type: ignore[arg-type]
        "profile": lambda: calculation.profile(frame),  # type: ignore[arg-type]
    }
    with pytest.raises(OptionError, match=r"^the input is a path, .+, not DataFrame; write it to a file with \S+$"):
        uses[use]()


def test_preview_of_lines_that_are_all_rejected_fails() -> None:
    with pytest.raises(RejectedError, match="every line was rejected"):
        Calculation(x=a).with_schema({"a": pl.Int64}).preview(io.BytesIO(lines("{", '"a":1', "}")))


def test_preview_of_an_empty_input_has_no_rows(tmp_path: Path) -> None:
    assert preview(tmp_path, b"", Calculation(x=a)).height == 0


def test_preview_reads_what_a_run_reads(tmp_path: Path) -> None:
    assert Calculation(x=a).preview(io.BytesIO(ROWS))["x"].to_list() == [1, 3, 5]
    with pytest.raises(InputError, match="no such file"):
        Calculation(x=a).preview(tmp_path / "absent")


@pytest.mark.parametrize(
    ("calculation", "error"),
    [(Calculation(x=a.sum()), CalculationError), (Calculation(x=pl.col("c")), SchemaError)],
    ids=["not row-wise", "absent column"],
)
def test_preview_refuses_what_a_run_refuses(
    tmp_path: Path, calculation: Calculation, error: type[TransformError]
) -> None:
    with pytest.raises(error) as caught:
        preview(tmp_path, ROWS, calculation)
    assert str(caught.value) == refusal(ROWS, calculation, error)


# --- what a run tells ----------------------------------------------------------------------------------------------


LINES = [
    '{"a":1}',
    '{"a":-1}',
    '{"a":null}',
    "{}",
    '{"a":"x"}',
    '{"a":1.5}',
    "",
    " \t\r",
    "nope",
    "[1]",
    '{"a":1}{}',
    "\xff",
]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from(LINES)),
    chunk_bytes=st.sampled_from([1, 10, 64, 4096]),
    ended=st.booleans(),
)
def test_every_line_is_counted_once(texts: list[str], chunk_bytes: int, *, ended: bool) -> None:
    data = "\n".join(texts).encode("latin-1") + b"\n" * ended
    calculation = Calculation(x=a).filter(a > 0).with_schema({"a": pl.Int8})
    # One good line keeps a run of nothing but bad ones from failing.
    summary = attempt(b'{"a":1}\n' + data, calculation, chunk_bytes=chunk_bytes).summary
    count = len(data.split(b"\n")) - (not data or data.endswith(b"\n"))
    found = data.decode("latin-1").split("\n")[:count]
    assert summary.lines_in == 1 + count
    assert summary.lines_out == 1 + found.count('{"a":1}')
    assert summary.filtered == sum(text in ('{"a":-1}', '{"a":null}', "{}") for text in found)
    assert summary.blank == sum(not text.strip() for text in found)
    assert summary.rejected == sum(reason.count for reason in summary.reject_reasons.values())
    assert summary.lines_out + summary.filtered + summary.rejected + summary.blank == summary.lines_in


def test_summary_has_bytes_reasons_schema_and_time(tmp_path: Path) -> None:
    data = lines('{"a":0,"b":1}', "nope", "", '{"a":1,"b":2}', "no", '{"a":2,"b":"x"}', '{"a":4,"b":null}')
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(data)
    calculation = Calculation(x=1 / a).filter(b.fill_null(5) != 2).with_schema({"b": pl.Int64})
    started = time.perf_counter()
    summary = calculation.run(source, target)
    elapsed = time.perf_counter() - started
    assert (summary.source, summary.target) == (str(source), str(target))
    assert summary.bytes_in == len(data)
    assert summary.bytes_out == target.stat().st_size == len(b'{"a":0,"b":1,"x":null}\n{"a":4,"b":null,"x":0.25}\n')
    assert (summary.lines_in, summary.lines_out, summary.filtered, summary.rejected, summary.blank) == (7, 2, 1, 3, 1)
    assert {kind: (reason.count, reason.first_offset) for kind, reason in summary.reject_reasons.items()} == {
        "not valid JSON": (2, data.index(b"nope")),
        "column `b`: expected an integer, found a string": (1, data.index(b'{"a":2')),
    }
    assert summary.nonfinite == {"x": 1}
    assert summary.schema == {"a": ("Int128", "inferred"), "b": ("Int64", "declared")}
    assert summary.rejects == f"{target}.rejects.jsonl"
    assert len(summary.first_rejects) == 3
    assert summary.first_rejects[0].startswith(f"line 2 (offset {data.index(b'nope')}): not valid JSON")
    assert 0 < summary.seconds <= elapsed
    assert summary.mb_per_s == pytest.approx(len(data) / 1e6 / summary.seconds)
    plain = json.loads(json.dumps(summary.to_dict()))
    assert plain["schema"] == {"a": {"type": "Int128", "from": "inferred"}, "b": {"type": "Int64", "from": "declared"}}
    assert plain["reject_reasons"]["not valid JSON"] == {"count": 2, "first_offset": data.index(b"nope")}
    assert plain["mb_per_s"] == summary.mb_per_s


def test_summary_without_rejects_names_no_place_for_them() -> None:
    outcome = attempt(ROWS, Calculation(x=a))
    assert outcome.summary.rejects is None
    assert outcome.summary.reject_reasons == {}
    assert outcome.summary.nonfinite == {}


def test_summary_of_a_stream_says_that_rejects_were_not_kept() -> None:
    target = io.BytesIO()
    summary = Calculation(x=a).run(io.BytesIO(b'{"a":1}\n' + b"nope\n" * 5), target)
    assert target.getvalue() == b'{"a":1,"x":1}\n'
    assert (summary.rejected, summary.rejects, len(summary.first_rejects)) == (5, None, 3)
    assert summary.bytes_out == len(target.getvalue())


def test_progress_is_told_after_each_chunk(tmp_path: Path) -> None:
    data = ROWS * 500
    (tmp_path / "in.jsonl").write_bytes(data)
    told: list[tuple[int, int | None]] = []
    Calculation(x=a).with_schema({"a": pl.Int64}).run(
        tmp_path / "in.jsonl", tmp_path / "out", chunk_bytes=1000, progress=lambda done, size: told.append((done, size))
    )
    assert len(told) > 10
    assert told == sorted(told)
    assert {size for _, size in told} == {len(data)}
    assert told[-1][0] == len(data)


@pytest.mark.parametrize("percent", [1, 28, 29, 57, 58, 99])  # 29 / 100 * 100 is less than 29
def test_share_of_rejects_is_borne_that_is_just_as_large(percent: int) -> None:
    policy = Policy.from_options("reject", f"{percent}%")
    policy.check_all(Summary(lines_in=100, rejected=percent))
    with pytest.raises(RejectedError, match=rf"^{percent + 1} of 101 lines were rejected"):
        policy.check_all(Summary(lines_in=101, rejected=percent + 1, blank=0))


def test_empty_calculation_is_refused() -> None:
    message = refusal(ROWS, Calculation().with_schema({}), CalculationError)
    assert message.startswith("there is nothing to ")
    assert "give an expression" in message


@pytest.mark.parametrize(
    "options",
    [{"on_error": "stop"}, {"max_rejects": "some"}, {"source": 3}, {"source": io.StringIO("{}")}, {"target": 3}],
    ids=["on_error", "max_rejects", "a number as source", "a text stream as source", "a number as target"],
)
def test_wrong_argument_is_answered_with_an_error_of_the_hierarchy(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "in.jsonl").write_bytes(ROWS)
    with pytest.raises(TransformError):
        Calculation(x=a).run(**{"source": tmp_path / "in.jsonl", "target": tmp_path / "out.jsonl"} | options)


# --- errors on single rows -----------------------------------------------------------------------------------------


FAILING: dict[str, tuple[pl.Expr, list[str], str]] = {
    "date": (s.str.to_date("%Y-%m-%d"), ['"2024-02-30"', '"x"', '""'], "conversion from `str` to `date` failed"),
    "cast": (s.cast(pl.Int64), ['"1.5"', '"x"'], "conversion from `str` to `i64` failed"),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("chunk_bytes", [1, 70, 2 << 20])
def test_row_that_polars_fails_on_is_rejected_alone(name: str, chunk_bytes: int) -> None:
    expr, bad, reason = FAILING[name]
    good = {"date": '"2024-02-29"', "cast": '"7"'}[name]
    texts = [good, bad[0], "null", good, *bad[1:], good, bad[-1]]
    data = lines(*(f'{{"s":{text}}}' for text in texts))
    outcome = attempt(data, Calculation(x=expr), chunk_bytes=chunk_bytes)
    expected = {"date": "2024-02-29", "cast": 7}[name]
    assert outcome.values("x") == [expected, None, expected, expected]
    numbers = [number for number, text in enumerate(texts, 1) if text in bad]
    assert [reject["line"] for reject in outcome.rejects] == numbers
    assert [reject["raw"] for reject in outcome.rejects] == [f'{{"s":{texts[number - 1]}}}' for number in numbers]
    assert all(text.startswith(f"the calculation failed: {reason}") for text in outcome.reasons)
    assert outcome.summary.reject_reasons["the calculation failed"].count == len(numbers)


def test_row_that_a_filter_drops_does_not_fail() -> None:
    outcome = attempt(lines('{"a":300}', '{"a":2}'), Calculation(x=a.cast(pl.UInt8)).filter(a < 256))
    assert outcome.rows == [{"a": 2, "x": 2}]
    assert (outcome.summary.filtered, outcome.summary.rejected) == (1, 0)


def test_row_that_a_filter_fails_on_is_rejected() -> None:
    outcome = attempt(lines('{"a":300}', '{"a":2}', '{"a":20}'), Calculation().filter(a.cast(pl.UInt8) < 10))
    assert outcome.output == b'{"a":2}\n'
    assert (outcome.summary.filtered, outcome.summary.rejected) == (1, 1)
    assert outcome.reasons[0].startswith("the calculation failed: conversion from `i128` to `u8` failed")


def test_reason_is_about_the_one_row() -> None:
    data = lines('{"s":"7"}', '{"s":"x, y"}')
    outcome = attempt(data, Calculation(x=s.cast(pl.Int64)))
    assert outcome.reasons == [
        "the calculation failed: conversion from `str` to `i64` failed in column 's': \"x, y\"",
    ]


def test_rows_around_failing_ones_keep_counts_and_order() -> None:
    texts = [str(number) if number % 7 else f"x{number}" for number in range(200)]
    data = lines(*(f'{{"s":"{text}","a":{number % 3}}}' for number, text in enumerate(texts)))
    outcome = attempt(data, Calculation(x=s.cast(pl.Int64), y=1 / a).filter(a < 2))
    kept = [number for number in range(200) if number % 3 < 2 and number % 7]
    assert outcome.values("x") == kept
    assert [reject["line"] - 1 for reject in outcome.rejects] == [n for n in range(0, 200, 7) if n % 3 < 2]
    assert outcome.summary.filtered == sum(number % 3 == 2 for number in range(200))
    assert outcome.summary.nonfinite == {"y": sum(number % 3 == 0 for number in kept)}


def test_run_in_which_the_calculation_fails_on_every_line_fails(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines('{"s":"x"}', '{"s":"y"}'))
    with pytest.raises(TransformError, match=r"^every line was rejected \(2 × the calculation failed\)"):
        Calculation(x=s.cast(pl.Int64)).run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


# --- where results go ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"a":1}', '{"a":2}'),
        ('{"a":1,"b":[1.50]}', '{"a":2,"b":[1.50]}'),
        ('{ "b" : {"a":9} ,\t"a" :  1  , "c":"}"}  ', '{ "b" : {"a":9} ,\t"a" :  2  , "c":"}"}  '),
        ('{"a":7,"b":0,"a":1}', '{"a":7,"b":0,"a":2}'),
        (r'{"\u0061":1}', r'{"\u0061":2}'),
        (r'{"a":7,"\u0061":1}', r'{"a":7,"\u0061":2}'),
        (r'{"\u0061":7,"a":1}', r'{"\u0061":7,"a":2}'),
        ('{"a":null}', '{"a":null}'),
        ('{"b":0}', '{"b":0,"a":null}'),
        ("{}", '{"a":null}'),
        ("{ }", '{ "a":null}'),
        (" {\t} \r", ' {\t"a":null} \r'),
    ],
)
def test_result_replaces_the_last_member_of_its_name_or_is_appended(line: str, expected: str) -> None:
    calculation = Calculation(a=a + 1).with_schema({"a": pl.Int64})
    assert attempt(lines(line), calculation).output == lines(expected)


def test_results_replace_and_are_appended_in_one_line() -> None:
    data = lines('{"a":1,"x":"old","z":{"y":0}}', '{"y":1,"a":2}', '{"a":3}')
    outcome = attempt(data, Calculation(x=a, y=a * 10, w=a * 100))
    assert outcome.output == lines(
        '{"a":1,"x":1,"z":{"y":0},"y":10,"w":100}', '{"y":20,"a":2,"x":2,"w":200}', '{"a":3,"x":3,"y":30,"w":300}'
    )


def test_replaced_value_may_be_of_any_kind_and_is_not_read() -> None:
    old = ['"}"', "[[],{}]", '{"x":"\\""}', "1e999", "9" * 200, '"\\ud800"', "true", "null"]
    data = lines(*(f'{{"x": {text} ,"a":1}}' for text in old))
    assert attempt(data, Calculation(x=a)).output == lines(*['{"x": 1 ,"a":1}'] * len(old))


def test_results_may_be_arrays_and_objects_in_place() -> None:
    data = lines('{"x":0,"a":1,"s":"é"}', '{"a":2,"s":null}')
    outcome = attempt(data, Calculation(x=pl.struct(s, l=pl.concat_list(a, a))))
    assert (
        outcome.output
        == '{"x":{"s":"é","l":[1,1]},"a":1,"s":"é"}\n{"a":2,"s":null,"x":{"s":null,"l":[2,2]}}\n'.encode()
    )


def test_expressions_see_the_input_line_and_never_each_others_results() -> None:
    outcome = attempt(lines('{"a":1,"b":2}'), Calculation(a=b, b=a, c=a + b).filter(a == 1))
    assert outcome.output == lines('{"a":2,"b":1,"c":3}')


@pytest.mark.parametrize(
    ("predicate", "kept"),
    [(a > 1, [1, 2]), (s.is_null(), [2]), (pl.lit(True), [0, 1, 2]), (pl.lit(False), []), (pl.lit(None), [])],
    ids=str,
)
def test_filters_alone_keep_lines_as_they_are(predicate: pl.Expr, kept: list[int]) -> None:
    data = b' {"b":1.50, "a":1,"s":"\\u0078"} \r\n{"a":3,"s":"","a":2}\n\n{"a":4}'
    rows = [line for line in data.splitlines(keepends=True) if line.strip()]
    outcome = attempt(data, Calculation().filter(predicate))
    assert outcome.output == b"".join(rows[at] for at in kept)
    assert outcome.summary.filtered == 3 - len(kept)


@pytest.mark.parametrize(
    ("predicate", "dtype"), [(a, "Int128"), (s, "String"), (pl.lit(1), "Int32"), (a + b, "Float64")], ids=str
)
def test_filter_that_is_not_true_or_false_is_refused(predicate: pl.Expr, dtype: str) -> None:
    message = refusal(ROWS, Calculation(x=a).filter(predicate), CalculationError)
    assert message.startswith(f"the filter `{predicate}` gives {dtype}, not true or false: write a comparison")


# --- what polars refuses -------------------------------------------------------------------------------------------


REFUSED: dict[str, Calculation] = {
    "sum of text and number": Calculation(x=s + 1),
    "list of a number": Calculation(x=a.list.first()),
    "absent field": Calculation(x=pl.struct("a").struct.field("z")),
    "SQL product with text": Calculation.from_sql("s * 2 AS x"),
    "product of texts": Calculation(x=s * s),
    "text function of a number": Calculation(x=a.str.to_uppercase()),
    "SQL function of a number": Calculation.from_sql("upper(a) AS x"),
    "comparison of text and number": Calculation().filter(s > 1),
    "SQL comparison of text and number": Calculation.from_sql(where="s > 1"),
}


@pytest.mark.parametrize("calculation", REFUSED.values(), ids=REFUSED)
def test_expression_that_polars_refuses_is_answered_in_a_line(calculation: Calculation) -> None:
    message = refusal(ROWS, calculation, CalculationError)
    assert re.match(r"polars refuses `|`.*` is refused: `", message)


# --- row-wise ------------------------------------------------------------------------------------------------------


NOT_ROW_WISE: dict[str, pl.Expr] = {
    "sum": a.sum(),
    "mean": a.mean(),
    "max": a.max(),
    "first": a.first(),
    "n_unique": a.n_unique(),
    "cum_sum": a.cum_sum(),
    "shift": a.shift(),
    "diff": a.diff(),
    "rank": a.rank(),
    "over": a.sum().over("s"),
    "over itself": a.over("a"),
    "len": pl.len(),
    "minus mean": a - a.mean(),
    "clip with mean": a.clip(a.mean(), 5),
    "fill with mean": a.fill_null(a.mean()),
    "otherwise len": pl.when(a > 1).then(2).otherwise(pl.len()),
    "within a struct": pl.struct(x=a.sum()),
    "within a list": pl.concat_list(a, a.max()),
    "within a format": pl.format("{} of {}", a, a.max()),
    "sort": a.sort(),
    "reverse": a.reverse(),
    "unique": a.unique(),
    "head": a.head(1),
    "filter": a.filter(b > 1),
    "is_duplicated": a.is_duplicated(),
    "is_first_distinct": a.is_first_distinct(),
    "forward fill": a.forward_fill(),
    "interpolate": a.interpolate(),
    "rolling": a.rolling_mean(2),
    "ewm": b.ewm_mean(alpha=0.5),
    "implode": a.implode(),
    "value_counts": a.value_counts(),
    "row number": pl.int_range(pl.len()),
    "repeat": pl.repeat(1, 3),
    "shuffle": a.shuffle(),
    "sample": a.sample(1),
    "correlation": pl.corr(a, b),
    "Series": pl.lit(pl.Series([1, 2, 3])),
    "plus Series": a + pl.Series([1, 2, 3]),
    "format guessed from the first values": s.str.to_date(),
}


@pytest.mark.parametrize("expr", NOT_ROW_WISE.values(), ids=NOT_ROW_WISE)
@pytest.mark.parametrize("place", ["result", "filter"])
def test_expression_that_looks_at_other_lines_is_refused(expr: pl.Expr, place: str) -> None:
    calculation = Calculation(x=expr) if place == "result" else Calculation(x=a).filter(expr.is_not_null())
    message = refusal(ROWS, calculation, CalculationError)
    assert message.startswith("`")
    assert "` is not row-wise: " in message
    assert "line" in message.partition("is not row-wise")[2], "it says what that means"


@pytest.mark.parametrize(
    "text",
    [
        "sum(a) AS x",
        "count(*) AS x",
        "count(a) AS x",
        "avg(a) AS x",
        "a - avg(a) AS x",
        "max(a) AS x",
        "sum(a * b) AS x",
        "row_number() OVER (ORDER BY a) AS x",
        "CASE WHEN a > 1 THEN 1 ELSE max(a) END AS x",
    ],
)
def test_sql_that_looks_at_other_lines_is_refused(text: str) -> None:
    with pytest.raises(CalculationError, match=r"` is not row-wise: "):
        Calculation.from_sql(text)
    with pytest.raises(CalculationError, match=r"` is not row-wise: "):
        Calculation.from_sql("a", where=text.removesuffix(" AS x") + " > 1")


def test_expression_is_refused_where_types_are_declared_too() -> None:
    calculation = Calculation(x=a - a.mean()).with_schema({"a": pl.Float64})
    assert "` is not row-wise: " in refusal(ROWS, calculation, CalculationError)


def test_refusal_removes_nothing_that_an_earlier_run_left(tmp_path: Path) -> None:
    source, target, rejects = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "out.jsonl.rejects.jsonl"))
    source.write_bytes(ROWS)
    target.write_bytes(OLD)
    rejects.write_bytes(OLD)
    with pytest.raises(CalculationError):
        Calculation(x=a.sum()).run(source, target)
    assert (target.read_bytes(), rejects.read_bytes()) == (OLD, OLD)
    assert len(list(tmp_path.iterdir())) == 3


ROW_WISE: dict[str, tuple[pl.Expr, list[object]]] = {
    "arithmetic": ((a + 1) * 2 - a // 2, [4, 7, 10]),
    "condition": (pl.when(a > 1).then(a).otherwise(0), [0, 3, 5]),
    "horizontal": (pl.max_horizontal(a, b), [2.0, 3.0, 6.0]),
    "coalesce": (pl.coalesce(s, pl.lit("none")), ["x", "y", "none"]),
    "membership": (a.is_in([1, 5]), [True, False, True]),
    "clip": (a.clip(2, 4), [2, 3, 4]),
    "text": (s.str.to_uppercase() + "!", ["X!", "Y!", None]),
    "format": (pl.format("{}-{}", a, s), ["1-x", "3-y", None]),
    "lists": (pl.concat_list(a, a * 2).list.sum(), [3, 9, 15]),
    "struct": (pl.struct(p=a).struct.field("p"), [1, 3, 5]),
    "within a list": (pl.concat_list(a, a + 1).list.eval(pl.element().rank()), [[1.0, 2.0]] * 3),
    "constant": (pl.lit("k"), ["k"] * 3),
}


@pytest.mark.parametrize(("expr", "values"), ROW_WISE.values(), ids=ROW_WISE)
@pytest.mark.parametrize("chunk_bytes", [1, 2 << 20])
def test_expression_of_the_lines_own_members_gives_the_same_whatever_the_chunks(
    expr: pl.Expr, values: list[object], chunk_bytes: int
) -> None:
    assert attempt(ROWS, Calculation(x=expr), chunk_bytes=chunk_bytes).values("x") == values


@pytest.mark.parametrize(
    ("calculation", "values"),
    [
        (Calculation(x=(a + b) / (a + b)), [1.0, 1.0, 1.0]),
        (Calculation.from_sql("CASE WHEN a * b > 2 THEN a * b ELSE 0 END AS x"), [0.0, 0.0, 30.0]),
        (Calculation(x=pl.struct(p=a * 2, q=(a * 2).cast(pl.String)).struct.field("q")), ["2", "6", "10"]),
    ],
    ids=["python", "sql", "struct"],
)
def test_expression_may_hold_the_same_part_twice(calculation: Calculation, values: list[object]) -> None:
    assert attempt(ROWS, calculation).values("x") == values


def test_expression_may_look_values_up() -> None:
    outcome = attempt(ROWS, Calculation(x=s.replace_strict({"x": 1, "y": 2}, default=0), y=a.replace({1: 10})))
    assert outcome.values("x") == [1, 2, 0]
    assert outcome.values("y") == [10, 3, 5]


@pytest.mark.parametrize("text", ["NOW() AS x", "CURRENT_TIMESTAMP AS x", "CURRENT_DATE AS x"])
def test_clock_is_refused(text: str) -> None:
    with pytest.raises(CalculationError):
        attempt(ROWS, Calculation.from_sql(text))


# --- load ----------------------------------------------------------------------------------------------------------


FILE = """
from transform import Calculation
import polars as pl

calculation = Calculation(x=pl.col("a"))
score = Calculation(y=pl.col("a") * 2)
number = 3
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to load from, which is the current one; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def loaded(reference: str) -> Calculation:
    found = load(reference)
    assert isinstance(found, Calculation)
    return found


def test_calculation_is_loaded_from_a_file_by_name_or_under_the_default_name(directory: Path) -> None:
    write(directory, calc=FILE)
    path = list(sys.path)
    for place in ("calc.py", "./calc.py", str(directory / "calc.py")):
        assert loaded(place).results == ("x",)
        assert loaded(f"{place}:score").results == ("y",)
    assert sys.path == path


def test_calculation_is_loaded_from_a_module_of_the_current_directory(directory: Path) -> None:
    write(directory, pack__mod=FILE, single=FILE)
    path = list(sys.path)
    assert loaded("pack.mod").results == ("x",)
    assert loaded("pack.mod:score").results == ("y",)
    assert loaded("single:score").results == ("y",)
    assert sys.path == path


def test_file_may_import_its_neighbour_wherever_one_stands(directory: Path) -> None:
    (directory / "deep").mkdir()
    write(directory / "deep", neighbour_of_calc="NAME = 'b'\n")
    write(
        directory / "deep",
        calc="import polars as pl\nfrom neighbour_of_calc import NAME\nfrom transform import Calculation\n"
        "calculation = Calculation(x=pl.col(NAME))\n",
    )
    assert loaded("deep/calc.py").columns == ("b",)
    assert attempt(ROWS, loaded(str(directory / "deep/calc.py"))).values("x") == [2.0, 0.5, 6.0]


def test_loading_again_sees_the_file_as_it_is_now(directory: Path) -> None:
    write(directory, calc=FILE)
    assert loaded("calc.py").results == ("x",)
    write(directory, calc=FILE.replace("x=", "z="))
    assert loaded("calc.py").results == ("z",)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("absent.py", "absent.py: no such file"),
        ("absent.py:score", "absent.py: no such file"),
        ("absent/calc.py", "absent/calc.py: no such file"),
        ("calc.py:scroe", "calc.py has no `scroe`. Did you mean `score`?"),
        ("calc.py:zzz", "calc.py has no `zzz`. It has `calculation`, `score`."),
        ("empty.py", "empty.py has no `calculation`."),
        ("absent", "there is no module `absent`; a file is named with its suffix, as path/file.py:name"),
        ("absent.mod:x", "there is no module `absent.mod`; a file is named with its suffix, as path/file.py:name"),
        ("pack.absent:x", "there is no module `pack.absent`; a file is named with its suffix, as path/file.py:name"),
        ("pack.mod:scroe", "pack.mod has no `scroe`. Did you mean `score`?"),
        ("data.jsonl", "data.jsonl is not a Python file; a calculation is in one, path/file.py"),
        ("calc.txt", "there is no module `calc.txt`; a file is named with its suffix, as path/file.py:name"),
    ],
)
def test_reference_to_nothing_is_answered(directory: Path, reference: str, message: str) -> None:
    write(directory, calc=FILE, empty="", pack__mod=FILE)
    (directory / "data.jsonl").write_text("{}")
    with pytest.raises(CalculationError) as caught:
        load(reference)
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "kind"), [("number", "int"), ("pl", "module"), ("Calculation", "")])
def test_reference_to_something_else_is_answered_with_an_example(directory: Path, name: str, kind: str) -> None:
    write(directory, calc=FILE)
    with pytest.raises(CalculationError) as caught:
        load(f"calc.py:{name}")
    what, _, example = str(caught.value).partition("; write for example: ")
    assert what.startswith(f"`{name}` in calc.py is ")
    assert kind in what
    assert example.startswith(f"{name} = Calculation(")


RAISING: dict[str, tuple[str, str]] = {
    "calc.py": ("\n\nx = 1 / 0\n", "ZeroDivisionError: division by zero (line 3)"),
    "by_function.py": ("def f():\n    return {}['k']\n\n\nf()\n", "KeyError: 'k' (line 2)"),
    "by_import.py": ("\nimport nothing_of_that_name\n", "No module named 'nothing_of_that_name' (line 2)"),
    "grammar.py": ("x = 1\ny = (\n", "SyntaxError: '(' was never closed (line 2)"),
}


@pytest.mark.parametrize("name", RAISING)
def test_file_that_raises_is_answered_with_error_and_line(directory: Path, name: str) -> None:
    text, expected = RAISING[name]
    write(directory, **{name.removesuffix(".py"): text})
    for reference in (name, f"{directory / name}:score"):
        with pytest.raises(CalculationError) as caught:
            load(reference)
        assert str(caught.value).startswith(f"{reference.removesuffix(':score')} does not load: ")
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None, "who needs the traceback has it"


@pytest.mark.parametrize("reference", ["./calc.py", "pack.mod"])
def test_line_of_the_error_is_told_however_the_file_is_named(directory: Path, reference: str) -> None:
    write(directory, calc="\n\n1 / 0\n", pack__mod="\n\n1 / 0\n")
    with pytest.raises(CalculationError, match=r"ZeroDivisionError: division by zero \(line 3\)$"):
        load(reference)


def test_error_in_a_neighbour_is_told_with_the_line_that_imports_it(directory: Path) -> None:
    write(directory, failing_neighbour="\n\n\n1 / 0\n", calc="\nimport failing_neighbour\n")
    with pytest.raises(CalculationError, match=r"^calc.py does not load: ZeroDivisionError: .*\(line 2\)$"):
        load("calc.py")


def test_calculation_refused_in_a_file_is_told_with_file_and_line(directory: Path) -> None:
    write(directory, calc=FILE + "\nbad = Calculation(pl.col('a') * 2)\n")
    with pytest.raises(CalculationError, match=r"needs a name.*") as caught:
        load("calc.py")
    assert "calc.py" in str(caught.value)
    assert "line 9" in str(caught.value)


def test_file_that_exits_does_not_load(directory: Path) -> None:
    write(directory, calc="import sys\nsys.exit(0)\n")
    with pytest.raises(CalculationError):
        load("calc.py")


def test_file_is_not_run_as_the_main_program(directory: Path) -> None:
    write(directory, calc=FILE + "\nif __name__ == '__main__':\n    raise RuntimeError\n")
    assert loaded("calc.py").results == ("x",)
