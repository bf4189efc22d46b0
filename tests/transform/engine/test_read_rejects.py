"""Rejects read as a frame are those that a run, or the worker, has kept."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.support.trial import lines
from transform import Calculation, InputError, read_rejects

if TYPE_CHECKING:
    from pathlib import Path

DOUBLE = Calculation(b=pl.col("a") * 2).with_schema({"a": pl.Int64})
BAD = b'{"a":1}\nnope\n\n{"a":"x"}\n{"a":"\xff"}\n' + b'{"a":3,"pad":"' + b"x" * 100_000 + b'"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rejects of every sort."""
    (tmp_path / "in.jsonl").write_bytes(BAD)
    DOUBLE.run(tmp_path / "in.jsonl", tmp_path / "out.jsonl", max_line_bytes=80_000)
    return tmp_path / "out.jsonl.rejects.jsonl"


def test_frame_has_what_is_in_the_file(path: Path) -> None:
    frame = read_rejects(path)
    kept = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [{name: value for name, value in row.items() if value not in (None, False)} for row in frame.to_dicts()] == [
        dict(sorted(reject.items(), key=lambda item: frame.columns.index(item[0]))) for reject in kept
    ]
    assert frame["line"].to_list() == [2, 4, 5, 6]
    assert base64.b64decode(frame["raw_base64"][2]) == b'{"a":"\xff"}'
    assert (frame["truncated"].to_list(), frame["length"][3]) == ([False, False, False, True], 100_016)
    assert read_rejects(str(path), rows=2).equals(frame.head(2))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_file_is_read(path: Path, suffix: str) -> None:
    DOUBLE.run(path.parent / "in.jsonl", path.parent / "o", rejects=f"{path}{suffix}", max_line_bytes=80_000)
    assert read_rejects(f"{path}{suffix}").equals(read_rejects(path))


@pytest.mark.parametrize("writer", ["", "-0f3c"])
def test_numbered_objects_are_read_in_order(path: Path, s3: Any, bucket: str, tmp_path: Path, writer: str) -> None:
    every = path.read_bytes().splitlines(keepends=True)
    for number, part in enumerate((every[:1], every[1:3], every[3:]), start=1):
        s3.put_object(Bucket=bucket, Key=f"rejects/a/in.jsonl/job-1/{number:08}{writer}.jsonl", Body=b"".join(part))
        (tmp_path / "copied").mkdir(exist_ok=True)
        (tmp_path / "copied" / f"{number:08}{writer}.jsonl").write_bytes(b"".join(part))
    s3.put_object(Bucket=bucket, Key="rejects/a/in.jsonl/job-1/index.json", Body=b"{}")
    expected = read_rejects(path)
    assert read_rejects(f"s3://{bucket}/rejects/a/in.jsonl/job-1/").equals(expected)
    assert read_rejects(f"s3://{bucket}/rejects/a/in.jsonl/job-1/00000002{writer}.jsonl").equals(expected.slice(1, 2))
    assert read_rejects(tmp_path / "copied").equals(expected)
    with pytest.raises(InputError, match=r"in this folder; it has folders, one of which may: job-1$"):
        read_rejects(f"s3://{bucket}/rejects/a/in.jsonl/")


def test_what_is_not_there_is_told(tmp_path: Path, s3: Any, bucket: str) -> None:
    assert s3
    with pytest.raises(InputError, match=r"no such file \(a run without rejected lines writes none\)"):
        read_rejects(tmp_path / "none.rejects.jsonl")
    with pytest.raises(InputError, match=r"there are no rejected lines, as 00000001\.jsonl, in this folder$"):
        read_rejects(f"s3://{bucket}/nothing/")
    with pytest.raises(InputError, match="no such bucket or key"):
        read_rejects(f"s3://{bucket}/nothing.jsonl")


def test_another_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines('{"a":1}'))
    with pytest.raises(InputError, match=r"in\.jsonl: line 1 is no rejected line: Object missing required field"):
        read_rejects(tmp_path / "in.jsonl")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert read_rejects(tmp_path / "empty.jsonl").shape == (0, 7)
