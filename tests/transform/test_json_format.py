"""Inputs that are sequences of JSON texts, through the library and the command."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import json_texts
from tests.support.rows_reference import is_object, rows_of
from tests.support.tuned import Tuned
from transform import Calculation, CalculationsByPrefix, LineFunction, OptionError, RejectedError, Runnable, State
from transform.explore.check import check

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Command

KEEPING = Calculation(tag=pl.lit(1)).with_format("json")
TEXT = b"""\
[
  {"a": 1, "b": [1,
    2]},
  {"a": 2 "b": 0},
  7,
  {"a": 3.5}
]
{"a": 4}{"a": "x"} {"a":
5, "s": "\\ud83d"}
"""
OUTPUT = b"""\
{"a": 1, "b": [1,2],"c":2.0}
{"a": 3.5,"c":7.0}
{"a": 4,"c":8.0}
{"a":5, "s": "\\ud83d","c":10.0}
"""
REJECTED = [(TEXT.index(raw), line, raw.decode()) for line, raw in ((2, b'{"a": 2 "b": 0},\n  7,'), (5, b'{"a": "x"}'))]
DOUBLE = Calculation.from_sql("a * 2 AS c").with_schema({"a": "Float64"}).with_format("json")


def doubled(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["c"] = json_obj["a"] * 2.0
    return json_obj


def results(runnable: Runnable, text: bytes, path: Path, **options: Any) -> tuple[bytes, list[dict[str, Any]]]:
    source, target = path / "in.json", path / "out.jsonl"
    source.write_bytes(text)
    runnable.run(source, target, **options)
    rejects = path / "out.jsonl.rejects.jsonl"
    found = [json.loads(line) for line in rejects.read_bytes().splitlines()] if rejects.exists() else []
    return target.read_bytes(), found


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("chunk_bytes", [1, 30, 1 << 20])
def test_rows_become_lines_and_rejects_have_their_places(tmp_path: Path, workers: int, chunk_bytes: int) -> None:
    output, rejects = results(DOUBLE, TEXT, tmp_path, workers=workers, chunk_bytes=chunk_bytes)
    assert output == OUTPUT
    assert [(one["offset"], one["line"], one["raw"]) for one in rejects] == REJECTED


@pytest.mark.parametrize("only_processes", [False, True])
def test_functions_get_the_rows(tmp_path: Path, *, only_processes: bool) -> None:
    function = Tuned(LineFunction(doubled).with_format("json"), only_processes=only_processes)
    output, rejects = results(function, TEXT, tmp_path, workers=2, chunk_bytes=40)
    expected = [json.loads(line) for line in OUTPUT.splitlines()]
    assert [json.loads(line) for line in output.splitlines()] == expected
    assert [(one["offset"], one["line"], one["raw"]) for one in rejects] == REJECTED


def test_lines_are_a_sequence_too_and_their_line_breaks_become_newlines(tmp_path: Path) -> None:
    assert results(KEEPING, b'\xef\xbb\xbf{"a": 1}\r\n\r\n{}', tmp_path) == (b'{"a": 1,"tag":1}\n{"tag":1}\n', [])


def test_no_rows_are_an_empty_output(tmp_path: Path) -> None:
    for text in (b"", b" \n", b"[]", b"[\n] []"):
        assert results(KEEPING, text, tmp_path) == (b"", [])
        assert Calculation().drop("x").with_format("json").run(io.BytesIO(text), io.BytesIO()).bytes_in == len(text)


@given(
    st.lists(json_texts.values() | st.sampled_from(['{"a": 1', '{"b": 2}\n{"c', "\n", ",", "["]), max_size=8),
    st.sampled_from([" ", "\n", ",\n", ""]),
    st.integers(1, 50),
    st.booleans(),
)
def test_what_is_accepted_is_what_the_standard_library_accepts(
    values: list[str], gap: str, chunk_bytes: int, in_array: bool
) -> None:
    text = gap.join(values)
    data = (f"[{text}]" if in_array else text).encode("utf-8", "surrogatepass")
    output = io.BytesIO()
    with KEEPING.stream(io.BytesIO(data), chunk_bytes=chunk_bytes, workers=1) as stream:
        rejected = 0
        with contextlib.suppress(RejectedError):  # every line was rejected
            for part in stream:
                output.writelines(part.output)
                rejected += sum(block.count(b"\n") for block in part.rejects)
    expected = [row.line for row in rows_of(data)]
    good = [line for line in expected if line is not None and is_object(line)]
    found = output.getvalue().replace(b',"tag":1}\n', b"}\n").replace(b'"tag":1}\n', b"}\n")
    assert found.split(b"\n")[:-1] == good
    assert rejected == len(expected) - len(good)


@pytest.mark.parametrize("chunk_bytes", [1, 25])
def test_a_run_is_resumed_within_an_array(chunk_bytes: int, tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_bytes(TEXT)
    states, parts = [State()], [b""]
    with DOUBLE.stream(source, chunk_bytes=chunk_bytes, workers=1) as stream:
        for part in stream:
            data = b"".join(part.output)
            parts.append(parts[-1] + data)
            states.append(stream.state)
            list(part.rejects)
        states = [*states[:1], *states[2:], stream.state]
    assert {state.after for state in states} >= ({0, 1, 3} if chunk_bytes == 1 else {0})
    for state, before in zip(states, parts, strict=True):
        again = State.from_dict(json.loads(json.dumps(state.to_dict())))
        with DOUBLE.stream(source, again, chunk_bytes=7, workers=2) as stream:
            rest = b"".join(data for part in stream for data in part.output)
        assert before + rest == OUTPUT
        assert (stream.summary.lines_in, stream.summary.rejected) == (6, 2)


@pytest.mark.parametrize("after", [-1, 4, "1", None, True])
def test_states_that_say_nothing_known_are_refused(after: object) -> None:
    with pytest.raises(ValueError, match="rows can come after"):
        State.from_dict(State().to_dict() | {"after": after})


def test_format_is_in_the_digest_and_travels_with_the_calculation() -> None:
    plain = Calculation.from_sql("a * 2 AS c")
    assert plain.with_format("json").digest != plain.digest == plain.with_format("lines").digest
    assert pickle.loads(pickle.dumps(plain.with_format("json"))).digest == plain.with_format("json").digest
    function = LineFunction(doubled)
    assert function.with_format("json").digest != function.digest
    assert pickle.loads(pickle.dumps(function.with_format("json"))).digest == function.with_format("json").digest
    several = CalculationsByPrefix({"a/": plain, "b/": function})
    assert several.with_format("json").digest != several.digest


def test_unknown_format_is_refused() -> None:
    with pytest.raises(OptionError, match="format is `lines` or `json`, not 'csv'"):
        KEEPING.with_format("csv")


def test_other_ways_to_look_at_an_input_take_the_format(tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    source.write_bytes(TEXT)
    assert DOUBLE.preview(source, 2)["c"].to_list() == [2.0, 7.0]
    source.write_bytes(TEXT.replace(b"ud83d", b"u0041"))
    rejected: list[str] = []
    assert LineFunction(doubled).with_format("json").preview(source, 3, rejected=rejected).height == 3
    assert rejected[0].startswith("line 2 (offset 33): not valid JSON")
    found = check(DOUBLE.spec_for(source), source)
    assert (found.summary.lines_out, found.summary.rejected, found.whole) == (4, 2, True)
    assert check(DOUBLE.spec_for(source), source, 2).summary.lines_in == 2
    assert DOUBLE.profile(source).lines == 6
    assert DOUBLE.compare(doubled, source).lines == 6
    assert DOUBLE.compare(doubled, source).same


def test_compressed_input(tmp_path: Path) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress(TEXT))
    DOUBLE.run(tmp_path / "in.gz", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == OUTPUT


def test_wider_type_starts_the_run_again(tmp_path: Path) -> None:
    text = b"[" + b",".join([b'{"a":\n1}'] * 1500) + b',{"a": 0.5}]'
    output, _ = results(Calculation.from_sql("a + 1 AS b").with_format("json"), text, tmp_path, chunk_bytes=1000)
    assert output.splitlines()[0] == b'{"a":1,"b":2.0}'
    assert output.splitlines()[-1] == b'{"a": 0.5,"b":1.5}'


def test_command(tmp_path: Path, command: Command) -> None:
    (tmp_path / "in.json").write_bytes(TEXT)
    of_calculation = ("-e", "a * 2 AS c", "--schema", "a=Float64", "--format", "json")
    done = command("run", "in.json", "-", *of_calculation)
    assert (done.returncode, done.stdout) == (3, OUTPUT)
    done = command("preview", "in.json", *of_calculation)
    assert b"10.0" in done.stdout
    done = command("schema", "in.json", "--format", "json")
    assert b"5 lines sampled (the whole input); 1 without a JSON object left out" in done.stdout.replace(b"\n", b" ")
    done = command("new", "double", "--from", "in.json", "--format", "json")
    assert done.returncode == 0, done.stderr
    done = command("check", "double.py", "in.json", "--max-rejects", "2")
    assert (done.returncode, b"no problems" in done.stdout) == (0, True), done.stdout
    (tmp_path / "plain.py").write_text("def calculation(json_obj):\n    return json_obj\n")
    done = command("check", "plain.py", "in.json", "--max-rejects", "1", "--format", "json")
    assert b"all 6 lines of in.json: 5 in the output" in done.stdout
    done = command("run", "in.json", "out.jsonl", "-e", "a AS b")
    assert b"--format json" in done.stderr


def test_who_reads_json_is_not_told_to_read_json(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_bytes(b"[1, 2]")
    for name in ("run", "preview"):
        target = ["-"] if name == "run" else []
        done = command(name, "in.json", *target, "-e", "1 AS a", "--format", "json")
        assert (b"every line was rejected" in done.stderr, b"--format" in done.stderr) == (True, False), name
    with pytest.raises(RejectedError) as caught:
        LineFunction(lambda line: line).with_format("json").preview(tmp_path / "in.json")
    assert "--format" not in str(caught.value)
    (tmp_path / "in.json").write_bytes(b"1\n2\n")
    assert b"indented JSON is read with --format json" in command("run", "in.json", "-", "-e", "1 AS a").stderr
