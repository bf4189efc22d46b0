"""Imports go down one list of rooms for each package, and nothing heavy comes before it is needed."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import transform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]

ROOMS = {
    "transform": ("cli", "api", "explore", "engine", "expressions", "decode", "native", "io", "base"),
    "runner": ("cli", "ops", "worker", "job", "aws", "base"),
    "cfn": (
        *("__main__", "smoke", "deployment", "changes", "plan", "companion_stacks", "failures", "image", "stack"),
        *("account", "environment", "environment_file", "template", "messages"),
    ),
}
"""From the top to the bottom: a room imports itself and what is below it. A folder is a room; in cfn/ each file is."""

OUTSIDE_FOLDERS = {
    "transform": {
        "api": {
            *("calculation", "by_prefix", "line_function", "loading", "local_imports", "lookup_tables", "progress_bar"),
            "runnable",
        },
        "base": {"_process", "errors", "html", "sizes", "terminal_text"},
    },
    "runner": {
        "cli": {"__main__", "cli", "demo"},
        "base": {
            *("errors", "health", "key_template", "log", "machine", "metrics", "permissions"),
            *("setting_texts", "setting_types", "setting_values", "settings", "settings_variable"),
        },
    },
    "cfn": {},
}
"""The rooms of the files that lie beside the folders; `__init__` of a package names what is public, from any room."""


def modules_of(package: str) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return dict(zip(names, files, strict=True))


SOURCES = {name: file for package in ROOMS for name, file in modules_of(package).items()}
MODULES = sorted(SOURCES.keys() - {*ROOMS, "transform.__main__"})
OF_CFN = [name for name in MODULES if name.startswith("cfn.")]
OF_RUNNER = [name for name in MODULES if name.startswith("runner.")]
OF_TRANSFORM = [name for name in MODULES if name.startswith("transform.")]


@cache
def tree(name: str) -> ast.Module:
    """Return the tree of a module."""
    return ast.parse(SOURCES[name].read_text())


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


def imports_of(name: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Return the modules of its own package that a module imports; importing one in a folder runs no other file."""
    package = name.partition(".")[0]
    found = {other for other in names_imported(nodes) if other in SOURCES and other.startswith(f"{package}.")}
    leaves = {other for other in found if not any(more.startswith(f"{other}.") for more in found)}
    return leaves - {name}


def room_of(name: str) -> str:
    package, first, *_ = name.split(".")
    for room, files in OUTSIDE_FOLDERS[package].items():
        if first in files:
            return room
    return first


def height_of(name: str) -> int:
    """Return how high the room of a module is above the ground."""
    return -ROOMS[name.partition(".")[0]].index(room_of(name))


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def modules_after(statement: str) -> set[str]:
    result = child("-W", "error", "-c", f"{statement}\nimport json, sys\nprint(json.dumps([*sys.modules]))")
    assert (result.stderr, result.returncode) == ("", 0)
    return set(json.loads(result.stdout))


def test_each_file_lies_in_a_room() -> None:
    assert [name for name in MODULES if room_of(name) not in ROOMS[name.partition(".")[0]]] == []


def test_imports_go_down_the_list_of_rooms() -> None:
    upward = {
        (name, other)
        for name in MODULES
        for other in imports_of(name, ast.walk(tree(name)))
        if height_of(other) > height_of(name)
    }
    assert not upward


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_there_are_no_cycles(package: str) -> None:
    names = [name for name in MODULES if name.startswith(f"{package}.")]
    order = [*TopologicalSorter({name: imports_of(name, at_import(tree(name))) for name in names}).static_order()]
    assert set(order) >= set(names)  # raises with the cycle, if there is one


def test_files_do_import_one_another() -> None:
    # Without this the tests here would hold for a parser of imports that finds none.
    plan = imports_of("transform.engine.plan", at_import(tree("transform.engine.plan")))
    assert {"transform.decode.decoder", "transform.expressions.evaluate", "transform.engine.splice"} <= plan
    loop = imports_of("runner.worker.loop", at_import(tree("runner.worker.loop")))
    assert {"runner.worker.crew", "runner.worker.settlement", "runner.worker.intake"} <= loop


def test_only_what_the_engine_exports_is_used_outside_it() -> None:
    for name in OF_RUNNER + OF_CFN:
        used = {imported for imported in names_imported(ast.walk(tree(name))) if imported.startswith("transform.")}
        assert used <= {f"transform.{public}" for public in transform.__all__}, name


def test_the_program_that_deploys_uses_settings_and_keys_of_the_worker_only() -> None:
    for name in OF_CFN:
        used = names_imported(ast.walk(tree(name)))
        of_runner = {imported for imported in used & SOURCES.keys() if imported.startswith("runner.")}
        assert {room_of(module) for module in of_runner - {"runner.job", "runner.job.keys"}} <= {"base"}, name


def test_the_packages_do_without_the_program_that_deploys() -> None:
    for name in {*MODULES} - {*OF_CFN}:
        assert not names_imported(ast.walk(tree(name))) & {"cfn", "tests"}, name


def test_packages_that_have_no_business_in_the_engine_are_not_imported() -> None:
    for name in OF_TRANSFORM:
        packages = {imported.partition(".")[0] for imported in names_imported(ast.walk(tree(name)))}
        assert not packages & {"runner", "tests", "boto3", "requests", "pandas"}, name
        if room_of(name) != "cli":
            assert "click" not in packages, name
            assert "rich" not in packages or name == "transform.progress_bar", name


def test_environment_is_not_read_at_import() -> None:
    for name in MODULES:
        for node in at_import(tree(name)):
            place = (name, getattr(node, "lineno", 0))
            assert not (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}), place
            if name.startswith("transform."):
                assert not (isinstance(node, ast.Name) and node.id in {"environ", "getenv"}), place


STARTS_A_PROCESS = {"runner.cli", "runner.demo", "runner.job.process", "runner.ops.commands"}


def test_the_worker_reads_the_environment_where_a_process_begins_only() -> None:
    reads = [
        (name, node.lineno)
        for name in OF_RUNNER
        for node in (at_import(tree(name)) if name in STARTS_A_PROCESS else ast.walk(tree(name)))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    ]
    assert reads == []


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
    result = child("-c", program, *[name for name in MODULES if name.startswith("transform.")])
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
    # The watch does see what is read.
    asks = "import transform.io.s3; transform.io.s3.endpoint()"
    seen = child("-c", f"{program}\n{asks}").stdout.splitlines()
    assert seen == ["transform.io.s3 AWS_ENDPOINT_URL_S3", "transform.io.s3 AWS_ENDPOINT_URL"]


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
    assert modules_after(statement) & HEAVY == allowed


def test_local_runs_do_not_wait_for_s3() -> None:
    loaded = modules_after(
        "import io, transform\ntransform.Calculation.from_sql('a AS b').run(io.BytesIO(b'{\"a\":1}'), io.BytesIO())"
    )
    assert not loaded & {"s3fs", "fsspec", "aiobotocore", "botocore"}
    assert "polars" in loaded


def test_the_health_check_imports_nothing_heavy() -> None:
    heavy = {"polars", "numpy", "pyarrow", "s3fs", "boto3", "botocore", "pydantic"}
    assert not modules_after("import runner.cli, runner.health") & heavy


def test_the_worker_itself_does_without_the_engine() -> None:
    # It only keeps messages; what takes memory is in processes that it can do without.
    assert not modules_after("import runner.worker.start") & {"polars", "pyarrow", "s3fs", "boto3"}


def test_a_job_process_does_not_load_what_only_the_worker_needs() -> None:
    assert not modules_after("import runner.job.process") & {"boto3", "click", "rich", "pydantic"}


def test_a_job_does_not_wait_for_imports() -> None:
    # A process is ready once it has what jobs need, S3 aside.
    needed = {"transform.engine.plan", "transform.engine.run", "transform.native.binding", "polars"}
    assert modules_after("import runner.job.process") >= needed


def test_public_names_are_there_and_documented() -> None:
    for name in transform.__all__:
        value = getattr(transform, name)
        assert value.__name__ == name
        assert value.__module__.startswith("transform."), name
        assert inspect.getdoc(value), name
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


PRINTS = {"transform.cli.terminal", "runner.ops.terminal", "cfn.messages"}
"""These make control characters visible."""
ALSO_PRINTS = {
    "runner.demo": {"click.secho"},  # titles
    "runner.ops.commands": {"Console", "Text"},  # the progress of `submit`
    "transform.cli.commands": {"click.echo", "click.style"},  # errors, with colours
    "transform.cli.report": {"Console", "Text"},  # tables
    "transform.progress_bar": {"Console"},
}
"""What else writes to a terminal, or makes text for it; each passes what is not its own through `printable`."""
WRITES = {
    "print",
    "click.echo",
    "click.secho",
    "click.style",
    "sys.stdout.write",
    "sys.stderr.write",
    "Console",
    "Text",
}


def test_texts_reach_the_terminal_where_control_characters_are_made_visible() -> None:
    for name in set(MODULES) - PRINTS:
        calls = {ast.unparse(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)}
        assert calls & WRITES == ALSO_PRINTS.get(name, set()), name
        assert name not in ALSO_PRINTS or "printable" in calls, name
