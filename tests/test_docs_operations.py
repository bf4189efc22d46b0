"""docs/operations.md speaks of what there is: alarms and their thresholds, reasons, outcomes, events, commands."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from runner.cli import cli
from runner.job.protocol import JobResult
from runner.worker.breaker import BreakerState
from tests.cfn.templates import KINDS, defaults, load, of_type
from tests.conftest import ROOT
from tests.test_layers import ROOMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = (ROOT / "docs" / "operations.md").read_text()
FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix(): path
    for package in ("runner", "transform")
    for path in sorted((ROOT / package).rglob("*.py"))
}
"""The files of both packages, by their paths without the suffix."""
SENTENCE = 7
"""Characters of a text that is not there by accident."""


def texts_in(node: ast.AST) -> list[str]:
    """Return the texts in a piece of code; what is filled in is left out."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


@cache
def tree(name: str) -> ast.Module:
    """Return the tree of a file."""
    return ast.parse(FILES[name].read_text())


@cache
def all_texts() -> list[str]:
    return [text for name in FILES for text in texts_in(tree(name))]


def section(title: str) -> str:
    """Return what is below a heading, up to the next of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


def first_cells(title: str) -> list[str]:
    """Return the quotations in the first column of the table of a section."""
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [quoted for row in rows[1:] for quoted in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def items(title: str) -> list[str]:
    """Return the quotations that the items of a section begin with, each of which is on one line, to be found."""
    heads = re.findall(r"^- (.*?)\n\n  (?=\S)", section(title), re.MULTILINE | re.DOTALL)
    return [quoted for head in heads for quoted in re.findall(r"`([^`\n]+)`", head)]


def fragments(quoted: str) -> Iterator[str]:
    """Yield what is the same in all reasons of a kind."""
    for fragment in quoted.removeprefix("failing: ").split("…"):
        if any(letter.isalpha() for letter in fragment):
            yield fragment.strip()


def files_in(place: str) -> list[str]:
    """Return the one file that a place is, or all files of a room."""
    found = [place] if place in FILES else [name for name in FILES if name.startswith(f"{place}/")]
    assert found, f"{place} is neither a file nor a room"
    return found


def calls_of(*names: str, places: Iterable[str] = ("runner", "transform")) -> Iterator[list[str]]:
    """Yield the texts in each call of a function or an error that has words of its own."""
    for module in itertools.chain.from_iterable(map(files_in, places)):
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in names and any(letter.isalpha() for text in texts_in(node) for letter in text):
                    yield texts_in(node)


def test_files_of_every_room_are_read() -> None:
    for package, rooms in ROOMS.items():
        for room in rooms:
            if (ROOT / package / room).is_dir():
                assert len(files_in(f"{package}/{room}")) > 1
    assert {"transform/errors", "transform/io/s3", "runner/settings", "runner/worker/crew"} <= FILES.keys()


REASONS = [
    quoted
    for title in (
        *("The data or the calculation", "AWS or the task", "The message"),
        *("Why a worker is not healthy", "A worker that does not start"),
    )
    for quoted in items(title)
]


@pytest.mark.parametrize("quoted", [*REASONS, "gave up after … attempts, the last of which: …"])
def test_reason_is_one_that_the_code_gives(quoted: str) -> None:
    assert quoted in PAGE
    assert [*fragments(quoted)]
    for fragment in fragments(quoted):
        assert any(fragment in text for text in all_texts()), fragment


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (("runner/job", "transform/io/compression"), ("ImpossibleError", "InputError")),
        (("runner/worker",), ("_open", "broken")),
        (("transform/engine",), ("_rejected_error",)),
        (("transform/io/compression", "transform/io/chunks"), ("InputError",)),
        (("transform/decode/inference",), ("SchemaError",)),
        (("transform/expressions/evaluate", "transform/expressions/row_wise"), ("CalculationError",)),
    ],
    ids=lambda names: names[0],
)
def test_each_way_to_fail_for_good_is_on_the_page(places: tuple[str, ...], names: tuple[str, ...]) -> None:
    known = [fragment for quoted in REASONS for fragment in fragments(quoted) if len(fragment) >= SENTENCE]
    calls = [*calls_of(*names, places=places)]
    assert len(calls) > 1
    for texts in calls:
        assert any(fragment in text for text in texts for fragment in known), texts


def test_outcomes_are_all_there_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", section("What a healthy worker logs"), re.MULTILINE)
    assert rows == sorted({kind.value for kind in JobResult}, key=rows.index)


def test_events_are_logged() -> None:
    logged = {texts[0] for texts in calls_of("debug", "info", "warning", "error", "critical", "tell")}
    named = items("What a healthy worker logs")
    assert len(named) > 5
    breaker = {f"breaker {state.value}" for state in BreakerState}
    assert set(named) - {"reason"} <= logged | breaker
    problems = {texts[0] for texts in calls_of("warning", "error", "critical", places=("runner",))}
    assert len(problems) > 10
    assert problems <= set(named), "an operator who sees it in the log searches the page for it"
    of_metrics = re.findall(r"^\| .* \| `([^`]+)` \|$", section("Numbers without an alarm"), re.MULTILINE)
    assert set(of_metrics) <= set(named)
    filtered = set(re.findall(r"\$\.event = \"(\w+)\"", PAGE))
    assert filtered <= {kind.value for kind in JobResult} | logged
    assert "refused" in filtered & logged


def alarms(kind: str) -> dict[str, dict[str, Any]]:
    return of_type(load(kind), "AWS::CloudWatch::Alarm") | of_type(load("monitoring"), "AWS::CloudWatch::Alarm")


def tells(alarm: dict[str, Any]) -> bool:
    """Return whether an alarm goes to the topic."""
    return "pAlarmTopicArn" in str(alarm["AlarmActions"])


@pytest.mark.parametrize("kind", KINDS)
def test_each_alarm_has_its_section(kind: str) -> None:
    headings = set(re.findall(r"^### .*`(r\w+)`$", PAGE, re.MULTILINE))
    assert headings == {name for name, alarm in alarms(kind).items() if tells(alarm)}
    for name in headings:
        assert "docs/operations.md" in str(alarms(kind)[name]["AlarmDescription"]), "for whoever has nothing but that"
    others = {name for name, alarm in alarms(kind).items() if not tells(alarm)}
    assert others <= set(first_cells("Alarms that need no action"))


@pytest.mark.parametrize("kind", KINDS)
def test_section_of_an_alarm_says_when_it_goes_off(kind: str) -> None:
    parameters = defaults(load(kind))
    for name, alarm in alarms(kind).items():
        if not tells(alarm):
            continue
        heading = next(line for line in PAGE.splitlines() if line.startswith("### ") and line.endswith(f"`{name}`"))
        said = " ".join(section(heading.removeprefix("### ")).partition("\n\n- ")[0].split())
        metrics = [part["MetricStat"] for part in alarm.get("Metrics", ()) if "MetricStat" in part] or [alarm]
        for metric in metrics:
            assert f"`{metric.get('MetricName') or metric['Metric']['MetricName']}`" in said
            assert metric["Period"] in {60, 300}
        minutes = metrics[0]["Period"] * alarm["EvaluationPeriods"] // 60
        threshold = alarm["Threshold"]
        if isinstance(threshold, dict):
            assert f"`{threshold['Ref']}`" in said
            threshold = parameters[threshold["Ref"]]
        outcomes = [part["Value"] for part in alarm.get("Dimensions", ()) if part["Name"] == "Outcome"]
        for expected in (str(threshold), f"{minutes} minutes", *outcomes):
            assert expected in said, (name, expected)
        if "DatapointsToAlarm" in alarm:
            assert f"in {alarm['DatapointsToAlarm']} of {minutes} minutes" in said


@pytest.mark.parametrize("page", ["docs/worker.md", "docs/operations.md"])
def test_commands_of_the_operator_are_ones_that_there_are(page: str) -> None:
    lines = re.findall(r"^ +runner (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert len(lines) > 2
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        options = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_readme_leads_to_the_page() -> None:
    assert "(docs/operations.md)" in (ROOT / "README.md").read_text()
