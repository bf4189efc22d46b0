"""The compiled library is found, and its functions fit the processor."""

from __future__ import annotations

import os
import platform
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.packages import run_python
from transform.errors import TransformError
from transform.native.library import LIBRARY, load_library

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


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the package with its sources, and the library compiled from them."""
    ignored = shutil.ignore_patterns("__pycache__", "powers.h")
    shutil.copytree(ROOT / "transform", tmp_path / "transform", ignore=ignored)
    return tmp_path


def test_library_of_other_sources_is_not_loaded(clone: Path) -> None:
    directory = clone / "transform" / "native"
    library = directory / LIBRARY.name
    load_library(library)
    source = directory / "numbers.h"
    content, times = source.read_bytes(), source.stat()
    assert content.count(b"> 9)") == 1
    source.write_bytes(content.replace(b"> 9)", b"> 8)"))
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))  # neither its time nor its size shows the change
    with pytest.raises(TransformError, match=r"was not compiled from the sources .*: run make install, or"):
        load_library(library)
    code = "import pathlib, runpy, sys; runpy.run_path('compiling.py')['compile_library'](pathlib.Path(sys.argv[1]))"
    compiled = library.with_name("compiled.so")  # under the same name, a process gets what it has loaded
    done = run_python("-c", code, str(compiled), cwd=directory)
    assert done.returncode == 0, done.stderr
    load_library(compiled)
    source.write_bytes(content)
    load_library(library)
    with pytest.raises(TransformError, match="make install"):
        load_library(compiled)


@pytest.mark.parametrize("change", ["add", "remove"])
def test_sources_that_are_added_or_removed_count(clone: Path, change: str) -> None:
    directory = clone / "transform" / "native"
    if change == "add":
        (directory / "more.h").write_text("")
    else:
        (directory / "each.h").unlink()
    with pytest.raises(TransformError, match="make install"):
        load_library(directory / LIBRARY.name)


def test_library_without_sources_beside_it_is_loaded(clone: Path) -> None:
    directory = clone / "transform" / "native"
    for path in directory.glob("*.[ch]"):
        path.unlink()
    load_library(directory / LIBRARY.name)


def test_command_says_what_to_do_about_an_old_library(clone: Path) -> None:
    with (clone / "transform" / "native" / "lines.h").open("a") as source:
        source.write("// changed\n")
    (clone / "in.jsonl").write_text('{"a":1}\n')
    done = run_python("-m", "transform", "run", "in.jsonl", "out.jsonl", "-e", "a + 1 AS b", cwd=clone)
    assert done.returncode == 1
    assert "libkernel" in done.stderr
    assert "run make install" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / "out.jsonl").exists()
