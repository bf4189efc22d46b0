"""The examples in the documentation of every module run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import transform

MODULES = sorted(module.name for module in pkgutil.walk_packages(transform.__path__, "transform."))


@pytest.mark.parametrize("name", ["transform", *MODULES])
def test_examples_give_what_they_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    outcome = doctest.testmod(module)
    assert outcome.failed == 0, capsys.readouterr().out


def test_calculation_and_its_sql_have_examples() -> None:
    # Without this the test above would hold for modules whose examples nobody finds.
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name for test in finder.find(importlib.import_module("transform.calculation")) if test.examples}
    assert {"transform.calculation.Calculation", "transform.calculation.Calculation.from_sql"} <= found
