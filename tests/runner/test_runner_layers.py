"""The worker uses of the engine what that exports, imports go one way, and nothing heavy comes before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import transform
from tests.test_layers import at_import, names_imported

ROOT = Path(__file__).parents[2]
SOURCES = {path.stem: path for path in sorted((ROOT / "runner").glob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
LEAVES = {"errors", "breaker", "health", "task_metadata"}


def imports_of(name: str) -> set[str]:
    names = names_imported(at_import(TREES[name]))
    return {other for other in SOURCES if f"runner.{other}" in names}


def modules_after(statement: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{statement}\nimport json, sys\nprint(json.dumps([*sys.modules]))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stderr == ""
    return set(json.loads(result.stdout))


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_engine_is_known_by_its_public_names(name: str) -> None:
    names = names_imported(ast.walk(TREES[name]))
    used = {imported for imported in names if imported.startswith("transform.")}
    assert used <= {f"transform.{public}" for public in transform.__all__}


def test_there_are_no_cycles() -> None:
    order = [*TopologicalSorter({name: imports_of(name) for name in SOURCES}).static_order()]
    assert set(order) == set(SOURCES)
    assert {"crew", "disposal", "receiver"} <= imports_of("worker"), "or this test sees nothing"


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaf_imports_nothing_of_the_package(name: str) -> None:
    assert imports_of(name) == set()


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_environment_is_read_where_a_process_begins_only(name: str) -> None:
    reads = [
        node
        for node in (ast.walk if name not in {"cli", "demo", "job_process", "operator_commands"} else at_import)(
            TREES[name]
        )
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    ]
    assert reads == []


def test_the_health_check_imports_nothing_heavy() -> None:
    heavy = {"polars", "numpy", "pyarrow", "s3fs", "boto3", "botocore", "pydantic", "structlog"}
    assert not modules_after("import runner.cli, runner.health") & heavy


def test_the_worker_itself_does_without_the_engine() -> None:
    # It only keeps messages; what takes memory is in processes that it can do without.
    assert not modules_after("import runner.start") & {"polars", "pyarrow", "s3fs"}


def test_a_job_does_not_wait_for_imports() -> None:
    # A process is ready once it has what jobs need, S3 aside.
    assert modules_after("import runner.job_process") >= {"transform.plan", "transform.run", "pyarrow.compute"}
