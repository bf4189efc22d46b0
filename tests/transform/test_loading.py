"""What a calculation file can hold, and what tells one from another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from transform import Calculation, CalculationError, CalculationsByPrefix, LineFunction, load

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = "import polars as pl\nfrom transform import Calculation, lookup\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(code: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(HEAD + code)
        return path

    return to_file


def test_a_plain_function_is_a_calculation(write: Callable[[str], Path]) -> None:
    path = write("def calculation(json_obj):\n    return json_obj\ndef other(json_obj):\n    return None\n")
    assert isinstance(load(str(path)), LineFunction)
    assert repr(load(f"{path}:other")) == "LineFunction(other)"


def test_the_longest_prefix_wins(write: Callable[[str], Path]) -> None:
    path = write(
        "calculations = {'raw/': Calculation(a=1), 'raw/users/': Calculation(b=1), 'raw/x': lambda json_obj: None}\n"
    )
    found = load(str(path))
    assert isinstance(found, CalculationsByPrefix)
    assert found.of("s3://bucket/raw/users/1.jsonl").results == ("b",)  # type: ignore[attr-defined]
    assert found.of("raw/other.jsonl").results == ("a",)  # type: ignore[attr-defined]
    assert found.of(Path("raw/other.jsonl")).results == ("a",)  # type: ignore[attr-defined]
    assert isinstance(found.of("raw/x1"), LineFunction)
    with pytest.raises(CalculationError, match=r"`else/1.jsonl`: it begins with none of the prefixes `raw/`"):
        found.of("s3://bucket/else/1.jsonl")


def test_by_prefix_runs_and_previews(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(str(write("calculations = {'a': Calculation(x=1), '': Calculation(y=2)}\n")))
    Path("a.jsonl").write_bytes(b"{}\n")
    Path("b.jsonl").write_bytes(b"{}\n")
    found.run("a.jsonl", "out")
    assert Path("out").read_bytes() == b'{"x":1}\n'
    found.run("b.jsonl", "out")
    assert Path("out").read_bytes() == b'{"y":2}\n'
    assert found.preview("b.jsonl").to_dicts() == [{"y": 2}]


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.csv", "k,v\nAZ,west\nCO,\n"), ("t.jsonl", '{"k":"AZ","v":"west"}\n{"k":"CO","v":null}\n')],
)
def test_lookups_come_from_tables_beside_the_file(
    name: str, content: str, write: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    path = write(
        f"calculation = Calculation(region=pl.col('s').replace_strict(lookup('{name}', 'k', 'v'), default='none'),"
        f" known=pl.col('s').is_in(lookup('{name}', 'k')))\n"
    )
    (tmp_path / "in").write_bytes(b'{"s":"AZ"}\n{"s":"CO"}\n{"s":"XX"}\n{}\n')
    load(str(path)).run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (
        b'{"s":"AZ","region":"west","known":true}\n'
        b'{"s":"CO","region":null,"known":true}\n'
        b'{"s":"XX","region":"none","known":false}\n'
        b'{"region":"none","known":null}\n'
    )


def test_integer_keys_fit_integer_columns(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,weight\n1,0.5\n9007199254740993,2.0\n")
    path = write(
        "calculation = Calculation(w=pl.col('id').replace_strict(lookup('t.csv','id','weight'), default=None))\n"
    )
    (tmp_path / "in").write_bytes(b'{"id":1}\n{"id":9007199254740993}\n{"id":9007199254740992}\n')
    load(str(path)).run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes().count(b'"w":2.0') == 1
    assert b'{"id":9007199254740992,"w":null}' in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    ("content", "call", "message"),
    [
        (None, "lookup('t.csv', 'k')", "no such file"),
        (None, r"lookup('\ud83dt.csv', 'k')", "is no name of a file"),
        (None, r"lookup('\0t.csv', 'k')", "is no name of a file"),
        ("k,v\n1,2\n", "lookup('t.csv', 'kk')", "no column `kk`. Did you mean `k`"),
        ("k,v\n1,2\n1,3\n", "lookup('t.csv', 'k', 'v')", "`1` in `k` has more than one `v`"),
        ("k,v\n1,2\n3\n1,2,3,4\n", "lookup('t.csv', 'k')", "not a table"),
    ],
)
def test_a_table_that_is_no_good_is_named(
    content: str | None, call: str, message: str, write: Callable[[str], Path], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    path = write(f"table = {call}\ncalculation = Calculation(a=1)\n")
    with pytest.raises(CalculationError) as caught:
        load(str(path))
    assert message in str(caught.value)
    assert "t.csv" in str(caught.value)


def digest_of(path: Path) -> str:
    """Return the digest as another process computes it."""
    code = f"from transform import load; print(load({str(path)!r}).digest)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()


def test_a_digest_is_the_same_elsewhere_and_changes_with_code_and_tables(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("k,v\n1,2\n")
    code = "table = lookup('t.csv', 'k', 'v')\ndef calculation(json_obj):\n    return table\n"
    path = write(code)
    first = load(str(path)).digest
    assert len(first) == 64
    assert digest_of(path) == first
    (tmp_path / "t.csv").write_text("k,v\n1,3\n")
    second = load(str(path)).digest
    write(code + "# a comment\n")
    assert len({first, second, load(str(path)).digest}) == 3


def test_whatever_changes_the_output_changes_the_digest() -> None:
    base = Calculation.from_sql("a * b AS c")
    others = [
        base,
        Calculation.from_sql("a * b  AS c"),
        Calculation(c=pl.col("a") * pl.col("b")),
        base.filter(pl.col("a") > 1),
        base.filter(pl.col("a") > 2),
        base.with_schema({"a": pl.Int64}),
        base.with_schema({"a": pl.Int32}),
        base.drop("a"),
        base.select("a"),
        base.select(),
        base.assume_pure(),
    ]
    assert len({calculation.digest for calculation in others}) == len(others)
    assert (
        base.with_schema({"a": pl.Int64, "b": pl.Int8}).digest == base.with_schema({"b": pl.Int8, "a": pl.Int64}).digest
    )
    assert base.digest == Calculation.from_sql("a * b AS c").digest
