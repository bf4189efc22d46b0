"""The figures of docs/cost.md are those of docs/benchmark.json, and the README's are those of docs/cost.md."""

from __future__ import annotations

import json
import re

import pytest

from tests.benchmarks.queue import CPU_FACTOR, MORE_CPU_S_PER_GB
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cost.md").read_text()
TB, GIB_PER_VCPU = 10**12, 2
LIKE_MEASURED = 0.2
"""A new measurement changes the page only if it differs by more than machines do."""


def number(text: str) -> float:
    return float(text.replace(",", "").strip("*$"))


def rows() -> dict[str, list[float]]:
    """Return the numbers of each way: CPU seconds for 2 GB, vCPU-seconds and vCPU-hours for 1 TB, dollars."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    return {way: [number(cell) for cell in cells.split(" | ")] for way, cells in found}


def dollars_per_vcpu_hour() -> float:
    per_vcpu, per_gb = (number(text) for text in re.findall(r"\$0\.04048|\$0\.004445", PAGE)[:2])
    return per_vcpu + GIB_PER_VCPU * per_gb


def test_seconds_are_those_that_were_measured() -> None:
    append = json.loads((ROOT / "docs" / "benchmark.json").read_text())["time"]["append"]
    measured = {way["way"]: way["cpu_s"] * 2e9 / append["bytes"] for way in append["ways"]}
    assert rows()["transform"]
    for way, (seconds, *_) in rows().items():
        assert seconds == pytest.approx(measured[way], rel=LIKE_MEASURED), f"docs/cost.md: {way} takes {measured[way]}"


def test_the_rest_follows_from_them() -> None:
    price = dollars_per_vcpu_hour()
    assert f"${price:.5f}" in PAGE
    for seconds, per_tb, hours, dollars in rows().values():
        assert per_tb == pytest.approx(seconds * TB / 2e9, rel=0.02)
        assert hours == pytest.approx(per_tb / 3600, rel=0.01)
        assert dollars == pytest.approx(hours * price, abs=0.005)


def test_from_bucket_to_bucket() -> None:
    more = (CPU_FACTOR - 1) * rows()["transform"][1] + MORE_CPU_S_PER_GB * TB / 1e9
    assert more == pytest.approx(4500, rel=0.02)
    hours = (rows()["transform"][1] + more) / 3600
    assert f"about {hours:.1f} vCPU-hours" in PAGE
    assert f"${hours * dollars_per_vcpu_hour():.2f}, from bucket to bucket" in PAGE


def test_readme_says_the_same() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    ours, theirs = rows()["transform"], rows()["per_line_json"]
    assert f"about {ours[1]:,.0f} vCPU-seconds to append a column to, and up to 4,500 more" in readme
    assert f"takes {theirs[1]:,.0f} for the first, or ${theirs[3]}" in readme
    total = re.search(r"about ([0-9.]+) vCPU-hours, or (\$[0-9.]+),", " ".join(PAGE.split()))
    assert total is not None
    assert f"{total[1]} vCPU-hours or **{total[2]}**" in readme
    assert round(theirs[0] / ours[0]) == 10, "the README says ten times the CPU time"
    assert "ten times the CPU time" in readme
    assert round(rows()["spark_json"][0] / ours[0]) == 8, "it says eight times"
    assert "Spark took eight times the CPU time" in readme
