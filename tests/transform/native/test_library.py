"""The compiled library is found, and its functions fit the processor."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from transform.errors import TransformError
from transform.native.library import load_library

if TYPE_CHECKING:
    from pathlib import Path

LOWEST = "neon" if platform.machine() in {"aarch64", "arm64"} else "v1"


def test_highest_level_is_taken_if_none_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORM_CPU", "")
    library, level = load_library()
    highest = library.cpu_level()
    assert level == (f"v{highest}" if highest else "neon")
    assert hasattr(library, f"scan_{level}")


@pytest.mark.parametrize("from_environment", [True, False])
def test_level_can_be_forced(monkeypatch: pytest.MonkeyPatch, from_environment: bool) -> None:
    monkeypatch.setenv("TRANSFORM_CPU", LOWEST if from_environment else "nonsense")
    assert load_library(level=None if from_environment else LOWEST)[1] == LOWEST


def test_missing_library_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(
        TransformError, match=r"the compiled kernel can't be loaded: .*absent\.so.* Install the package"
    ):
        load_library(tmp_path / "absent.so")
