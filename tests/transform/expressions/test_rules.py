"""A rule rejects the lines for which its condition is true, before filters, and says why."""

from __future__ import annotations

import io
import json
import pickle
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from transform import Calculation, CalculationError, OptionError, RejectedError, parse_rules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINES = [b'{"a":1}', b'{"a":-1,"s":"x"}', b'{"a":null}', b"nope", b'{"a":9}']
NEGATIVE = "negative `a`"


def outcome(
    calculation: Calculation, lines: Sequence[bytes] = LINES, **options: Any
) -> tuple[list[bytes], list[tuple[int, str]], int]:
    """Return the output, the number and the reason of each rejected line, and how many lines were dropped."""
    output, rejects = b"", b""
    with calculation.stream(io.BytesIO(b"\n".join(lines) + b"\n"), **options) as stream:
        for part in stream:
            output += b"".join(part.output)
            rejects += b"".join(part.rejects)
    records = [json.loads(line) for line in rejects.splitlines()]
    for record in records:
        assert record["raw"].encode() == lines[record["line"] - 1]
    return output.splitlines(), [(record["line"], record["reason"]) for record in records], stream.summary.filtered


def test_lines_for_which_it_is_true_are_rejected_and_null_is_not_true() -> None:
    kept, rejected, _ = outcome(Calculation().reject(pl.col("a") < 0, NEGATIVE))
    assert kept == [LINES[0], LINES[2], LINES[4]]
    assert rejected == [(2, NEGATIVE), (4, "not valid JSON: invalid character (byte 4)")]


def test_rules_come_before_filters_and_of_several_the_first_gives_the_reason() -> None:
    calculation = Calculation().filter(pl.col("a") > 0).reject("big").reject(pl.col("a") < 0, NEGATIVE)
    lines = [b'{"a":-1,"big":true}', b'{"a":-1,"big":false}', b'{"a":0,"big":null}', b'{"a":3}']
    kept, rejected, filtered = outcome(calculation, lines)
    assert (kept, filtered) == ([lines[3]], 1)
    assert rejected == [(1, 'rejected by the rule `col("big")`'), (2, NEGATIVE)]


def test_what_a_rule_rejects_is_not_evaluated_any_further() -> None:
    parsed = Calculation.from_sql("CAST(s AS BIGINT) AS n", where="CAST(s AS BIGINT) > 0", reject="NOT s ~ '^[0-9]+$'")
    lines = [b'{"s":"1"}', b'{"s":"x"}', b'{"s":"0"}']
    reason = "rejected by the rule `NOT s ~ '^[0-9]+$'`"
    assert outcome(parsed, lines) == ([b'{"s":"1","n":1}'], [(2, reason)], 1)


def test_a_line_on_which_a_rule_fails_is_rejected_for_that() -> None:
    calculation = Calculation.from_sql(reject="CAST(s AS BIGINT) < 0: negative")
    lines = [b'{"s":"x"}', b'{"s":"-1"}', b'{"s":"1"}']
    kept, rejected, _ = outcome(calculation, lines)
    assert kept == [lines[2]]
    assert [line for line, _ in rejected] == [1, 2]
    assert rejected[0][1].startswith("the calculation failed: ")
    overflow = Calculation().reject(pl.col("a") * 4 > 0, "positive").with_schema({"a": "Int128"})
    assert outcome(overflow, [b'{"a":%d}' % 2**126, b'{"a":-1}'])[1][0][1].startswith("the calculation failed: ")


@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 1}, {"workers": 3, "range_bytes": 50, "chunk_bytes": 20}])
def test_the_same_lines_however_the_input_is_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(b'{"a":%d,"s":"%s"}\n' % (n % 7, b"x" * (n % 50)) for n in range(500)))
    calculation = Calculation.from_sql("a AS b", reject=["a = 3: three", "LENGTH(s) > 40; a > 5: more"])
    summary = calculation.run(source, target, **options)
    lines = source.read_bytes().splitlines()
    reasons = []
    for line in map(json.loads, lines):
        broken = [line["a"] == 3, len(line["s"]) > 40, line["a"] > 5]
        names = ["three", "rejected by the rule `LENGTH(s) > 40`", "more"]
        reasons.append(next((name for name, found in zip(names, broken, strict=True) if found), None))
    records = map(json.loads, (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines())
    expected = [(n, reason) for n, reason in enumerate(reasons, 1) if reason]
    assert [(record["line"], record["reason"]) for record in records] == expected
    assert summary.lines_out == len(lines) - summary.rejected == len(target.read_bytes().splitlines())
    assert {name: found.count for name, found in summary.reject_reasons.items()} == {
        name: reasons.count(name) for name in reasons if name
    }


def test_long_lines_are_kept_whole() -> None:
    line = b'{"a":-1,"s":"%s"}' % (b"x\\u00e9\xc3\xa9" * 20_000)
    assert outcome(Calculation().reject(pl.col("a") < 0, NEGATIVE), [line, LINES[0]])[1] == [(1, NEGATIVE)]


def test_they_count_as_other_rejected_lines_do(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"a":-1}\n{"a":-2}\n{"a":1}\n')
    calculation = Calculation().reject(pl.col("a") < 0, NEGATIVE)
    for options in ({"on_error": "fail"}, {"max_rejects": 1}, {"max_rejects": "50%"}):
        with pytest.raises(RejectedError, match=NEGATIVE):
            calculation.run(source, target, **options)
    assert calculation.run(source, target, max_rejects=2).rejected == 2
    with pytest.raises(RejectedError, match="every line was rejected"):
        Calculation().reject(pl.lit(value=True), "all").run(source, target)


def test_the_digest_and_a_copy_have_the_rules() -> None:
    calculations = [
        Calculation.from_sql("a AS b"),
        Calculation.from_sql("a AS b", reject="a < 0"),
        Calculation.from_sql("a AS b", reject="a < 1"),
        Calculation.from_sql("a AS b", reject="a < 0: negative"),
        Calculation.from_sql("a AS b", where="a < 0"),
        Calculation.from_sql("a AS b", reject="a < 0; a > 5"),
        Calculation.from_sql("a AS b", reject="a > 5; a < 0"),
    ]
    assert len({calculation.digest for calculation in calculations}) == len(calculations)
    copy = pickle.loads(pickle.dumps(calculations[3]))
    assert copy.digest == calculations[3].digest
    assert outcome(copy)[1] == [(2, "negative"), (4, "not valid JSON: invalid character (byte 4)")]
    assert "reject" in repr(copy)
    assert "negative" in copy._repr_html_()


def test_a_preview_leaves_out_what_rules_reject() -> None:
    rejected: list[str] = []
    source = io.BytesIO(b'{"a":-1}\n{"a":2}\n')
    frame = Calculation.from_sql("a * 2 AS b", reject="a < 0: negative").preview(source, rejected=rejected)
    assert frame.to_dicts() == [{"a": 2, "b": 4}]
    assert rejected == ["line 1 (offset 0): negative"]


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        (pl.col("a") + 1, "the rule `.*` gives Int128, not true or false"),
        (pl.col("a").sum() > 3, "is not row-wise"),
        (pl.col("a") == "x", "text"),
    ],
)
def test_conditions_are_checked_as_those_of_filters(predicate: pl.Expr, message: str) -> None:
    with pytest.raises(CalculationError, match=message):
        outcome(Calculation().reject(predicate))


@pytest.mark.parametrize("reason", ["", " ", "\ud800", 3])
def test_a_reason_is_text(reason: Any) -> None:
    with pytest.raises(CalculationError, match="the reason of a rule is text"):
        Calculation().reject("a", reason)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("a < 0", [("a < 0", None)]),
        (" a < 0 : it's below; ; b::BIGINT = 1; ", [("a < 0", "it's below"), ("b::BIGINT = 1", None)]),
        ("""s = ':;' OR "x;y:" = 1 : b: c""", [("""s = ':;' OR "x;y:" = 1""", "b: c")]),
        ("a /* : ; */ = 1 -- :\n: no; l[1:2] IS NULL", [("a /* : ; */ = 1 -- :", "no"), ("l[1:2] IS NULL", None)]),
    ],
)
def test_rules_as_text(text: str, rules: list[tuple[str, str | None]]) -> None:
    assert parse_rules(text) == rules


@pytest.mark.parametrize("text", ["", ";", "a < 0:", "a < 0: ; b", ": why", "a; : why"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(OptionError, match="expected rules separated by `;`"):
        parse_rules(text)


def test_a_rule_in_sql_is_one_condition() -> None:
    with pytest.raises(CalculationError, match="expected one condition, got 2"):
        Calculation.from_sql(reject="a < 0, b < 0: both")
    for wrong in (3, [b"a"]):
        with pytest.raises(OptionError, match="reject is rules as text"):
            Calculation.from_sql(reject=wrong)  # type: ignore[arg-type]
