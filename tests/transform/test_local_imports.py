"""The identity of a calculation includes every module beside it, and workers run the code that it was loaded with."""

from __future__ import annotations

import json
import os
import pickle
import py_compile
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import environment_with
from tests.support import example
from tests.support.tuned import Tuned
from transform import CalculationError, LineFunction, load

if TYPE_CHECKING:
    from transform import Runnable

RETURNS = "def calculation(line):\n    return {'x': value}\n"
BY_PATH = """
from importlib.util import module_from_spec, spec_from_file_location
def by_path(name):
    spec = spec_from_file_location('aside', __file__.replace('mine.py', name))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""
NATIVE = f"native{EXTENSION_SUFFIXES[0]}"
ONE = "value = 1\n"
FUNCTION = "def get():\n    return 1\n"
KINDS: dict[str, tuple[str, dict[str, str], str]] = {
    "a module": ("from helper import value", {"helper.py": ONE}, "helper.py"),
    "a module of a module": (
        "from helper import value",
        {"helper.py": "from deep import value", "deep.py": ONE},
        "deep.py",
    ),
    "a package": ("from pack import value", {"pack/__init__.py": ONE}, "pack/__init__.py"),
    "a package of what is imported": (
        "import pack.inner.part\nvalue = pack.value",
        {"pack/__init__.py": ONE, "pack/inner/__init__.py": "", "pack/inner/part.py": ""},
        "pack/__init__.py",
    ),
    "a submodule": (
        "from pack.inner.part import value",
        {"pack/__init__.py": "", "pack/inner/__init__.py": "", "pack/inner/part.py": ONE},
        "pack/inner/part.py",
    ),
    "a relative import": (
        "from pack import value",
        {"pack/__init__.py": "from .part import value", "pack/part.py": ONE},
        "pack/part.py",
    ),
    "a directory without __init__": ("from space.part import value", {"space/part.py": ONE}, "space/part.py"),
    "a function that imports": (
        "def calculation(line):\n    import helper\n    return {'x': helper.value}",
        {"helper.py": ONE},
        "helper.py",
    ),
    "a function of a package that imports": (
        "from pack.user import get\ndef calculation(line):\n    return {'x': get()}",
        {
            "pack/__init__.py": "",
            "pack/user.py": "def get():\n    from . import late\n    return late.value",
            "pack/late.py": ONE,
        },
        "pack/late.py",
    ),
    "a module of what a function imports": (
        "def calculation(line):\n    import helper\n    return {'x': helper.value}",
        {"helper.py": "from deep import value", "deep.py": ONE},
        "deep.py",
    ),
    "a compiled module that a function imports": (
        "value = 1\ndef never(line):\n    import native",
        {NATIVE: "a = 1"},
        NATIVE,
    ),
    "import_module": (
        "import importlib\nvalue = importlib.import_module('hel' + 'per').value",
        {"helper.py": ONE},
        "helper.py",
    ),
    "import_module in a function": (
        "import importlib\ndef calculation(line):\n    return {'x': importlib.import_module('helper').value}",
        {"helper.py": ONE},
        "helper.py",
    ),
    "a module by its path": (
        f"{BY_PATH}\naside = by_path('aside.py')\nvalue = aside.value",
        {"aside.py": ONE},
        "aside.py",
    ),
    "a function by the path of its module": (
        f"{BY_PATH}\nget = by_path('aside.py').get\nvalue = get()",
        {"aside.py": FUNCTION},
        "aside.py",
    ),
    "a table": (
        "from transform import lookup\nvalue = lookup('t.csv', 'k')[0]",
        {"t.csv": "k\n1\n"},
        "t.csv",
    ),
    "a table of a module": (
        "from helper import value",
        {"helper.py": "from transform import lookup\nvalue = lookup('t.csv', 'k')[0]", "t.csv": "k\n1\n"},
        "t.csv",
    ),
    "one of two tables of the same name": (
        "from transform import lookup\nvalue = lookup('a/t.csv', 'k')[0]\nother = lookup('b/t.csv', 'k')",
        {"a/t.csv": "k\n1\n", "b/t.csv": "k\n1\n"},
        "a/t.csv",
    ),
    "another calculation": (
        "import pathlib\nfrom transform import load\n"
        "value = load(pathlib.Path(__file__).with_name('other.py')).function({})['x']",
        {"other.py": "from helper import value\n" + RETURNS, "helper.py": ONE},
        "helper.py",
    ),
}
REFERENCES: dict[str, tuple[str, str]] = {
    "a file": ("mine.py", "mine.py"),
    "a module": ("mine.py", "mine:calculation"),
    "a file among installed packages": ("site-packages/our/mine.py", "site-packages/our/mine.py"),
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def write_kind(root: Path, kind: str) -> Path:
    """Write the files of a kind into a directory; return the one that changes."""
    code, files, changing = KINDS[kind]
    write(root, {"mine.py": code + "\n" + RETURNS * ("def calculation" not in code), **files})
    if (
        changing.endswith(".py") and "path" not in kind
    ):  # what the file itself executes from a path is Python's business
        py_compile.compile(str(root / changing))  # it looks as if it were current after a change
    return root / changing


def change(path: Path) -> None:
    """Change a file, but neither its size nor the time of its last change."""
    before = path.stat()
    path.write_text(path.read_text().replace("1", "2"))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def value_of(loaded: object) -> object:
    assert isinstance(loaded, LineFunction)
    result = loaded.function({})
    assert isinstance(result, dict)
    return result["x"]


def python(code: str, *args: object, cwd: Path | None = None) -> str:
    command = [sys.executable, "-c", code, *map(str, args)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=cwd, env=environment_with({})
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("kind", "reference"),
    [(kind, reference) for reference in REFERENCES for kind in KINDS if "installed" not in reference or kind < "a p"],
)
def test_what_is_beside_a_calculation_is_part_of_it(
    kind: str, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name = REFERENCES[reference]
    roots = tmp_path / "one", tmp_path / "two"
    digests: list[str] = []
    for root in roots:
        changing = write_kind((root / place).parent, kind)
        monkeypatch.chdir(root)
        first = load(name)
        digests.append(first.digest)
        if root != roots[0]:
            break
        write(root, {"unrelated.py": ONE, "pack/unrelated.py": ONE, "unrelated.csv": "k\n1\n"})
        changed = load(name)
        assert (changed.digest, value_of(changed)) == (first.digest, 1)
        change(changing)
        changed = load(name)
        assert changed.digest != first.digest
        assert value_of(changed) == (1 if "compiled" in kind else 2), "it runs the files that its digest is of"
        changing.write_text(changing.read_text().replace("2", "1"))
        digests.append(load(name).digest)
    assert len(set(digests)) == 1, "wherever it is, and whatever was imported before"


def test_every_process_gives_the_same_digests(tmp_path: Path) -> None:
    for kind in KINDS:
        write_kind(tmp_path / kind, kind)
    places = [tmp_path / kind / "mine.py" for kind in KINDS]
    read = "import json, sys, transform; print(json.dumps([transform.load(place).digest for place in sys.argv[1:]]))"
    here = [load(place).digest for place in places]
    assert json.loads(python(read, *places)) == here
    backwards: list[str] = json.loads(python(read, *reversed(places)))
    assert backwards[::-1] == here
    change(tmp_path / "a module" / "helper.py")
    changed = json.loads(python(read, *places))
    assert [kind for kind, one, other in zip(KINDS, here, changed, strict=True) if one != other] == ["a module"]


def test_an_installed_package_that_a_calculation_is_in_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    write(
        site,
        {
            "ours_3f/__init__.py": "",
            "ours_3f/mine.py": "from ours_3f.helper import value\nimport theirs_3f\n" + RETURNS,
            "ours_3f/helper.py": ONE,
            "theirs_3f.py": ONE,
        },
    )
    monkeypatch.syspath_prepend(site)
    first = load("ours_3f.mine:calculation").digest
    change(site / "theirs_3f.py")
    assert load("ours_3f.mine:calculation").digest == first, "packages are known by their versions"
    change(site / "ours_3f" / "helper.py")
    assert load("ours_3f.mine:calculation").digest != first


def test_modules_of_the_same_name_are_those_beside_each_calculation(tmp_path: Path) -> None:
    for number, root in enumerate((tmp_path / "a", tmp_path / "b"), 1):
        write(root, {"mine.py": "from helper import value\n" + RETURNS, "helper.py": f"value = {number}\n"})
    write(tmp_path, {"both.py": "from transform import load\ncalculations = {n: load(n + '/mine.py') for n in 'ab'}\n"})
    one, two = load(tmp_path / "a" / "mine.py"), load(tmp_path / "b" / "mine.py")
    assert (value_of(one), value_of(two)) == (1, 2)
    read = "import transform; print({n: c.function({}) for n, c in transform.load('both.py')._calculations.items()})"
    assert python(read, cwd=tmp_path) == "{'a': {'x': 1}, 'b': {'x': 2}}\n"


def test_what_has_nothing_to_do_with_a_calculation_stays_imported(tmp_path: Path) -> None:
    write(
        tmp_path, {"mine.py": "from helper_5c import value\n" + RETURNS, "helper_5c.py": ONE, "bad.py": "import no_5c"}
    )
    before = dict(sys.modules)
    path = list(sys.path)
    load(tmp_path / "mine.py")
    after = dict(sys.modules)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"helper_5c"}
    helper = after["helper_5c"]
    write(tmp_path, {"mine.py": "import helper_5c, no_5c"})
    with pytest.raises(CalculationError, match="No module named 'no_5c'"):
        load(tmp_path / "mine.py")
    assert sys.modules["helper_5c"] is helper
    assert sys.path == path


def test_a_compiled_module_that_has_changed_needs_a_new_process(tmp_path: Path) -> None:
    folder = Path(os.__file__).parent / "lib-dynload"
    compiled = next((file for file in folder.glob("_xx*") if file.name.partition(".")[0] not in sys.modules), None)
    if compiled is None:
        pytest.skip("this Python has its compiled modules built in")
    name = compiled.name.partition(".")[0]
    write(tmp_path, {"mine.py": f"import {name}\ndef calculation(line):\n    return {{'x': {name}.__file__}}"})
    content, copied = compiled.read_bytes(), tmp_path / compiled.name
    copied.write_bytes(content)
    first = load(tmp_path / "mine.py")
    assert value_of(first) == str(copied)
    assert load(tmp_path / "mine.py").digest == first.digest
    copied.unlink()  # what is mapped into memory stays as it is
    copied.write_bytes(content + b"1")
    with pytest.raises(CalculationError, match=rf"{name}.*: start a new process"):
        load(tmp_path / "mine.py")


# --- worker processes -------------------------------------------------------------------------------------------------

CALCULATIONS = {
    "a function of its own": "from helper import get\ndef calculation(line):\n    return {**line, 'x': get(line)}\n",
    "a function of a module": "from helper import calculation\n",
    "a module": "import helper\ndef calculation(line):\n    return {**line, 'x': helper.get(line)}\n",
    "a function that imports": (
        "def calculation(line):\n    from helper import get\n    return {**line, 'x': get(line)}\n"
    ),
    "an expression": (
        "import polars as pl\nfrom transform import Calculation\nfrom helper import get\n"
        "calculation = Calculation(x=pl.col('a').map_elements(get, return_dtype=pl.Int64)).assume_pure()\n"
    ),
}
HELPER = (
    "from deep import value\n"
    "def get(line):\n    return value\n"
    "def calculation(line):\n    return {**line, 'x': get(line)}\n"
)


def values_by_workers(runnable: Runnable, directory: Path) -> set[object]:
    """Return the values in an output that was made by workers."""
    (directory / "in").write_bytes(example.lines(60))
    summary = Tuned(runnable).run(directory / "in", directory / "out", workers=2, range_bytes=100, chunk_bytes=100)
    assert summary.first_rejects == []
    assert not any("one process only" in note for note in summary.notes)
    return {json.loads(line)["x"] for line in (directory / "out").read_bytes().splitlines()}


@pytest.mark.parametrize("kind", CALCULATIONS)
def test_workers_run_the_code_that_was_loaded(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "first"
    write(root, {"mine.py": CALCULATIONS[kind], "helper.py": HELPER, "deep.py": ONE})
    loaded = load(root / "mine.py")
    change(root / "deep.py")
    if kind == "a module":
        assert values_by_workers(load(root / "mine.py"), tmp_path) == {2}
    (root / "helper.py").unlink()
    assert values_by_workers(loaded, tmp_path) == {1}


def test_a_pickled_calculation_brings_its_modules_along(tmp_path: Path) -> None:
    digests: list[str] = []
    for number, code in enumerate(CALCULATIONS.values()):
        root = tmp_path / "first"
        write(root, {"mine.py": code, "helper.py": HELPER, "deep.py": ONE})
        loaded = load(root / "mine.py")
        digests.append(loaded.digest)
        (tmp_path / f"{number}.pickle").write_bytes(pickle.dumps(loaded))
        for file in root.glob("*.py"):
            file.unlink()
    read = """
import io, json, pickle, sys
from pathlib import Path
for file in sorted(Path().glob("*.pickle")):
    loaded, output = pickle.loads(file.read_bytes()), io.BytesIO()
    loaded.run(io.BytesIO(b'{"a": 1}'), output, workers=1)
    print(loaded.digest, json.loads(output.getvalue())["x"])
"""
    assert python(read, cwd=tmp_path).splitlines() == [f"{digest} 1" for digest in digests]
