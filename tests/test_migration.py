"""Each pair on the migration page does the same, function and expressions, on the lines beside it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import textwrap
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pytest

from transform import Calculation
from transform.decode.line_errors import LineError
from transform.engine.function import FunctionPlan
from transform.line_function import LineFunction

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text()
KEEP = Calculation().filter(pl.lit(value=True))


class Pair(NamedTuple):
    """What stands on the page: a function, the expressions, and lines to try both on."""

    heading: str
    function: str
    expressions: str
    lines: str


def pairs() -> list[Pair]:
    found, heading, blocks = [], "", list[tuple[str, str]]()
    for match in re.finditer(r"^## ([^\n]*)$|^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
            continue
        blocks.append((match[2], match[3]))
        if match[2] == "json":
            assert [kind for kind, _ in blocks] == ["python", "python", "json"], heading
            found.append(Pair(heading, *(text for _, text in blocks)))
            blocks = []
    assert not blocks
    return found


PAIRS = pairs()


def run(code: str) -> Any:
    names: dict[str, Any] = {"pl": pl, "Calculation": Calculation}
    exec(code, names)
    return names["calculation"]


def test_page_covers_what_functions_do() -> None:
    assert PAGE.count("```") == 6 * len(PAIRS)
    topics = {"Arithmetic", "Defaults", "Conditionals", "Strings", "Dates", "Nested", "Lists", "Lookups"}
    assert topics <= {pair.heading.split()[0] for pair in PAIRS}
    assert {"Removing members", "Renaming members", "Removing lines", "Rejecting lines"} <= {
        pair.heading for pair in PAIRS
    }


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.heading)
def test_pair_does_the_same(pair: Pair) -> None:
    function, calculation = run(pair.function), run(pair.expressions)
    assert isinstance(calculation, Calculation)
    compared = calculation.compare(function, io.BytesIO(pair.lines.encode()), None)
    assert compared.same, compared
    assert compared.lines == pair.lines.count("\n")
    # It is not that neither does anything.
    assert not KEEP.compare(function, io.BytesIO(pair.lines.encode())).same


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.heading)
def test_pair_shows_what_its_heading_says(pair: Pair) -> None:
    plan = FunctionPlan(run(pair.function))
    outcomes = []
    for line in pair.lines.encode().splitlines():
        assert isinstance(json.loads(line), dict)
        try:
            outcomes.append("dropped" if plan.call(line) is None else "kept")
        except LineError:
            outcomes.append("rejected")
    assert outcomes.count("kept") >= 1
    assert ("dropped" in outcomes) == (pair.heading == "Removing lines")
    assert ("rejected" in outcomes) == (pair.heading == "Rejecting lines")


def by_loop(function: Callable[[Any], object], line: str) -> str:
    """Return what a loop over lines writes, as the page says."""
    return f"{json.dumps(function(json.loads(line)))}\n"


def by_run(calculation: Any, line: str) -> str:
    output = io.BytesIO()
    calculation.run(io.BytesIO(line.encode()), output)
    return output.getvalue().decode()


def with_result(value: object) -> Callable[[Any], object]:
    return lambda json_obj: json_obj | {"c": value}


PLUS = Calculation(c=pl.col("b") + 1)
NAN = Calculation(c=pl.col("b") / 0)
BYTES: dict[str, tuple[Callable[[Any], object], Calculation, str, str, str, str]] = {
    "white space": (
        with_result(3),
        PLUS,
        '{"a": 1, "b": 2}\n',
        '{"a": 1, "b": 2, "c": 3}\n',
        '{"a":1,"b":2,"c":3}\n',
        '{"a": 1, "b": 2,"c":3}\n',
    ),
    "letters": (
        dict,
        KEEP,
        '{"a":"é","b":"\\u00e9"}\n',
        '{"a": "\\u00e9", "b": "\\u00e9"}\n',
        '{"a":"é","b":"é"}\n',
        '{"a":"é","b":"\\u00e9"}\n',
    ),
    "numbers": (
        dict,
        KEEP,
        '{"a":4.50,"b":1E5,"n":12345678901234567890123456789012345678901234567890}\n',
        '{"a": 4.5, "b": 100000.0, "n": 12345678901234567890123456789012345678901234567890}\n',
        '{"a":4.5,"b":100000.0,"n":12345678901234567890123456789012345678901234567890}\n',
        '{"a":4.50,"b":1E5,"n":12345678901234567890123456789012345678901234567890}\n',
    ),
    "twice": (
        with_result(3),
        PLUS,
        '{"b":1,"a":0,"b":2}\n',
        '{"b": 2, "a": 0, "c": 3}\n',
        '{"b":2,"a":0,"c":3}\n',
        '{"b":1,"a":0,"b":2,"c":3}\n',
    ),
    "NaN": (with_result(math.nan), NAN, '{"b":0}', '{"b": 0, "c": NaN}\n', '{"b":0,"c":null}', '{"b":0,"c":null}'),
    "None": (lambda _: None, Calculation().filter(pl.col("b") > 9), '{"b":2}\n', "null\n", "", ""),
    "line ends": (dict, KEEP, '{"b":2}\r\n{"b":3}', "", '{"b":2}\r\n{"b":3}', '{"b":2}\r\n{"b":3}'),
    "blank lines": (dict, KEEP, '{"b":2}\n\n{"b":3}\n', "", '{"b":2}\n{"b":3}\n', '{"b":2}\n{"b":3}\n'),
}
"""By matter: a function, expressions, an input, and what becomes of it by the loop, the function here, expressions."""


@pytest.mark.parametrize("matter", BYTES)
def test_bytes_that_are_others(matter: str) -> None:
    function, expressions, line, loop, called, spliced = BYTES[matter]
    if loop:
        assert by_loop(function, line) == loop
    assert by_run(LineFunction(function), line) == called
    assert by_run(expressions, line) == spliced


def test_dates_and_decimals_as_results() -> None:
    day = datetime(2024, 2, 29, 13, 5)
    for value, called, spliced in (
        (day, '"2024-02-29T13:05:00"', '"2024-02-29T13:05:00.000000"'),
        (Decimal("1.10"), "1.10", "1.10"),
    ):
        with pytest.raises(TypeError):
            by_loop(with_result(value), "{}")
        assert by_run(LineFunction(with_result(value)), "{}") == f'{{"c":{called}}}'
        assert by_run(Calculation(c=pl.lit(value)), "{}") == f'{{"c":{spliced}}}'


def test_bad_lines_are_rejected_where_a_loop_goes_on_or_fails() -> None:
    assert by_loop(dict, '{"b":NaN}') == '{"b": NaN}\n'
    for line in ("nope", ""):
        with pytest.raises(json.JSONDecodeError):
            by_loop(dict, line)
    for calculation in (LineFunction(dict), KEEP):
        assert by_run(calculation, '{"b":NaN}\nnope\n{"b":1}\n') == '{"b":1}\n'


def test_policy_that_the_page_writes() -> None:
    code = re.search(r'python -c "(import json; from runner.*?)"\n', PAGE, re.DOTALL)
    assert code
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code[1], {})
    assert "arn:aws:s3:::my-output/output/*" in said.getvalue()
    assert {statement["Effect"] for statement in json.loads(said.getvalue())["Statement"]} == {"Allow"}


def test_comparing_outputs_as_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"^    import json\n    with open\(.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    Path("old.jsonl").write_text('{"a": 1.50}\n{"a": 2}\n')
    Path("new.jsonl").write_text('{"a":1.5}\n{"a":3}\n')
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(textwrap.dedent(code[0]), {})
    assert said.getvalue().startswith("2 ")
