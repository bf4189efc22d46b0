"""What a user sees of an error in a notebook, and the words for the mistakes that are made most."""

from __future__ import annotations

import inspect
import io
import pickle
import re
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import runner.errors
from transform import Calculation, errors
from transform.errors import InputError, OptionError, RejectedError, SchemaError, TransformError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

DOUBLE = Calculation(b=pl.col("a") * 2)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text('{"a":1}\n')
    return path


def test_notebooks_show_the_sentence_of_an_error_and_no_code() -> None:
    classes = [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, TransformError)]
    assert len(classes) > 5
    assert OptionError("what was found")._render_traceback_() == ["OptionError: what was found"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "CSV", "zip", "xlsx"])
def test_output_that_is_named_as_another_format(lines: Path, suffix: str) -> None:
    target = lines.with_name(f"out.{suffix}")
    with pytest.raises(OptionError, match=r"the output is JSON lines, .* name it \.jsonl"):
        DOUBLE.run(lines, target)
    assert not target.exists()


@pytest.mark.parametrize("name", ["out", "out.jsonl", "out.json", "out.ndjson.gz", "out.txt", "parquet"])
def test_output_of_any_other_name(lines: Path, name: str) -> None:
    assert DOUBLE.run(lines, lines.with_name(name)).lines_out == 1


def test_several_inputs(lines: Path) -> None:
    several: Any = [str(lines)]
    with pytest.raises(OptionError, match=r"not list; call it once for each of several$"):
        DOUBLE.run(several, lines.with_name("out.jsonl"))
    with pytest.raises(InputError, match=r"one input at a time: call it for each file of glob\.glob\(…\)$"):
        DOUBLE.run(f"{lines.parent}/*.jsonl", lines.with_name("out.jsonl"))
    with pytest.raises(InputError, match=r"no such file or directory$"):
        DOUBLE.run(f"{lines.parent}/absent.jsonl", lines.with_name("out.jsonl"))


def test_printed_summary_is_a_table(lines: Path) -> None:
    shown = str(DOUBLE.run(lines, lines.with_name("out.jsonl"))).splitlines()
    assert [line.split()[:3] for line in shown[:2]] == [["lines", "in", "1"], ["lines", "out", "1"]]
    assert shown[0].index("1") == shown[1].index("1")
    assert not any(line.endswith(" ") for line in shown)


def hierarchy(module: ModuleType) -> dict[str, str]:
    """Return the parents of the classes in the tree at the top of a module."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in inspect.getsource(module).partition('"""')[2].partition('"""')[0].splitlines():
        if (found := re.fullmatch(r"( {4,})([A-Z]\w+) {2,}\S.*", line)) is not None:
            depth = len(found[1])
            above = [one for one in above if one[0] < depth]
            parents[found[2]] = above[-1][1] if above else "Exception"
            above.append((depth, found[2]))
    return parents


@pytest.mark.parametrize("module", [errors, runner.errors], ids=lambda module: module.__name__)
def test_module_opens_with_the_tree_of_its_errors(module: ModuleType) -> None:
    classes = [it for it in vars(module).values() if isinstance(it, type) and issubclass(it, Exception)]
    assert len(classes) > 10
    assert hierarchy(module) == {it.__name__: it.__bases__[0].__name__ for it in classes}


@pytest.mark.parametrize(
    ("sql", "data", "column"),
    [
        ("b + 1 AS c", b'{"a":1}', "b"),
        ("a.c + 1 AS d", b'{"a":{"b":1}}', "a.c"),
        ("a + 1 AS b", b'{"a":null}', "a"),
        ("a + 1 AS b", b'{"a":1}\n{"a":"x"}', "a"),
        ("ARRAY_LENGTH(a) AS b", b'{"a":1}', "a"),
        ("a + 1 AS b", b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "a"),
        ("a[1] AS b", b'{"a":[]}', "a"),
    ],
)
def test_schema_error_names_its_column(sql: str, data: bytes, column: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Calculation.from_sql(sql).run(io.BytesIO(data), io.BytesIO())
    assert caught.value.column == column
    assert pickle.loads(pickle.dumps(caught.value)).column == column


def test_schema_error_about_a_declaration_names_its_column() -> None:
    for schema in ({"a": "Int46"}, {"a": pl.Date}):
        with pytest.raises(SchemaError) as caught:
            DOUBLE.with_schema(schema)
        assert caught.value.column == "a"
    with pytest.raises(SchemaError) as caught:
        DOUBLE.with_schema({"a": pl.Int64, "c": pl.Int64}).check_schema()
    assert caught.value.column == "c"


@pytest.mark.parametrize(
    ("options", "line", "offset"),
    [({"on_error": "fail"}, 2, 9), ({"max_rejects": 1}, 6, 27), ({"max_rejects": "30%"}, 2, 9)],
)
def test_rejected_error_has_the_line_that_was_one_too_many_or_the_first(options: Any, line: int, offset: int) -> None:
    data = b'{"a": 1}\nnope\n\n{"a": 2}\n  \n{"a":"x"}\n{"a":3}\n'
    assert data[offset:].startswith((b"nope", b'{"a":"x"}'))
    with pytest.raises(RejectedError) as caught:
        DOUBLE.with_schema({"a": pl.Int64}).run(io.BytesIO(data), io.BytesIO(), **options)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.line, error.offset) == (line, offset)
    assert error.reason
    assert error.reason in str(error)
    assert str(error) == str(caught.value)


def test_error_about_all_lines_has_the_first() -> None:
    with pytest.raises(RejectedError, match=r"^every line was rejected") as caught:
        DOUBLE.with_schema({"a": pl.Int64}).run(io.BytesIO(b'\n{"a":"x"}\nnope'), io.BytesIO())
    assert (caught.value.line, caught.value.offset) == (2, 1)
    assert "column `a`" in str(caught.value.reason)
