"""What is installed is the whole package: from the wheel and the source distribution, with pip and uv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.documents import FENCE
from tests.support.packages import INSTALL_TIMEOUT_S, Environment, build_wheel, run_python

SAMPLE = "sample_data/yelp_businesses.json"
RUN = ("run", SAMPLE, "scored.json", "-q", "-e", "stars * review_count AS review_score")

PROGRAM = """\
from pathlib import Path

import polars as pl

from transform import Calculation, RejectedError, Runnable, SchemaError, State, Summary
from transform import TransformError, WidenError, load

calculation: Calculation = (
    Calculation(score=pl.col("stars") * 2).filter(pl.col("open") == 1).with_schema({"stars": pl.Float64}).drop("x")
)
loaded: Runnable = load("calculation.py")


def told(done: int, size: int | None) -> None:
    print(done, size)


def run() -> int:
    summary: Summary = calculation.run(Path("in.jsonl"), "out.jsonl", max_rejects="5%", workers=2, progress=told)
    return summary.lines_out


def stream() -> bytes:
    state = State()
    while True:
        output = b""
        try:
            with calculation.stream("in.jsonl", state, on_error="fail") as parts:
                for part in parts:
                    output += b"".join(part.output) + b"".join(part.rejects)
            return output
        except WidenError as error:
            state = state.restarted(error.name, error.dtype)


try:
    run()
except RejectedError as error:
    place: tuple[int | None, int | None, str | None] = (error.line, error.offset, error.reason)
except SchemaError as error:
    column: str | None = error.column
except TransformError as error:
    text: str = str(error)
"""
"""Uses what programs use; each of its types is one that a type checker has to know."""

WRONG = """\
from transform import Calculation, load

calculation = Calculation.from_sql("a AS b")
calculation.run("in.jsonl", "out.jsonl", on_error="skip")
calculation.run("in.jsonl", "out.jsonl", wrokers=2)
calculation.run("in.jsonl", "out.jsonl").lines_uot
load(1)
"""
"""Each line after the third is a mistake."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel for this machine."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel in an environment of its own, with the dependencies of the tests."""
    environment = Environment(tmp_path_factory.mktemp("installed"), shared=True)
    environment.install("--no-deps", "--no-index", wheel)
    shutil.copytree(ROOT / "sample_data", environment.cwd / "sample_data")
    return environment


def test_commands_and_the_python_of_the_readme_work_where_the_wheel_is_installed(installed: Environment) -> None:
    installed.run("transform", *RUN)
    assert (installed.cwd / "scored.json").read_bytes().count(b'"review_score":') == 200
    assert re.fullmatch(r"transform \d+\.\d+\.\d+ \(kernel \w+\)\n", installed.run("transform", "--version"))
    assert "worker" in installed.run("runner", "--help")
    (code,) = (code for kind, code in FENCE.findall((ROOT / "README.md").read_text()) if kind == "python")
    printed = installed.run(
        "python", "-c", code + "import runner, transform\nprint(transform.__file__, runner.__file__)"
    )
    assert "review_score" in printed
    files = [Path(name) for name in printed.splitlines()[-1].split()]
    assert all(file.is_relative_to(installed.cwd) and file.with_name("py.typed").exists() for file in files)


@pytest.mark.slow  # half a minute, most of it for polars; `make lint` checks the uses of these types in the tests
@pytest.mark.timeout(INSTALL_TIMEOUT_S)
def test_type_checkers_know_the_types_of_the_installed_package(installed: Environment) -> None:
    for name, text in (("program.py", PROGRAM), ("wrong.py", WRONG)):
        (installed.cwd / name).write_text(text)
    mypy = ("-m", "mypy", "--strict", "--config-file=", "--python-executable", installed.bin / "python")
    done = run_python(*mypy, "program.py", "wrong.py", cwd=installed.cwd, timeout_s=INSTALL_TIMEOUT_S)
    found = re.findall(r"^(\S+): error: .* \[(.*)\]$", done.stdout, re.MULTILINE)
    wrong = ("arg-type", "call-arg", "attr-defined", "arg-type")
    assert found == [(f"wrong.py:{line}", kind) for line, kind in enumerate(wrong, 4)], done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(2 * INSTALL_TIMEOUT_S)
def test_source_distribution_is_built_and_installed_with_nothing_but_pip(tmp_path: Path) -> None:
    done = run_python("-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path / "dist", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    environment = Environment(tmp_path, shared=False)
    environment.install(*tmp_path.glob("dist/*.tar.gz"))  # pip fetches what it is built with, and the dependencies
    (tmp_path / "sample_data").mkdir()
    shutil.copy(ROOT / SAMPLE, tmp_path / SAMPLE)
    environment.run("transform", *RUN)
    assert (tmp_path / "scored.json").read_bytes().count(b'"review_score":') == 200


@pytest.mark.slow
@pytest.mark.timeout(2 * INSTALL_TIMEOUT_S)
def test_wheel_with_the_extra_runs_the_demo_in_an_empty_directory(tmp_path: Path, wheel: Path) -> None:
    environment = Environment(tmp_path, shared=False)
    environment.install(f"{wheel}[demo]")
    printed = environment.run("runner", "demo")
    assert '"review_score":' in printed
    (advised,) = re.findall(r"^  (.*transform) preview (\S+) -e '(.*)'$", printed, re.MULTILINE)
    program, file, expression = advised
    assert "review_score" in environment.run(Path(program).name, "preview", file, "-e", expression)


@pytest.mark.slow
@pytest.mark.timeout(2 * INSTALL_TIMEOUT_S)
def test_uv_installs_the_commands_and_runs_them_without(tmp_path: Path, wheel: Path) -> None:
    env = os.environ | {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}

    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=INSTALL_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    uv = Path(sys.executable).with_name("uv")
    run(uv, "tool", "install", wheel)
    version = run(tmp_path / "bin" / "transform", "--version")
    assert version.startswith("transform ")
    assert run(uv, "tool", "run", "--from", wheel, "transform", "--version") == version
    assert "health" in run(tmp_path / "bin" / "runner", "--help")
