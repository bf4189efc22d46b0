"""Imports go one way: no cycles, no stage knows what drives it, and nothing heavy comes before it is needed."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import transform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
SOURCES = {path.stem: path for path in sorted((ROOT / "transform").glob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}

LEAVES = {"errors", "leftovers", "members"}
"""Import nothing of the package."""

STAGES = {
    *LEAVES,
    "block",
    "columns",
    "compression",
    "decode",
    "evaluate",
    "expressions",
    "layout",
    "lines",
    "plan",
    "reader",
    "rejects",
    "s3",
    "sample",
    "schema",
    "sinks",
    "sources",
    "splice",
}
DRIVERS = {
    *("__init__", "__main__", "calculation", "cli", "compare", "engine", "preview", "profile", "rejected", "report"),
    *("check", "scaffold", "walk", "option_types", "calculation_options"),
}
"""What puts the stages together; no stage knows of them, not even through another."""

COMMAND = {"cli", "calculation_options", "option_types"}
"""Only these know how commands are made."""


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is evaluated at import, and what only type checkers look at: all but the bodies of functions."""
    yield node
    parts: Iterable[ast.AST | None]
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parts = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        case ast.Lambda():
            parts = [*node.args.defaults, *node.args.kw_defaults]
        case _:
            parts = ast.iter_child_nodes(node)
    for part in parts:
        if part is not None:
            yield from at_import(part)


def names_imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the full names of what the statements among the nodes import, and of the packages they are in."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:size]) for name in found for size in range(1, name.count(".") + 2)}


def modules_imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Return which modules of the package are imported."""
    names = names_imported(nodes)
    found = {name for name in SOURCES if f"transform.{name}" in names}
    public = {name for name in transform.__all__ if f"transform.{name}" in names and name not in SOURCES}
    return found | ({"__init__"} if public else set())


IMPORTS = {name: modules_imported(at_import(tree)) for name, tree in TREES.items()}


def reached(name: str) -> set[str]:
    """Return what a module imports, directly or through others."""
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        more = IMPORTS[open_ends.pop()] - found
        found |= more
        open_ends += more
    return found


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_names_above_are_modules() -> None:
    assert SOURCES.keys() >= STAGES | DRIVERS


def test_there_are_no_cycles() -> None:
    # `__init__` names the public modules for type checkers only; nothing imports through it while it is imported.
    graph = {name: imports - {name} for name, imports in IMPORTS.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises with the cycle, if there is one
    assert set(order) == set(SOURCES)


def test_stages_do_import_one_another() -> None:
    # Without this the tests here would hold for a parser of imports that finds none.
    assert {"decode", "evaluate", "splice"} <= IMPORTS["plan"]
    assert {"errors", "lines", "layout"} <= reached("decode")
    assert "calculation" in IMPORTS["__init__"], "what only type checkers look at counts, too"


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_leaf_imports_nothing_of_the_package(name: str) -> None:
    assert IMPORTS[name] == set()


@pytest.mark.parametrize("name", sorted(STAGES))
def test_stage_knows_nothing_of_what_drives_it(name: str) -> None:
    assert not reached(name) & DRIVERS


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_but_the_command_imports_the_command(name: str) -> None:
    everywhere = modules_imported(ast.walk(TREES[name]))
    if name != "__main__":
        assert "cli" not in everywhere
    if name not in COMMAND:
        assert not everywhere & COMMAND - {"cli"}
    if name != "cli":
        assert "report" not in everywhere


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_packages_that_have_no_business_here_are_not_imported(name: str) -> None:
    packages = {imported.partition(".")[0] for imported in names_imported(ast.walk(TREES[name]))}
    assert not packages & {"runner", "tests", "boto3", "requests", "pandas"}
    if name not in COMMAND:
        assert "click" not in packages
    if name not in {"cli", "report"}:
        assert "rich" not in packages


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_environment_is_not_read_at_import(name: str) -> None:
    for node in at_import(TREES[name]):
        assert not (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}), node.lineno
        assert not (isinstance(node, ast.Name) and node.id in {"environ", "getenv"}), node.lineno


def test_environment_is_not_read_at_import_through_functions_either() -> None:
    program = """
import importlib, os, sys
class Watched(type(os.environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame.f_globals.get("__name__") in {"os", "_collections_abc", "collections.abc"}:
            frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith("transform"):
            print(frame.f_globals["__name__"], key)
        return super().__getitem__(key)
os.environ.__class__ = Watched
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    names = [f"transform.{name}" for name in SOURCES if not name.startswith("__")]
    result = child("-c", program, *names)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
    # The watch does see what is read.
    asks = "import transform.s3; transform.s3.endpoint()"
    seen = child("-c", f"{program}\n{asks}").stdout.splitlines()
    assert seen == ["transform.s3 AWS_ENDPOINT_URL_S3", "transform.s3 AWS_ENDPOINT_URL"]


def test_import_is_silent_with_warnings_as_errors() -> None:
    names = "".join(f"transform.{name}\n" for name in transform.__all__)
    result = child("-W", "error", "-c", f"import transform\n{names}")
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_import_of_both_packages_is_silent_with_warnings_as_errors() -> None:
    result = child("-W", "error", "-c", "import transform, runner, transform.cli, runner.cli; transform.Calculation")
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


HEAVY = {"polars", "numpy", "pyarrow", "msgspec", "s3fs", "fsspec", "aiobotocore", "botocore", "rich", "click"}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import transform", set()),
        ("import transform.cli", {"click"}),
        ("import transform.errors", set()),
        ("from transform import Calculation; Calculation.from_sql('a AS b').with_schema({'a': 'Int64'})", {"polars"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, allowed: set[str]) -> None:
    result = child("-c", f"{statement}\nimport json, sys\nprint(json.dumps([*sys.modules]))")
    assert result.stderr == ""
    assert set(json.loads(result.stdout)) & HEAVY == allowed


def test_local_runs_do_not_wait_for_s3() -> None:
    program = """
import io, sys, transform
transform.Calculation.from_sql("a AS b").run(io.BytesIO(b'{"a":1}'), io.BytesIO())
print(*sys.modules, sep="\\n")
"""
    result = child("-c", program)
    assert result.stderr == ""
    assert not set(result.stdout.split()) & {"s3fs", "fsspec", "aiobotocore", "botocore"}
    assert "polars" in result.stdout.split()


@pytest.mark.parametrize("name", transform.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(transform, name)
    assert value.__name__ == name
    assert value.__module__.startswith("transform.")
    assert inspect.getdoc(value)
    assert name in dir(transform)


def test_public_methods_are_documented() -> None:
    for owner in (transform.Calculation, transform.Summary):
        for name, member in inspect.getmembers(owner):
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{owner.__name__}.{name}"


def test_public_names_are_sorted_and_the_contract() -> None:
    assert transform.__all__ == sorted(transform.__all__)
    assert {"Calculation", "Summary", "TransformError", "load"} <= set(transform.__all__)


def test_errors_are_one_hierarchy() -> None:
    values = [getattr(transform, name) for name in transform.__all__]
    errors = [value for value in values if isinstance(value, type) and issubclass(value, BaseException)]
    assert len(errors) > 4
    assert all(issubclass(error, transform.TransformError) for error in errors)


def test_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"^module 'transform' has no attribute 'Claculation'$"):
        _ = transform.Claculation
