"""SQL that is refused: the message names the piece, and says how to write it."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import itertools
import json
import re
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform import Calculation, CalculationError, TransformError
from transform.decode.near_names import name_hint
from transform.expressions.sql_functions import ADVISED, AGGREGATES, FUNCTIONS, WINDOWS, objection
from transform.expressions.sql_tokens import pieces, shown, tokens

LINE: dict[str, Any] = {"a": 1, "b": True, "s": "x.y", "ID": 3, "a.b": 4, "first name": 5, "my-key": 6, "order": 7}
LINE |= {"l": [1, 2], "lo": [{"k": 1}], "o": {"k": {"m": 1}}, "t": "2024-11-28 23:59:00.312"}


def refusal(text: str) -> str:
    """Return the message with which a text is refused, before a line is transformed."""
    with pytest.raises(TransformError) as caught:
        Calculation.from_sql(text).preview(io.BytesIO(json.dumps(LINE).encode()))
    message = str(caught.value)
    assert "\n" not in message
    assert not re.search(r"Ident ?[({]|Span|sql parser error|\w \{ \w+:", message), "the words of the parser"
    return message


def value(text: str) -> Any:
    calculation = Calculation.from_sql(f"{text} AS r").select("r")
    output = io.BytesIO()
    calculation.run(io.BytesIO(json.dumps(LINE).encode()), output)
    return json.loads(output.getvalue())["r"]


KEYWORDS = [name for (name,) in duckdb.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
KEYWORDS += ["user", "current_user", "session_user", "value", "key", "index", "level", "type", "date", "timestamp"]
CONSTANTS = {"true", "false", "null"}
CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}


def test_a_keyword_is_a_name_or_the_message_says_to_quote_it() -> None:
    for name in {*KEYWORDS} - CONSTANTS - CLOCKS:
        try:
            assert Calculation.from_sql(f"{name} AS r").columns == (name,)
        except CalculationError as error:
            assert f'is written `"{name}"`' in str(error)  # noqa: PT017 - one of both
        assert Calculation.from_sql(f'"{name}" AS r').columns == (name,)


SAID = {
    "first name AS r": 'is written `"first name"`, in double quotes',
    "first name": 'is written in double quotes: `"first name"`',
    "2nd AS r": 'is written `"2nd"`, in double quotes',
    "a b": "write `AS b` if it is the name of the result, or a comma before it",
    "a AS r b AS q": "`b` is not expected there: is a comma, an operator or AS missing before it?",
    "a AS": "there is no name after AS",
    "AS r": "there is no expression before AS",
    "a * 2": "`a * 2` needs a name for its result",
    "UPPER(s), b": "`UPPER(s)` needs a name for its result",
    "a + AS r": "there is nothing after the operator before AS",
    "(a + 1 AS r": "the bracket `(` is not closed",
    "a + 1) AS r": "the bracket `)` closes none",
    "[a) AS r": "closes none",
    "a,,b": "has no expression before a comma",
    "a AS r;": "without `;`",
    "SELECT a": "without SELECT",
    "a AS r FROM t": "without FROM",
    "WHERE a > 1": "with -w (--where), or where=… in Python",
    "a AS r WHERE b": "with -w (--where), or where=… in Python",
    "a AS r ORDER BY a": "lines keep their order",
    "a AS r GROUP BY a": "lines are not grouped",
    "a AS r LIMIT 3": "all lines are transformed",
    "*": "name the members that are meant",
    "o.* AS r": "name the members that are meant",
    "DISTINCT a AS r": "DISTINCT looks at other lines",
    "a && b AS r": "write `AND`",
    "a ^ 2 AS r": "write `POWER(a, 2)`",
    "a ** 2 AS r": "write `POWER(a, 2)`",
    "a DIV 3 AS r": "write `DIV(a, 3)` or `a // 3`",
    "a << 1 AS r": "in place of a shift",
    "a ? 1 : 2 AS r": "CASE WHEN a THEN b ELSE c END",
    "CASE WHEN b THEN 1 AS r": "CASE has no END",
    "a BETWEEN 1 AS r": "a BETWEEN 1 AND 9",
    "a IN 1 AS r": "the values of IN are in parentheses",
    "a ISNULL AS r": "write `IS NULL`",
    "s SIMILAR TO 'x' AS r": "in place of SIMILAR TO",
    "s LIKE t AS r": "the pattern of LIKE must be a text",
    "s LIKE 'x' ESCAPE '!' AS r": "LIKE has no ESCAPE here",
    "TRIM(s, 'x') AS r": "TRIM(BOTH 'x' FROM s)",
    "LPAD(s, 9, 'ab') AS r": "is one character",
    "lo[1].k AS r": "`l[1] -> 'k'`",
    "INTERVAL '200000 days' AS r": "is longer than 292 years; write a product",
    "DATE '2024-01-01' - INTERVAL '1 second' AS r": "write TIMESTAMP in place of DATE",
    "lo.k AS r": "lo[1] -> 'k' in SQL, and pl.col('lo').list.get(0, null_on_oob=True).struct.field('k') in Python",
    "l[1:2] AS r": ".list.slice(0, 2)",
    "[a, 2] AS r": "pl.concat_list('a', 'b')",
    "{'a': a} AS r": "pl.struct('a', 'b')",
    "a::json AS r": ".str.json_decode(dtype)",
    "CAST(a AS foo) AS r": "there is no type foo",
    "E'x' AS r": "plain single quotes",
    ":a AS r": "there are no parameters",
    "a IS DISTINCT FROM 2 AND b AS r": "put `a IS DISTINCT FROM b` in parentheses before AND",
    "MD5(s) AS r": "there is no function `MD5`: write `SHA256(s)`, or `HMAC_SHA256(s)` with a key; or call hashlib",
    "DATE_TRUNC('day', s) AS r": "there is no function `DATE_TRUNC`: in Python, .dt.truncate('1d')",
    "LOG(a, 2) AS r": "`LN(x) / LN(base)`",
    "ARRAY_MEAN(l) AS r": ".list.agg(pl.element().mean())",
    "lenght(s) AS r": "there is no function `lenght`: did you mean `LENGTH`?",
    "frobnicate(s) AS r": "there is no function `frobnicate`. docs/semantics.md lists",
    '"md5"(s) AS r': "there is no function `md5`",
    "EXTRACT(epoch FROM s) AS r": "EPOCH is null for dates before 1677",
    "DATE_PART('epoch', s) AS r": "EPOCH is null for dates before 1677",
    "UNNEST(l) AS r": "a line stays one line",
    "MAX(a) AS r": "is not row-wise: `MAX` is an aggregate of a whole column",
    "COUNT(*) AS r": "is not row-wise: `COUNT` is an aggregate of a whole column",
    "SUM(a) OVER () AS r": "is not row-wise: `OVER` looks at other rows",
    "(SELECT 1) AS r": "is not row-wise: it is a query of its own",
    "a = NULL AS r": "write IS NULL or IS NOT NULL in SQL",
    "NULL <> a AS r": "write IS NULL or IS NOT NULL in SQL",
    "a BETWEEN NULL AND 3 AS r": "write IS NULL or IS NOT NULL in SQL",
    "a NOT IN (a, NULL) AS r": "write IS NULL or IS NOT NULL in SQL",
    "CASE a WHEN NULL THEN 1 END AS r": "write IS NULL or IS NOT NULL in SQL",
    "NULLIF(a, NULL) AS r": "write IS NULL or IS NOT NULL in SQL",
    "CASE WHEN NULL THEN 1 END AS r": "has a condition that is always null",
    "s ~ '(?=x)' AS r": "look-ahead and look-behind",
    "REGEXP_LIKE(s, '(?<=x)y') AS r": "look-ahead and look-behind",
    r"s RLIKE '(x)\1' AS r": "references back to a group",
    "REGEXP_REPLACE(s, '(x', '') AS r": "a `(` is not closed",
    "TIMESTAMP(t, '%Y-%m-%d %H:%M:%S.%f') AS r": "`%S%.f` in place of `%S.%f`",
    "STRFTIME(STRPTIME(t, '%Y-%m-%d'), '%f') AS r": "`%3f`, `%6f` or `%9f`",
    "STRFTIME(DATE(t, '%Y-%m-%d'), '%H:%M') AS r": "but a Date has no hours",
    "lo[1] -> 'k' * 2 AS r": "put the path in parentheses, as in `(l[1] -> 'price') * 2`",
    "o ->> 'k' || 'x' AS r": "put the path in parentheses",
    "STRFTIME('%Y', t) AS r": "the format comes second",
    "a = 200 AND": "there is nothing after `AND`",
    "a IN": "there is nothing after `IN`",
    "a NOT IN": "there is nothing after the last operator",
    "a +": "there is nothing after the last operator",
    "LIKE 'a'": "there is nothing before `LIKE`",
    "s contains 'a'": "write `path LIKE '%a%'`",
    "s startswith 'a' AS r": "write `STARTS_WITH(path, 'a')`",
    "a in [200]": "the values of IN are in parentheses",
    "[order id] AS r": "a name is written in double quotes, not in brackets",
    "s IS 'curl'": "write `=` or `<>` to compare with a text",
    "a IS 200 AS r": "write `=` or `<>` to compare with a number",
    "a === 200 AS r": "write `=` in place of `===`",
    "a !== 200 AS r": "`<>` in place of `!==`",
    "s = ‘x’ AS r": "quotes are straight",
    "“s” AS r": "quotes are straight",
    "s ~ /a/ AS r": "a pattern is a text in single quotes",
    "'it's' AS r": "a single quote within a text is doubled: `'it''s'`",
    "'it's a dog's' AS r": "a single quote within a text is doubled",
    "r: a*2": "a result is named with AS, after its expression",
    "o['k'] AS r": "a member of an object is written `o.k`",
    "a::foo AS r": "there is no type foo",
    "a = (1, 2) AS r": "expressions of this kind (Tuple) are not supported",
    "STRPTIME(t, s) AS r": "a text in quotes or a number is needed",
    "INTERVAL a day AS r": "a text in quotes or a number is needed",
    "a = 200 OR 404 AS r": "`404` beside AND or OR is true for every line",
    "b AND 2.5 AS r": "beside AND or OR",
    "DATE(t, 'yyyy-mm-dd') AS r": "which has no directive",
    "DATE(t, '%Y-%m-%i') AS r": "there is no directive `%i`: minutes are `%M`",
}


@pytest.mark.parametrize(("text", "said"), SAID.items())
def test_a_message_says_what_to_write(text: str, said: str) -> None:
    message = refusal(text)
    assert said in message
    assert text in message or not message.startswith("polars does not understand"), "the piece at fault"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'md5(x) ''sum(a)''' || '--'", "md5(x) 'sum(a)'--"),
        ("a /* md5(s), SELECT */ + 1 -- sum(a)\n", 2),
        ('"a.b" + "first name" + "order"', 16),
        ("$$sum(a)$$", "sum(a)"),
        ("a == 1 AND b", True),
        ("a IN (NULL, 1)", True),
        ("a NOT IN (2, NULL)", None),
        ("a + NULL", None),
        ("a IS NOT TRUE OR NOT b", False),
        ("(a > 5) IS UNKNOWN", False),
        ("lo[1] -> 'k'", 1),
        ("STRPOS(s, '.')", 2),
        ("TIMESTAMP(t, '%Y-%m-%d %H:%M:%S%.f')", "2024-11-28T23:59:00.312000"),
    ],
)
def test_text_that_looks_refused_and_is_not(text: str, found: Any) -> None:
    assert value(text) == found


def test_names_of_functions_are_refused_wherever_they_are_called() -> None:
    for text in ("1 + {}(s)", "UPPER({}(s))", "CASE WHEN {}(s) = 'x' THEN 1 END", "{} (s)", "-- x\n{}/* x */(s)"):
        assert "there is no function `md5`" in refusal(text.format("md5") + " AS r")


def test_whatever_is_not_taken_is_refused() -> None:
    assert not FUNCTIONS & (AGGREGATES | WINDOWS)
    rows = duckdb.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    for (name,) in rows:
        assert (objection(name) is None) == (name in FUNCTIONS)


@pytest.mark.parametrize("name", ["status*2 AS s", "status*2", "status = 200", "UPPER(s)", "a || b", "a - b", "NOT b"])
def test_sql_where_a_name_is_meant_leads_to_from_sql(name: str) -> None:
    for calculation in (Calculation(name), Calculation(s=name), Calculation("a").filter(name)):
        with pytest.raises(TransformError, match=r"no column .* write Calculation\.from_sql\(…, where=…\)"):
            calculation.preview(io.BytesIO(b'{"a":1}'))
    line = json.dumps({name: 1}).encode()
    assert Calculation(r=name).preview(io.BytesIO(line)).columns == ["r"], "a member can have such a name"


def test_values_that_are_no_expressions_lead_to_what_to_write() -> None:
    for value in (dt.date(2024, 1, 1), np.int64(3), [1]):
        with pytest.raises(CalculationError, match=r"write a value as pl\.lit\(…\)"):
            Calculation(s=value)
    with pytest.raises(CalculationError, match=r'as in \.drop\("a", "b"\)'):
        Calculation(s="a").drop(["a", "b"])  # type: ignore[arg-type]


ATOMS = (
    "a",
    "'x'",
    "2",
    "(a)",
    "(1, 2)",
    "l[1]",
    "lo[1] -> 'k'",
    "CAST(a AS VARCHAR)",
    "a + 1",
    "NULL",
    "DATE '2024-01-01'",
)
SHAPES = (
    *("STRPTIME({}, {})", "STRFTIME({}, {})", "DATE({}, {})", "INTERVAL {} day", "INTERVAL {}", "EXTRACT({} FROM {})"),
    *("ROUND({}, {})", "{} -> {} * 2", "{} = {}", "TRIM({}, {})", "POSITION({}, {})", "CAST({} AS {})", "{} IN {}"),
    *(
        "{} LIKE {}",
        "{} IS {}",
        "{} BETWEEN {}",
        "CASE {} WHEN {}",
        "{} AT TIME ZONE {}",
        "{}[{}]",
        "{}::{}",
        "{} ~ {}",
    ),
    *("DATE_PART({}, {})", "{} ->> {} = 'x'", "SUBSTRING({} FROM {})", "[{}, {}]", "LPAD({}, 3, {})", "TIME {}"),
)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_message_has_the_words_of_the_parser(shape: str) -> None:
    for one, other in itertools.product(ATOMS, repeat=2):
        text = shape.format(one, other)
        try:
            Calculation.from_sql(f"{text} AS r")
        except CalculationError as error:
            said = str(error).replace(text, "")
            assert not re.search(r"Ident ?[({]|Span|sql parser error|\w \{ \w+:|\w+\(\[?\w+\(|\[\w+\(\w+", said), said


def test_each_function_has_one_advice() -> None:
    assert len(ADVISED) == len({*ADVISED} - FUNCTIONS - AGGREGATES - WINDOWS)


# --- names that no line has -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("id", "Did you mean `ID`? Names are the same only in the same case of letters."),
        ("my", '"my-key"'),
        ("first", '"first name"'),
        ("a", '"a.b"'),
        ("ordre", "Did you mean `order`?"),
        ("zzz", ""),
    ],
)
def test_a_hint_says_how_a_name_is_written(name: str, said: str) -> None:
    hint = name_hint(name, [other for other in LINE if other != "a"])
    assert said in hint
    assert bool(said) == bool(hint)


# --- tokens -----------------------------------------------------------------------------------------------------------

PART = st.sampled_from(
    ["a", "1.5", "'x,y'", '"q,r"', "`b,c`", "-- c,\n", "/* d, */", "(", ")", ",", " ", "<=>", "é", "'it''s'"]
)
TEXTS = st.one_of(st.lists(PART).map("".join), st.text())


@given(TEXTS)
def test_tokens_are_the_text(text: str) -> None:
    assert "".join(token.text for token in tokens(text)) == text


@given(TEXTS)
def test_pieces_are_the_text_between_commas(text: str) -> None:
    assert ",".join("".join(token.text for token in piece) for piece in pieces(text)) == text


@given(
    st.lists(
        st.sampled_from(["a", "f(a, b)", "'x,y'", '"q,r"', "[1, 2]", "a /* , */", "CASE WHEN a THEN b END"]), min_size=1
    )
)
def test_pieces_are_what_was_joined(texts: list[str]) -> None:
    assert [shown(piece) for piece in pieces(", ".join(texts))] == [
        text.replace("/* , */", "").strip() for text in texts
    ]


@given(TEXTS)
def test_any_text_is_taken_or_refused_in_a_line(text: str) -> None:
    with contextlib.suppress(CalculationError):
        Calculation.from_sql(text)


def test_polars_would_take_what_is_not_meant() -> None:
    """If one of these fails, polars has changed, and what is done about it may go."""
    frame = pl.DataFrame({"s": ["éa", None], "t": ["ab", "c"], "c": [None, True]})
    assert frame.select(pl.sql_expr("STRPOS(s, 'a')")).to_series().to_list() == [3, 0]
    assert frame.select(pl.sql_expr("STRPOS('x.', '.')")).to_series().to_list() == [1]
    assert frame.select(pl.sql_expr("RIGHT(t, 3)")).to_series().to_list() == ["b", "c"]
    assert frame.select(pl.sql_expr("c IS TRUE")).to_series().to_list() == [None, True]


# --- what is meant, whatever is beside it -----------------------------------------------------------------------------

PARTS: dict[str, Any] = {"s": "abcdef", "t": "ab", "n": 3, "one": 1, "l": [1, 2], "Nullen": 2, "bit_rate": 2}
PARTS |= {"decimal": 2, "LenChars": 4, "and": 3, "o": {"substr": 2, "bit_and": 1, "right": 5}, "neg": -1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SUBSTR(s, LENGTH(s) - 2)", "def"),
        ("SUBSTR(s, LENGTH(t) + 1)", "cdef"),
        ("SUBSTR(s, STRPOS(s, t) + LENGTH(t))", "cdef"),
        ("SUBSTR(s, CASE WHEN LENGTH(s) > 3 THEN 2 ELSE 1 END)", "bcdef"),
        ("SUBSTR(s, 1 + LENGTH(s))", ""),
        ("SUBSTR(s, LenChars - 1)", "cdef"),
        ("SUBSTR(s, LenChars - 1, LENGTH(t) - 1)", "c"),
        ("SUBSTR(s, 2, Nullen)", "bc"),
        ("SUBSTR(s, 2, IF(n IS NOT NULL, 1, 2))", "b"),
        ("SUBSTR(s, 2, NULLIF(n, 4))", "bcd"),
        ("SUBSTR(s, 2, NULLIF(n, 3))", None),
        ("SUBSTR(s, 1, STRPOS(s, 'a') - 2)", ""),
        ('SUBSTR(s, o.substr, o."right" - 3)', "bc"),
        ("SUBSTRING(s FROM CASE WHEN n IS DISTINCT FROM 3 THEN 1 ELSE 2 END FOR n)", "bcd"),
        ("SUBSTRING(s FROM STRPOS(t, 'b') FOR LENGTH(SUBSTRING(s FROM 5)))", "bc"),
        ("RIGHT(s, LENGTH(s) - 4)", "ef"),
        ("RIGHT(s, neg)", "bcdef"),
        ("LEFT(RIGHT(SUBSTR(s, 2), 3), POSITION('b' IN t))", "de"),
        ("POSITION(SUBSTR(s, 3, 1) IN s)", 3),
        ("'SUBSTR(s, 2)' || \"substr\"(t, 2)", "SUBSTR(s, 2)b"),
        ("RIGHT /* ( */ (s, 1)", "f"),
        ("bit_rate AND one", True),
        ("bit_rate & one", 0),
        ("(n & 3) AND bit_rate", True),
        ("BIT_AND(n, 3) OR bit_rate", True),
        ("(one & 1) = 0 AND bit_rate", False),
        ("n & 2 | 4 AND bit_rate", True),
        ("n & 2 | 4", 6),
        ("one & bit_rate OR n & 4", False),
        ("one + 1 & n", 2),
        ("BITOR(n & 1, BIT_AND(n, 2)) OR FALSE", True),
        ("n BETWEEN one AND bit_rate | 1 AND NOT n & 4", True),
        ("CAST(n AS INTEGER) AND bit_rate", True),
        ("n % 2 AND bit_rate", True),
        ("o.bit_and AND o.substr", True),
        ('"and" AND bit_rate', True),
        ("decimal * (0.1 + 0.2)", 0.6000000000000001),
        ("CAST(n AS DECIMAL(10, 2)) * (0.1 + 0.2)", 0.9000000000000001),
        ("CAST(0.1 AS DECIMAL(10, 2)) + 0.1::DECIMAL(3, 1)", 0.2),
        ("LEFT(s, n) || 'now'", "abcnow"),
        ("REPLACE('abc', 'a', s)", "abcdefbc"),
        ("STRING_TO_ARRAY('', '')", [""]),
        ("LPAD(s, neg, '0')", ""),
        ("n = ANY(l)", False),
        ("one = SOME(l)", True),
    ],
)
def test_a_call_means_the_same_whatever_its_arguments_are(text: str, found: Any) -> None:
    calculation = Calculation.from_sql(f"{text} AS r").select("r")
    output = io.BytesIO()
    calculation.run(io.BytesIO(json.dumps(PARTS).encode()), output)
    assert json.dumps(json.loads(output.getvalue())["r"]) == json.dumps(found)


@pytest.mark.parametrize("text", ["n <> ANY(l)", "n < ANY(l)", "n > ALL(l)", "n = ALL(l)", "n != SOME(l)"])
def test_of_the_comparisons_with_elements_only_one_is_taken(text: str) -> None:
    assert "only `a = ANY(l)` is" in refusal(f"{text} AS r")


def test_calls_of_replace_may_be_nested() -> None:
    text = "s"
    for number in range(30):
        text = f"REPLACE({text}, '<{number}>', '{number} ')"
    output = io.BytesIO()
    line = b'{"s":"%b"}' % b"".join(b"<%d>" % number for number in range(30))
    Calculation.from_sql(f"{text} AS r").run(io.BytesIO(line), output)
    assert json.loads(output.getvalue())["r"] == "".join(f"{number} " for number in range(30))


def test_what_is_too_long_for_polars_is_refused_in_a_line() -> None:
    text = "s"
    for number in range(13):
        text = f"NULLIF({text}, '{number}')"
    with pytest.raises(CalculationError, match=r"is too long: polars shows it in \d+,\d+ characters") as caught:
        Calculation.from_sql(f"{text} AS r").run(io.BytesIO(b'{"s":"1"}'), io.BytesIO())
    assert "\n" not in str(caught.value)


def test_a_function_without_arguments_is_refused_and_polars_is_not_asked(capfd: pytest.CaptureFixture[str]) -> None:
    for name in sorted(FUNCTIONS - {"pi", "source"}):
        assert f"{name.upper()} needs an argument" in refusal(f"b AND {name}( ) AS r"), name
    assert capfd.readouterr().err == "", "polars panics in some of them, with a backtrace"
    assert round(value("PI()"), 2) == 3.14


@pytest.mark.parametrize("name", ["SHA256", "hmac_sha256", "MASK"])
def test_a_function_of_ours_takes_one_argument(name: str) -> None:
    assert f"{name.upper()} takes one argument, not 2" in refusal(f"{name}(s, SUBSTR(s, 1, 2)) AS r")


@pytest.mark.parametrize("text", ["\ud83d", 'a AS "\udcff"', "s = '\ud83d'"])
def test_text_that_is_not_unicode_is_refused(text: str) -> None:
    assert "is not valid Unicode" in refusal(f"{text} AS r")
    for reject in ("", f"{text}: a reason"):
        with pytest.raises(CalculationError, match="is not valid Unicode"):
            Calculation.from_sql("a AS r", text, reject)
