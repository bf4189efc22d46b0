"""A worker process finds the modules that the process which started it finds, but no others."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import environment_with
from transform.engine.remote_worker import import_path

if TYPE_CHECKING:
    from pathlib import Path

RUN = """
import sys
sys.path[:0] = {places}
from functools import partial
from helper import calculation
from tests.support import example
from tests.support.tuned import READY_WAIT_S, Tuned
from transform import LineFunction
from transform.engine.options import PoolOptions
from transform.engine.remote_worker import RemoteWorker

given = []
class Noting(RemoteWorker):
    def give(self, item):
        given.append(item)
        super().give(item)

with open("in", "wb") as file:
    file.write(example.lines(60))
pool = PoolOptions(min_chunks=1, start_worker=partial(Noting, ready_wait_s=READY_WAIT_S))
Tuned(LineFunction(calculation), pool=pool).run("in", "out", workers=2, range_bytes=100, chunk_bytes=100)
assert given
"""
LIBRARIES = "msgspec", "polars", "numpy", "pyarrow", "json", "mmap", "pickle", "cloudpickle", "transform"
HELPER = "def calculation(line):\n    return {'sum': line['a'] + 1}\n"


def run(code: str, cwd: Path, *options: str, helpers: Path) -> str:
    environ = environment_with({})
    environ["PYTHONPATH"] += f"{os.pathsep}{helpers}"
    command = [sys.executable, *options, "-c", code]
    result = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with files that have the names of libraries."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in LIBRARIES:
        (folder / f"{name}.py").write_text("open('executed', 'a').write(__name__)\nraise SystemExit(__name__)\n")
    return folder


def test_files_in_the_current_directory_are_not_executed(hostile: Path, tmp_path: Path) -> None:
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "helper.py").write_text(HELPER)
    run(RUN.format(places=[]), hostile, "-P", helpers=helpers)
    assert not (hostile / "executed").exists()
    assert (hostile / "out").read_bytes().count(b"\n") == 60


def test_modules_in_the_current_directory_are_found_where_this_process_finds_them(tmp_path: Path) -> None:
    # As in notebooks and with `python -c`, which look in the current directory first.
    (tmp_path / "helper.py").write_text(HELPER)
    run(RUN.format(places=[]), tmp_path, helpers=tmp_path / "none")
    assert (tmp_path / "out").read_bytes().count(b"\n") == 60


def test_relative_places_are_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/one", "inner", "/two"])
    assert import_path() == ("/one", "/two", str(tmp_path), str(tmp_path / "inner"))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert import_path() == ("/one", "/two")
