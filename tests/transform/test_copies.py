"""A copy of a calculation, or one that was pickled, is the same calculation."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from transform import Calculation, CalculationError, CalculationsByPrefix, LineFunction, Runnable, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'


def double(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "d": line["a"] * 2}


def python(offset: int) -> Calculation:
    value = pl.col("a").map_elements(lambda number: int(f"{number}{offset}"), return_dtype=pl.Int128)
    return Calculation(x=value).assume_pure()


EVERYTHING = (
    Calculation(x=pl.col("a") * 2, y=pl.col("b").replace_strict({"x": 1, "y": 2}, default=None))
    .filter(pl.col("a") > 1)
    .with_schema({"a": "Int64"})
    .drop("b")
    .select("a", "b")
)


def by_closure(step: int) -> LineFunction:
    return LineFunction(lambda line: {**line, "d": line["a"] + step})


RUNNABLES: dict[str, Runnable] = {
    "everything": EVERYTHING,
    "SQL": Calculation.from_sql("a + 1 AS x", where="a > 0"),
    "only members": Calculation().drop("b"),
    "Python": python(1),
    "a function": LineFunction(double),
    "a closure": by_closure(5),
    "by prefix": CalculationsByPrefix({"": EVERYTHING, "f/": LineFunction(double), "g/": by_closure(5)}),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "oldest pickle": lambda runnable: pickle.loads(pickle.dumps(runnable, 2)),
    "pickle": lambda runnable: pickle.loads(pickle.dumps(runnable)),
}


def output_of(runnable: Runnable) -> bytes:
    output = io.BytesIO()
    runnable.run(io.BytesIO(LINES), output, workers=1)
    return output.getvalue()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", RUNNABLES)
def test_a_copy_is_the_same(name: str, how: str) -> None:
    runnable = RUNNABLES[name]
    found = COPIES[how](runnable)
    assert type(found) is type(runnable)
    assert found.digest == runnable.digest
    # After pickling, polars shows a Python function without its name.
    assert repr(found) == repr(runnable).replace("python_udf", "" if "pickle" in how else "python_udf")
    assert output_of(found) == output_of(runnable)
    assert COPIES[how](found).digest == runnable.digest
    if isinstance(found, Calculation):
        assert isinstance(runnable, Calculation)
        assert (found.columns, found.results) == (runnable.columns, runnable.results)
        with pytest.raises(AttributeError, match="immutable"):
            found._spec = None  # type: ignore[assignment]
        assert found.drop("z").digest != found.digest == runnable.digest


def test_a_subclass_stays_one() -> None:
    assert type(pickle.loads(pickle.dumps(Mine(x=pl.col("a"))))) is Mine


class Mine(Calculation):
    """A calculation of somebody's own class."""


def test_what_was_loaded_can_be_pickled_for_a_process_that_cannot_load_it(tmp_path: Path) -> None:
    files = {
        "sql.py": "from transform import Calculation\ncalculation = Calculation.from_sql('a + 1 AS x')\n",
        "line.py": "STEP = 2\ndef calculation(line):\n    return {'x': line['a'] + STEP}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        loaded = load(tmp_path / name)
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(loaded))
        (tmp_path / name).unlink()
        read = f"import pickle; print(pickle.load(open({str(tmp_path / name) + '.pickle'!r}, 'rb')).digest)"
        result = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
        assert result.stdout.strip() == loaded.digest
        assert output_of(pickle.loads((tmp_path / f"{name}.pickle").read_bytes())) == output_of(loaded)


def test_the_digest_of_a_function_is_the_same_in_another_process(tmp_path: Path) -> None:
    function = by_closure(5)
    (tmp_path / "pickle").write_bytes(pickle.dumps(function))
    read = f"import pickle; print(pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb')).digest)"
    result = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == function.digest


def test_what_cannot_be_pickled_says_why_and_can_be_copied() -> None:
    lock = threading.Lock()

    def held(value: Any) -> Any:
        with lock:
            return value

    within = Calculation(x=pl.col("a").map_elements(held, return_dtype=pl.Int128)).assume_pure()
    for runnable in (within, LineFunction(held)):
        said = r"cannot be pickled, nor what it refers to: .*'_thread\.lock'"
        with pytest.raises(CalculationError, match=said) as caught:
            pickle.dumps(runnable)
        assert "\n" not in str(caught.value)
        for how in (copy.copy, copy.deepcopy):
            assert how(runnable) is runnable
