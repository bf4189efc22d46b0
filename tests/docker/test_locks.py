"""The image's locks are parts of the one that the tests run with."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["run", "build"])
def test_the_image_has_the_versions_that_are_tested(name: str) -> None:
    everything = set((ROOT / "requirements.lock").read_text().splitlines())
    part = (ROOT / f"requirements-{name}.lock").read_text().splitlines()
    assert len(part) > 10
    assert set(part) <= everything
    assert not any("://" in line for line in part)


def test_nothing_of_the_tests_is_needed_at_run_time() -> None:
    names = [line.partition("==")[0] for line in (ROOT / "requirements-run.lock").read_text().splitlines()]
    assert not {"pytest", "moto", "ministack", "mypy", "hatchling"} & set(names)
    assert {"polars", "s3fs", "boto3", "pydantic-settings"} <= set(names)
