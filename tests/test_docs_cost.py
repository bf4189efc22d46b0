"""The figures of docs/cost.md are those of docs/benchmark.json, and the README's are those of docs/cost.md."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cost.md").read_text()
RESULTS = json.loads((ROOT / "docs" / "benchmark.json").read_text())
MEASURED = RESULTS["time"]
TB, GIB_PER_VCPU = 10**12, 2
LIKE_MEASURED = 0.2
"""A new measurement changes the page only if it differs by more than machines do."""


def number(text: str) -> float:
    return float(text.replace(",", "").strip("*$"))


def rows() -> dict[str, list[float]]:
    """Return the numbers of each way: CPU seconds for 2 GB, vCPU-seconds and vCPU-hours for 1 TB, dollars."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    return {way: [number(cell) for cell in cells.split(" | ")] for way, cells in found}


def s3_rows() -> dict[str, list[float]]:
    """Return the same numbers of each way from S3 to S3."""
    table = PAGE.partition("| from S3 to S3 |")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {way: [number(cell) for cell in numbers] for way, *numbers in cells}


def dollars_per_vcpu_hour() -> float:
    per_vcpu, per_gb = (number(text) for text in re.findall(r"\$0\.04048|\$0\.004445", PAGE)[:2])
    return per_vcpu + GIB_PER_VCPU * per_gb


def test_seconds_are_those_that_were_measured() -> None:
    append = MEASURED["append"]
    measured = {way["way"]: way["cpu_s"] * 2e9 / append["bytes"] for way in append["ways"]}
    assert rows()["transform"]
    for way, (seconds, *_) in rows().items():
        assert seconds == pytest.approx(measured[way], rel=LIKE_MEASURED), f"docs/cost.md: {way} takes {measured[way]}"


def test_seconds_from_s3_to_s3_are_those_that_were_measured() -> None:
    measured = {row["what"].removesuffix(", S3 to S3"): row["cpu_s"] for row in RESULTS["queue"]}
    assert len(s3_rows()) == 3
    for way, (seconds, *_) in s3_rows().items():
        assert seconds == pytest.approx(measured[way], rel=LIKE_MEASURED), f"docs/cost.md: {way} takes {measured[way]}"


def test_the_rest_follows_from_them() -> None:
    price = dollars_per_vcpu_hour()
    assert f"${price:.5f}" in PAGE
    for seconds, per_tb, hours, dollars in [*rows().values(), *s3_rows().values()]:
        assert per_tb == pytest.approx(seconds * TB / 2e9, rel=0.02)
        assert hours == pytest.approx(per_tb / 3600, rel=0.01)
        assert dollars == pytest.approx(hours * price, abs=0.005)


def test_readme_says_the_same() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    _, per_tb, hours, dollars = s3_rows()["worker"]
    said = f"takes about {per_tb:,.0f} vCPU-seconds from S3 to S3: {hours:.2f} vCPU-hours or **${dollars:.2f}**"
    assert said in readme
    assert f"from file to file it takes {rows()['transform'][1]:,.0f} vCPU-seconds" in readme


def test_readme_says_what_was_measured() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    words = (
        r"appending a column takes (\S+), replacing a value (\S+), keeping .* lines (\S+), "
        r"dropping .* members (\S+) and .* three (\S+)\. Two"
    )
    found = re.search(words, readme)
    assert found is not None
    for operation, said in zip(("append", "replace", "filter", "drop", "select"), found.groups(), strict=True):
        ways = {way["way"]: way["cpu_s"] for way in MEASURED[operation]["ways"]}
        assert number(said) == pytest.approx(ways["transform"] / ways["polars_scan"], rel=LIKE_MEASURED), operation
    times = round(rows()["per_line_json"][0] / rows()["transform"][0])
    assert f"It takes {times} times the CPU time" in readme
