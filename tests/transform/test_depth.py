"""Lines nested as deeply as the limit allows pass through every command; deeper ones are rejected with the reason."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

from tests.support.typed import typed
from transform import Calculation, SchemaError
from transform.cli.report import print_schema
from transform.cli.scaffold import scaffold
from transform.decode.line_errors import LineError
from transform.decode.members import MAX_DEPTH, is_deep, read_members
from transform.decode.schema import MAX_TYPE_DEPTH
from transform.explore.check import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = {
    "arrays": (b"[", b"]"),
    "objects": (b'{"a":', b"}"),
    "both": (b'[{"a":', b"}]"),
    "arrays between": (b'{"b":1,"a":[0,', b"]}"),
}


def nested(kind: str, depth: int) -> bytes:
    """Return a value so many levels deep."""
    opening, closing = KINDS[kind]
    per = opening.count(b"[") + opening.count(b"{")
    return b"[" * (depth % per) + opening * (depth // per) + b"1" + closing * (depth // per) + b"]" * (depth % per)


def deep_line(kind: str, depth: int) -> bytes:
    """Return a line so many levels deep, of which the line itself is the first."""
    return b'{"v":1,"x":%b}\n' % nested(kind, depth - 1)


def returned(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["w"] = json_obj["v"] + 1
    return json_obj


SHALLOW = b'{"v":1,"x":[]}\n'
CALCULATION = Calculation(w=pl.col("v") + 1)
COMMANDS: dict[str, Callable[[Path], int]] = {
    "run": lambda path: CALCULATION.run(path, path.with_suffix(".out"), workers=1).lines_out,
    "run, replacing": lambda path: (
        Calculation(x=pl.col("v") + 1).run(path, path.with_suffix(".out"), workers=1).lines_out
    ),
    "run, dropping": lambda path: CALCULATION.drop("x").run(path, path.with_suffix(".out"), workers=1).lines_out,
    "run, selecting": lambda path: CALCULATION.select("v").run(path, path.with_suffix(".out"), workers=1).lines_out,
    "preview": lambda path: CALCULATION.preview(path).height,
    "check": lambda path: check(CALCULATION.spec_for(path), path).summary.lines_out,
    "profile": lambda path: CALCULATION.profile(path).lines,
    "compare": lambda path: CALCULATION.compare(returned, path).equal,
    "schema": lambda path: shown_schema(path).count("x "),
    "new": lambda path: scaffold(path.with_name("made"), path).lines,
}


def shown_schema(path: Path) -> str:
    with redirect_stdout(io.StringIO()) as text:
        print_schema(str(path))
    return text.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_takes_lines_of_the_limit(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(deep_line(kind, MAX_DEPTH))
    assert COMMANDS[name](path) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_limit_a_line_is_rejected(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(SHALLOW + deep_line(kind, MAX_DEPTH) + deep_line(kind, MAX_DEPTH + 1) + deep_line(kind, 20_000))
    summary = CALCULATION.run(path, tmp_path / "out", workers=1)
    assert (summary.lines_out, summary.rejected) == (2, 2)
    assert {*summary.reject_reasons} == {f"nested deeper than {MAX_DEPTH} levels"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_bytes_more", [0, 300_000])
def test_the_depth_of_a_line_is_counted_outside_strings(kind: str, block_bytes_more: int) -> None:
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        line = b'{"s":"%b","x":%b,"y":%b}' % (b'[{\\"' * 600 + b"x" * block_bytes_more, nested(kind, depth - 1), b"[]")
        assert is_deep(line) == (depth > MAX_DEPTH)


def test_a_caller_deep_in_the_stack_gets_the_members_too() -> None:
    line = deep_line("objects", MAX_DEPTH).strip()

    def call(frames: int) -> Any:
        return call(frames - 1) if frames else read_members(line, ["v"]).values

    room = sys.getrecursionlimit() - 400  # in Python 3.11, msgspec uses up as much of it as a line is deep
    assert call(room - len_of_stack()) == {"v": msgspec.Raw(b"1")}
    with pytest.raises(LineError, match="nested deeper"):
        read_members(deep_line("objects", MAX_DEPTH + 1).strip())


def len_of_stack() -> int:
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


@pytest.mark.parametrize("kind", ["arrays", "objects", "both"])
def test_a_column_read_as_a_whole_has_a_limit_that_is_said(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    for depth, fits in ((MAX_TYPE_DEPTH, True), (MAX_TYPE_DEPTH + 1, False), (MAX_DEPTH - 1, False)):
        path.write_bytes(b'{"d":%b}\n' % nested(kind, depth))
        calculation = Calculation(w=typed("d").is_null())
        if fits:
            assert calculation.run(path, tmp_path / "out", workers=1).lines_out == 1
            assert json.loads((tmp_path / "out").read_bytes())["w"] is False
        else:
            with pytest.raises(SchemaError, match=rf"column `d` is nested deeper than {MAX_TYPE_DEPTH} levels.*path"):
                calculation.run(path, tmp_path / "out", workers=1)


@pytest.mark.parametrize("one", ["List({})", "Struct({{'a': {}}})"])
def test_a_declared_type_has_the_same_limit(one: str) -> None:
    def declared(depth: int) -> Calculation:
        text = "Int64"
        dtype: pl.DataType = pl.Int64()
        for _ in range(depth):
            text = one.format(text)
            dtype = pl.List(dtype) if one.startswith("List") else pl.Struct({"a": dtype})
        assert Calculation().with_schema({"d": dtype}).with_schema({"d": text})
        return Calculation(w=pl.col("d").is_null()).with_schema({"d": text})

    assert declared(MAX_TYPE_DEPTH).run(io.BytesIO(b'{"d":null}'), io.BytesIO()).lines_out == 1
    for depth in (MAX_TYPE_DEPTH + 1, 150):
        with pytest.raises(SchemaError, match=rf"nested deeper than {MAX_TYPE_DEPTH} levels"):
            declared(depth)
    for depth in (200, 5000):
        text = "List(" * depth + "Int64" + ")" * depth
        with pytest.raises(SchemaError, match=rf"nested deeper than {MAX_TYPE_DEPTH} levels"):
            Calculation().with_schema({"d": text})
