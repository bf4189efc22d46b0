"""How many cores there are, by affinity and by quota."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from transform import _process

if TYPE_CHECKING:
    from pathlib import Path

OURS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", OURS), ("50000 100000", 1), ("100000 100000", 1), ("6400000 100000", OURS), ("nonsense", OURS)],
)
def test_the_quota_of_a_container_counts(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert _process.available_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", OURS), ("50000", 1), ("110000", min(OURS, 2))])
def test_so_does_that_of_an_older_kernel(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert _process.available_cores(tmp_path) == expected


def test_without_one_it_is_the_cores_this_process_may_run_on(tmp_path: Path) -> None:
    assert _process.available_cores(tmp_path) == OURS
