"""`transform check` says how a calculation fares, as a run would, and its exit status tells."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.settings import Settings
from tests.support.trial import lines
from transform import load
from transform.cli.options import WORKER_LIMITS, worker_limits
from transform.explore.check import check

if TYPE_CHECKING:
    from tests.conftest import Command

SAMPLE = Path(__file__).parents[3] / "sample_data" / "yelp_businesses.json"
OK, FAILED, USAGE, PROBLEMS = 0, 1, 2, 3
HEAD = "import polars as pl\nfrom transform import Calculation\n"
RATIO = HEAD + "calculation = Calculation(r=pl.col('a') / pl.col('b'))\n"
GOOD = lines('{"a":1,"b":2}', '{"a":3,"b":4}')


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "calc.py").write_text(RATIO)
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD, []),
        (lines('{"a":1,"b":2}', "nope"), ["1 of 2 lines are rejected"]),
        (lines('{"a":1,"b":0}', '{"a":1,"b":2}', "", '{"a":0,"b":0}'), ["`r` is NaN or infinite 2 times"]),
        (lines('{"a":1,"b":null}', '{"a":null,"b":1}'), ["`r` is null in every line"]),
        (lines('{"a":1,"b":null}', '{"a":2,"b":1}'), []),
        (b"\n\n", ["there are no lines to check it on"]),
    ],
)
def test_problems_are_told(here: Path, command: Command, content: bytes, expected: list[str]) -> None:
    (here / "in.jsonl").write_bytes(content)
    result = command("check", "calc.py", "in.jsonl")
    text = result.stdout.decode()
    assert result.returncode == (PROBLEMS if expected else OK), text
    assert text.count("problem:") == len(expected)
    assert all(f"problem: {problem}" in text for problem in expected)
    assert ("no problems" in text) == (not expected)
    assert result.stderr == b""
    told = json.loads(command("check", "calc.py", "in.jsonl", "--json").stdout)
    assert told["ok"] == (not expected)
    assert len(told["problems"]) == len(expected)
    assert sorted(path.name for path in here.glob("*.jsonl")) == ["good.jsonl", "in.jsonl"], "there is no output"


def test_limits_can_be_set(here: Path, command: Command) -> None:
    (here / "in.jsonl").write_bytes(lines('{"a":1,"b":2}', '{"a":1,"b":null}', "nope", '{"a":5,"b":2}'))
    assert command("check", "calc.py", "in.jsonl").returncode == PROBLEMS
    assert command("check", "calc.py", "in.jsonl", "--max-rejects", "1").returncode == OK
    assert command("check", "calc.py", "in.jsonl", "--max-rejects", "25%").returncode == OK
    assert command("check", "calc.py", "in.jsonl", "--max-rejects", "24%").returncode == PROBLEMS
    assert command("check", "calc.py", "in.jsonl", "--max-rejects", "1", "--max-nulls", "1").returncode == OK
    result = command("check", "calc.py", "in.jsonl", "--max-rejects", "1", "--max-nulls", "0")
    assert (result.returncode, b"problem: `r` is null in 1 lines" in result.stdout) == (PROBLEMS, True)
    assert command("check", "calc.py", "in.jsonl", "--max-nulls", "some").returncode == USAGE


def test_it_counts_what_a_run_counts(here: Path) -> None:
    calculation = load(str(here / "calc.py"))
    (here / "in.jsonl").write_bytes(GOOD * 5 + b"nope\n\n[1]\n" + GOOD)
    ran, checked = (
        calculation.run(here / "in.jsonl", here / "out.jsonl"),
        check(calculation.spec_for(here / "in.jsonl"), here / "in.jsonl"),
    )
    skipped = {"target", "rejects", "seconds", "mb_per_s"}
    one, other = ({n: v for n, v in of.to_dict().items() if n not in skipped} for of in (ran, checked.summary))
    assert one == other
    assert (checked.whole, checked.types, checked.nulls) == (True, {"r": "Float64"}, {"r": 0})


def test_worker_limits_are_those_of_its_settings(here: Path, command: Command) -> None:
    fields = Settings.model_fields
    assert {name.lower(): fields[name.lower()].default for name in WORKER_LIMITS} == worker_limits({})
    for name, (_, most) in WORKER_LIMITS.items():
        bounds = [one.le for one in fields[name.lower()].metadata if hasattr(one, "le")]
        assert bounds == ([] if most is None else [most])
    (here / "in.jsonl").write_bytes(GOOD + b'{"a":1,"b":2,"c":"' + b"x" * 1000 + b'"}\n')
    (here / "in.jsonl.gz").write_bytes(gzip.compress((b" " * 1023 + b"\n") * 1024) * 258)  # a thousand times its size
    check_it = ("check", "calc.py", "in.jsonl")
    for args, env, status in (
        (check_it, {"MAX_LINE_BYTES": "1000"}, OK),  # which is the worker's
        ((*check_it, "--worker"), {}, OK),
        ((*check_it, "--worker"), {"MAX_LINE_BYTES": "1000"}, PROBLEMS),
        ((*check_it, "--worker"), {"MAX_LINE_BYTES": "1KiB"}, OK),
        ((*check_it, "--worker"), {"MAX_LINE_BYTES": "2GiB"}, USAGE),
        ((*check_it, "--worker"), {"MAX_INFLATION": "x"}, USAGE),
        (("check", "calc.py", "in.jsonl.gz", "--worker"), {}, FAILED),
    ):
        assert command(*args, env=env).returncode == status, (args, env)


def test_arguments_that_are_swapped_are_put_right(here: Path, command: Command) -> None:
    (here / "in.jsonl").write_bytes(GOOD)
    result = command("check", "in.jsonl", "calc.py:calculation")
    assert result.returncode == USAGE
    assert b"the calculation comes first: transform check calc.py:calculation in.jsonl" in result.stderr


def test_the_first_lines_only(here: Path, command: Command) -> None:
    (here / "in.jsonl").write_bytes(GOOD * 1000 + b"nope\n")
    result = command("check", "calc.py", "in.jsonl", "-n", "3")
    assert (result.returncode, result.stdout[:22]) == (OK, b"the first 3 lines of i")
    assert check(load(str(here / "calc.py")).spec_for(here / "in.jsonl"), here / "in.jsonl", 2001).problems() == [
        "1 of 2,001 lines are rejected"
    ]
    assert check(load(str(here / "calc.py")).spec_for(here / "in.jsonl"), here / "in.jsonl", 2000).problems() == []


def test_a_filter_that_drops_everything_is_a_problem(here: Path, command: Command) -> None:
    (here / "calc.py").write_text(HEAD + "calculation = Calculation().filter(pl.col('a') > 5)\n")
    result = command("check", "calc.py", "good.jsonl")
    assert (result.returncode, b"problem: the filters drop every line" in result.stdout) == (PROBLEMS, True)


@pytest.mark.parametrize(
    ("calculation", "problems"),
    [
        (".drop('A', 'b')", ["no line that was kept has a member `A` to drop. Did you mean `a`?"]),
        (".select('z')", ["no line that was kept has a member `z` to select."]),
        (".select('a')", []),
        (".filter(pl.col('a') > 5).drop('z')", ["the filters drop every line"]),
        (".filter(pl.col('a') > 1).drop('only')", ["no line that was kept has a member `only` to drop."]),
    ],
)
def test_a_name_to_drop_or_select_that_no_line_has_is_a_problem(
    here: Path, command: Command, calculation: str, problems: list[str]
) -> None:
    (here / "calc.py").write_text(f"{HEAD}calculation = Calculation(){calculation}\n")
    (here / "in.jsonl").write_bytes(GOOD + b'{"a":0,"only":1}\n')
    result = command("check", "calc.py", "in.jsonl")
    assert result.returncode == (PROBLEMS if problems else OK)
    assert [line.removeprefix("problem: ") for line in result.stdout.decode().splitlines() if "problem: " in line] == (
        problems
    )
    assert result.stdout.count(b"no line that was kept") == sum("no line" in problem for problem in problems), "once"
    told = json.loads(command("check", "calc.py", "in.jsonl", "--json").stdout)
    assert (told["ok"], told["problems"]) == (not problems, problems)
    assert told["summary"]["notes"] == [problem for problem in problems if "no line" in problem]


def test_a_column_that_turns_out_to_hold_floats_is_no_problem(here: Path) -> None:
    (here / "in.jsonl").write_bytes(GOOD * 600 + b'{"a":1.5,"b":2}\n')
    checked = check(load(str(here / "calc.py")).spec_for(here / "in.jsonl"), here / "in.jsonl")
    assert (checked.problems(), checked.summary.lines_out) == ([], 1201)
    assert checked.summary.schema["a"] == ("Float64", "inferred")


def test_function_is_checked_too(here: Path, command: Command) -> None:
    (here / "old.py").write_text("def calculation(json_obj):\n    return {'c': 1 / (json_obj['a'] - 1)}\n")
    result = command("check", "old.py", "good.jsonl")
    assert (result.returncode, b"problem: 1 of 2 lines are rejected" in result.stdout) == (PROBLEMS, True)
    assert b"ZeroDivisionError" in result.stdout


@pytest.mark.parametrize(
    ("calculation", "source", "message"),
    [
        (HEAD + "calculation = Calculation(r=pl.col('aa') * 2)\n", "good.jsonl", "there is no column `aa`"),
        (HEAD + "calculation = Calculation(r=pl.col('a').sum())\n", "good.jsonl", "aggregate"),
        (RATIO, "none.jsonl", "none.jsonl: no such file"),
        ("calculation = 5\n", "good.jsonl", "which is no calculation"),
        ("1 +\n", "good.jsonl", "does not load"),
    ],
)
def test_what_does_not_fit_fails(here: Path, command: Command, calculation: str, source: str, message: str) -> None:
    (here / "calc.py").write_text(calculation)
    result = command("check", "calc.py", source)
    assert (result.returncode, result.stdout) == (FAILED, b"")
    assert result.stderr.startswith(b"transform: ")
    assert message in result.stderr.decode()
    assert b"Traceback" not in result.stderr
    told: dict[str, Any] = json.loads(command("check", "calc.py", source, "--json").stdout)
    assert (told["ok"], message in told["error"]) == (False, True)


def test_sample_is_without_problems(here: Path) -> None:
    (here / "calc.py").write_text(
        HEAD + "calculation = Calculation(review_score=pl.col('stars') * pl.col('review_count'))"
    )
    assert check(load(str(here / "calc.py")).spec_for(SAMPLE), SAMPLE).problems() == []


def test_a_function_that_returns_nothing_is_a_problem_in_its_own_words(here: Path, command: Command) -> None:
    (here / "calc.py").write_text("def calculation(json_obj):\n    json_obj['b'] = 1\n")
    (here / "in.jsonl").write_bytes(GOOD)
    result = command("check", "calc.py", "in.jsonl")
    problems = [line for line in result.stdout.decode().splitlines() if line.startswith("problem: ")]
    assert result.returncode == PROBLEMS
    assert [problem.partition(":")[2][:48] for problem in problems] == [
        " calculation(…) returned None for every line, wh"
    ]
