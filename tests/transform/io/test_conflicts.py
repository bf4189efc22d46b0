"""Two locations are in conflict if they are one file or object, by whatever names, and not if both are a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transform.errors import OptionError, OutputError
from transform.io.conflicts import check_no_conflicts

if TYPE_CHECKING:
    from pathlib import Path


def test_one_file_by_two_names_is_a_conflict(tmp_path: Path) -> None:
    path, link, other = tmp_path / "file", tmp_path / "link", tmp_path / "other"
    path.touch()
    other.hardlink_to(path)
    link.symlink_to(path)
    for name in (path, link, other, tmp_path / "." / "file"):
        with pytest.raises(OutputError, match=f"^the output is the input: {path}. Give another place"):
            check_no_conflicts({"input": path, "output": name})


def test_a_file_that_is_not_there_yet_is_a_conflict_with_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    for name in ("new", "link"):
        with pytest.raises(OutputError, match="the rejects is the output"):
            check_no_conflicts({"output": tmp_path / "new", "rejects": tmp_path / name})


def test_what_is_not_one_regular_file_is_no_conflict(tmp_path: Path) -> None:
    check_no_conflicts({"input": "/dev/null", "output": "/dev/null", "rejects": None})
    check_no_conflicts({"input": tmp_path / "a", "output": tmp_path / "b"})
    check_no_conflicts({"input": "s3://bucket/a", "output": "s3://bucket/b"})
    with pytest.raises(OutputError):
        check_no_conflicts({"input": "s3://bucket/a", "output": "s3://bucket/a"})


def test_what_can_be_neither_read_nor_written_is_refused() -> None:
    for role in ("input", "output"):
        with pytest.raises(OptionError, match=f"^the {role} is a path, a URI, `-` or a binary file object, not 1$"):
            check_no_conflicts({role: 1})
