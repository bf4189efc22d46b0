"""Each pair on the migration page does the same, function and expressions, on the lines beside it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from transform import Calculation
from transform.line_function import FunctionPlan
from transform.members import LineError

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
    topics = {"Arithmetic", "Defaults", "Conditionals", "Strings", "Dates", "Objects", "Lists", "Lookups"}
    assert topics <= {pair.heading.split()[0] for pair in PAIRS}
    assert {"Members that go", "Members renamed", "Lines that go", "Lines that are rejected"} <= {
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
    assert ("dropped" in outcomes) == (pair.heading == "Lines that go")
    assert ("rejected" in outcomes) == (pair.heading == "Lines that are rejected")
