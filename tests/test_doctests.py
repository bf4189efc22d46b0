"""The examples in the docstrings of every module run, and print what they show."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from typing import Any

import pytest

import transform
from tests.test_layers import SOURCES
from transform.engine.options import RunOptions

MADE_BY_THE_PACKAGE = {"Runnable", "S3Failure", "State", "Stream"}
"""Nobody else makes them, so that their attributes are what is documented."""
TOLD_BY_THEIR_SENTENCE = {"State.restarted"}
"""What the runner calls, and users have no need to."""
MODULES = sorted(SOURCES.keys() - {"runner.__main__"})
"""Every module of both packages but the one that runs the command as soon as it is imported."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    outcome = doctest.testmod(module)
    assert outcome.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in MODULES if ">>> " in SOURCES[name].read_text()])
def test_examples_of_a_file_are_found(name: str) -> None:
    # Without this the test above would pass for modules whose examples are not found.
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(importlib.import_module(name))
    found = {(test.lineno, example.lineno) for test in tests for example in test.examples}  # once under all its names
    assert len(found) == SOURCES[name].read_text().count(">>> ")


def test_calculation_and_its_sql_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name for test in finder.find(importlib.import_module("transform.calculation")) if test.examples}
    assert {"transform.calculation.Calculation", "transform.calculation.Calculation.from_sql"} <= found


@pytest.mark.parametrize("name", transform.__all__)
def test_public_name_has_an_example(name: str) -> None:
    value = getattr(transform, name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert any(test.examples for test in finder.find(value, name, module=importlib.import_module(value.__module__)))


def callables() -> list[tuple[str, Any]]:
    """Return the public functions and methods, and what makes an object, by name."""
    found = []
    for name in transform.__all__:
        value = getattr(transform, name)
        found.append((name, value))
        if isinstance(value, type):
            methods = inspect.getmembers(value, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
            found += [(f"{name}.{method}", of) for method, of in methods if not method.startswith("_")]
    return [(name, value) for name, value in found if not (isinstance(value, type) and issubclass(value, Exception))]


@pytest.mark.parametrize(("name", "value"), callables(), ids=[name for name, _ in callables()])
def test_parameters_and_errors_are_documented(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    assert text, name
    parameters = [parameter for parameter in inspect.signature(value).parameters if parameter != "self"]
    if any(parameter.annotation == "Unpack[RunOptions]" for parameter in inspect.signature(value).parameters.values()):
        parameters[-1:] = [r"\*\*options", *RunOptions.__annotations__]
    told = name in MADE_BY_THE_PACKAGE | TOLD_BY_THEIR_SENTENCE or (len(parameters) == 1 and inspect.isroutine(value))
    for parameter in [] if told else parameters:
        assert re.search(rf"^ +{parameter}: ", text, re.MULTILINE), f"{name}: {parameter}"
    if inspect.isfunction(value) and "raise " in inspect.getsource(value):
        assert "Raises:" in text, name
