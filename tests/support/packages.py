"""Builds the package, and runs Python in other environments than that of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl

from tests.conftest import ROOT

TIMEOUT_S = 100
INSTALL_TIMEOUT_S = 900  # with what is fetched


def run_python(
    *arguments: object, cwd: Path, timeout_s: float = TIMEOUT_S, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    variables = {name: value for name, value in os.environ.items() if name != "KERNEL_TARGET"} | env
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def build_wheel(directory: Path, tree: Path = ROOT, **env: str) -> Path:
    done = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=tree, timeout_s=TIMEOUT_S, **env)
    assert done.returncode == 0, done.stderr
    (wheel,) = directory.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment that has the package from a wheel or an archive, and nothing of this tree.

    Args:
        directory: Where it is created; commands run beside it.
        shared: Whether to take the dependencies from the environment of the tests, instead of installing them.
    """

    def __init__(self, directory: Path, *, shared: bool) -> None:
        self.cwd = directory
        self.bin = directory / "venv" / "bin"
        done = run_python(
            "-m",
            "venv",
            *(["--without-pip"] if shared else []),
            directory / "venv",
            cwd=directory,
            timeout_s=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        self.pip: tuple[str | Path, ...] = (self.bin / "python", "-m", "pip")
        if shared:
            self.pip = (sys.executable, "-m", "pip", "--python", self.bin / "python")
            (site,) = (directory / "venv").glob("lib/python3*/site-packages")
            # Directories that are named this way come last, and .pth files in them count for nothing.
            (site / "shared.pth").write_text(f"{Path(pl.__file__).parents[1]}\n")

    def install(self, *arguments: object) -> None:
        """Install with pip."""
        self._run(*self.pip, "install", "--quiet", *arguments, timeout_s=INSTALL_TIMEOUT_S)

    def run(self, program: str, *arguments: object) -> str:
        """Run a program of the environment; return what it prints."""
        return self._run(self.bin / program, *arguments, timeout_s=TIMEOUT_S)

    def _run(self, *command: object, timeout_s: float) -> str:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [*map(str, command)], cwd=self.cwd, env=variables, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
