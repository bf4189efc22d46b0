"""What shows in notebooks is well-formed HTML without scripts, in which nothing of the data is taken for HTML."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

import transform
from tests.support.trial import lines
from transform import Calculation, CalculationsByPrefix, LineFunction, Profile
from transform.explore.describe import describe
from transform.explore.profile import STAGES

EVIL = "<script>alert('&amp;')</script><b>"
SOURCE = lines(json.dumps({EVIL: 1}), "nope " + EVIL)
CALCULATION = Calculation(pl.col(EVIL).add(1).alias(f"{EVIL}2")).filter(pl.col(EVIL) > 0).drop(EVIL)
VOID = {"br", "hr", "img"}


class _Parser(HTMLParser):
    """Collects texts, and checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def texts(value: Any) -> str:
    """Return what a value shows, its white space made one space."""
    parser = _Parser()
    parser.feed(value._repr_html_())
    parser.close()
    assert parser.open == []
    assert not parser.tags & {"script", "b>", "link", "iframe"}
    return " ".join(" ".join(parser.texts).split())


def function(json_obj: dict[str, Any]) -> dict[str, Any]:
    return json_obj


function.__name__ = EVIL
COMPARED = CALCULATION.compare(function, io.BytesIO(SOURCE))
PROFILE = Profile(EVIL, 10**8, 1, 1, True, 0.1, dict.fromkeys(STAGES, 1.0), False)
SUMMARY = CALCULATION.run(io.BytesIO(SOURCE), io.BytesIO())


@pytest.mark.parametrize(
    "value",
    [CALCULATION, LineFunction(function), CalculationsByPrefix({EVIL: CALCULATION}), COMPARED, PROFILE, SUMMARY],
    ids=lambda value: type(value).__name__,
)
def test_data_is_shown_as_it_is(value: Any) -> None:
    if value is SUMMARY:
        value.first_rejects = [EVIL]
    shown = texts(value)
    assert type(value).__name__ in shown
    assert EVIL in shown


def test_calculation_shows_what_its_text_says() -> None:
    calculation = (
        Calculation(score=pl.col("stars") * pl.col("n"), other="stars")
        .filter(pl.col("n") > 3)
        .with_schema({"stars": pl.Float64, "n": pl.Int64})
        .drop("x", "y")
    )
    shown = texts(calculation)
    for word in re.findall(r"[\w.]+", describe(calculation._spec)):
        assert word in shown
    assert "Float64" in shown
    assert "schema" not in texts(Calculation(a="b"))


def test_summary_shows_its_rows() -> None:
    shown = texts(SUMMARY)
    for row in SUMMARY.rows():
        assert all(part in shown for part in row)


def test_colours_follow_the_notebook() -> None:
    style = re.findall(r"<style>(.*?)</style>", CALCULATION._repr_html_(), re.DOTALL)
    assert len(style) == 1
    assert "prefers-color-scheme: dark" in style[0]
    assert "data-jp-theme-light" in style[0]
    assert all(rule.strip().startswith((".jsonl-transform", "@media", "[data-jp-theme-light"))
               for rule in re.findall(r"([^{}]+)\{", style[0].replace("} }", "}")))  # fmt: skip


def test_tab_completion_finds_what_there_is_to_do() -> None:
    assert {"compare", "profile", "preview", "run", "filter", "with_schema"} <= set(dir(CALCULATION))
    assert {"read_rejects", "Comparison", "Profile"} <= set(dir(transform))
