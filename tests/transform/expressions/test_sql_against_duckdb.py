"""SQL gives what DuckDB gives, but for the differences that docs/semantics.md lists."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.apart import Apart, DiedError
from tests.support.duck import FAILED, Row
from tests.support.sql_pairs import (
    CRASHED,
    MEMORY,
    Pair,
    alike,
    grammar,
    ours,
    ours_apart,
    rows,
    theirs,
    tolerance,
    too_long,
)
from transform import CalculationError
from transform.expressions.sql_functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = (Path(__file__).parents[3] / "docs" / "semantics.md").read_text()
PAGE = TEXT[TEXT.index("## SQL") :]
LINE: Row = json.loads(PAGE.partition("```json\n")[2].partition("\n```")[0])
TYPES: dict[str, tuple[pl.DataType, str]] = {
    "i": (pl.Int128(), "HUGEINT"),
    "n": (pl.Int128(), "HUGEINT"),
    "x": (pl.Float64(), "DOUBLE"),
    "s": (pl.String(), "VARCHAR"),
    "e": (pl.String(), "VARCHAR"),
    "z": (pl.String(), "VARCHAR"),
    "b": (pl.Boolean(), "BOOLEAN"),
    "d": (pl.String(), "VARCHAR"),
    "t": (pl.String(), "VARCHAR"),
    "l": (pl.List(pl.Int128()), "HUGEINT[]"),
    "o": (pl.Struct({"k": pl.Int128()}), "STRUCT(k HUGEINT)"),
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of HMAC_SHA256 on the page."""
    monkeypatch.setenv("HMAC_KEY", PAGE.partition("has\nthe key `")[2].partition("`")[0])


def table(header: str) -> list[list[str]]:
    """Return the cells of a table of the page, by its header, without the backticks around them."""
    lines = PAGE[PAGE.index(f"\n| {header} |") :].split("\n\n")[0].strip().splitlines()[2:]
    found = []
    for line in lines:
        cells = line.strip("|").replace("\\|", "\0").split("|")
        found.append([cell.replace("\0", "|").strip() for cell in cells])
    return found


def plain(cell: str) -> str:
    return cell.removeprefix("`").removesuffix("`")


FUNCTION_ROWS = table("function")
EXAMPLES = [(plain(example), plain(value)) for _, example, value in FUNCTION_ROWS + table("syntax")]
DIFFERENCES = [tuple(plain(cell) for cell in cells) for cells in table("expression")]


def here(expression: str) -> Any:
    try:
        ((value,),) = ours([expression], [LINE], {name: dtype for name, (dtype, _) in TYPES.items()})
    except CalculationError:
        return FAILED
    return value


def spelled(value: Any) -> str:
    return FAILED if value is FAILED else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- what the page lists ----------------------------------------------------------------------------------------------


def test_the_page_lists_the_functions_that_are_taken() -> None:
    listed = [plain(name.strip()).lower() for names, _, _ in FUNCTION_ROWS for name in names.split(",")]
    assert sorted(listed) == sorted(FUNCTIONS)


@pytest.mark.parametrize(("names", "example"), [row[:2] for row in FUNCTION_ROWS])
def test_an_example_of_a_function_calls_it_and_the_other_names_give_the_same(names: str, example: str) -> None:
    first, *others = (plain(name.strip()) for name in names.split(","))
    assert f"{first}(" in example
    for other in others:
        assert here(plain(example).replace(f"{first}(", f"{other}(")) == here(plain(example))


@pytest.mark.parametrize(("example", "value"), EXAMPLES, ids=[example for example, _ in EXAMPLES])
def test_an_example_has_its_value(example: str, value: str) -> None:
    assert spelled(here(example)) == value


@pytest.mark.parametrize("row", DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_a_difference_is_as_the_page_says(row: tuple[str, str, str, str]) -> None:
    expression, mine, listed, reason = row
    ((value,),) = theirs([expression], [LINE], {name: dtype for name, (_, dtype) in TYPES.items()})
    assert spelled(here(expression)) == mine
    if listed in (FAILED, "NaN"):
        assert str(value).replace("nan", "NaN") == listed
    else:
        assert alike(json.loads(listed), value)
        assert mine != listed
    assert reason.endswith(".")


# --- what is made up --------------------------------------------------------------------------------------------------


def agree(lines: list[Row], pairs: list[Pair], evaluate: Callable[[list[str], list[Row]], list[list[Any]]]) -> None:
    pairs = [pair for pair in pairs if not too_long(pair)] or [Pair("1", "1")]
    expected = theirs([pair.duck for pair in pairs], lines)
    mine = evaluate([pair.ours for pair in pairs], lines)
    for pair, values, rights in zip(pairs, mine, expected, strict=True):
        for line, value, right in zip(lines, values, rights, strict=True):
            assert right == CRASHED or alike(value, right, tolerance(pair)), (
                f"{pair}: {value!r}, not {right!r}, for {line}"
            )


def test_a_process_that_dies_is_told_and_started_again() -> None:
    apart = Apart(os._exit, MEMORY)
    for code in (7, 8):
        with pytest.raises(DiedError, match=f"exit code {code}$"):
            apart(code)


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # the message has the one expression at fault
MADE_UP = st.lists(rows, min_size=4, max_size=6)
PLAIN = st.lists(grammar(arithmetic=False).all, min_size=20, max_size=20)
ARITHMETIC = st.lists(grammar(arithmetic=True).all, min_size=20, max_size=20)


@settings(max_examples=15, phases=WITHOUT_SHRINKING)
@given(MADE_UP, PLAIN)
def test_expressions_give_what_duckdb_gives(lines: list[Row], pairs: list[Pair]) -> None:
    agree(lines, pairs, ours)


@settings(max_examples=15, phases=WITHOUT_SHRINKING)
@given(MADE_UP, ARITHMETIC)
def test_arithmetic_gives_what_duckdb_gives(lines: list[Row], pairs: list[Pair]) -> None:
    agree(lines, pairs, ours)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=150, phases=WITHOUT_SHRINKING)
@given(MADE_UP, ARITHMETIC)
def test_many_expressions_give_what_duckdb_gives(lines: list[Row], pairs: list[Pair]) -> None:
    agree(lines, pairs, ours_apart)
