"""What a user sees of an error in a notebook, and the words for the mistakes that are made most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from transform import Calculation, errors
from transform.errors import InputError, OptionError, TransformError

if TYPE_CHECKING:
    from pathlib import Path

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
