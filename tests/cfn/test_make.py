"""What is given on the command line of make reaches the program as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

VALUES = [
    "$(shell touch made)",
    "$(",
    "a = $b",
    "$$c",
    'it\'s "so"',
    "a\\",
    "# b",
    "`touch made`",
    "${d}",
    "x=y",
    "%",
    "",
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose Python prints its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/installed").touch()
    python = tmp_path / ".venv/bin/python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    return tmp_path


def run(command: list[str], clone: Path) -> subprocess.CompletedProcess[str]:
    """Run make, which must not know that it may be within another one."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    environ = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(command, cwd=clone, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["image", "push", "deploy-fargate", "deploy-ec2", "status", "smoke", "destroy"])
@pytest.mark.parametrize("name", ["WHERE", "TAGS", "pWhere"])
def test_values_are_what_they_are(clone: Path, target: str, name: str) -> None:
    for value in VALUES:
        command = ["make", "--old-file", ".venv/installed", target, f"{name}={value}"]
        done = run(command, clone)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == f"{name}={value}"
    assert not (clone / "made").exists()


def test_a_value_of_several_lines_is_refused(clone: Path) -> None:
    command = ["make", "--old-file", ".venv/installed", "status", "WHERE=a\nYES=1"]
    done = run(command, clone)
    assert done.returncode == 2
    assert "WHERE has more than one line" in done.stderr
