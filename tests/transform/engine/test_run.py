"""A run restarts if an inferred type is too narrow, publishes rejects first, and publishes nothing if it fails."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import resource
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.support.example import CALCULATION, lines, transformed
from tests.support.places import OLD
from tests.support.stops import numbers_of
from transform import Calculation, InputError, OutputError, RejectedError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable


SUFFIX = ".rejects.jsonl"
BAD = b"no JSON\n"
INFERRED = Calculation.from_sql("a + 1 AS b")
SAMPLED = lines(1500)
"""More lines than types are inferred from."""

ONE_PROCESS: dict[str, Any] = {"workers": 1, "chunk_bytes": 2000}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "input.jsonl"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with an output of an earlier run, and its rejects."""
    path = tmp_path / "out"
    path.mkdir()
    (path / "output").write_bytes(OLD)
    (path / f"output{SUFFIX}").write_bytes(OLD)
    return path


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def kept(content: bytes) -> list[int]:
    """Return the numbers of the lines that were kept."""
    return [json.loads(line)["line"] for line in content.splitlines()]


# --- starting again ------------------------------------------------------------------------------------------------

WIDENING = BAD + SAMPLED + BAD + b'{"a":1.5}\n' + lines(100) + BAD


def test_a_restarted_run_gives_what_a_declared_type_gives(source: Path, directory: Path, tmp_path: Path) -> None:
    source.write_bytes(WIDENING)
    known = INFERRED.with_schema({"a": pl.Float64()}).run(source, tmp_path / "expected")
    positions: list[int] = []

    def progress(done: int, _total: int | None) -> None:
        positions.append(done)
        there = files(directory)
        assert (there.pop("output"), there.pop(f"output{SUFFIX}")) == (OLD, OLD)
        assert len(there) == 2, "what the first attempt had written is gone"

    summary = INFERRED.run(source, directory / "output", progress=progress, **ONE_PROCESS)
    assert sum(later < earlier for earlier, later in pairwise(positions)) == 1, "it started again once"
    expected = (tmp_path / "expected").read_bytes()
    rejects = (tmp_path / f"expected{SUFFIX}").read_bytes()
    assert kept(rejects) == [1, 1502, 1604]
    assert files(directory) == {"output": expected, f"output{SUFFIX}": rejects}
    assert b'"b":2.5}' in expected
    assert summary.schema == {"a": ("Float64", "inferred")}
    assert numbers_of(summary) | {"schema": known.to_dict()["schema"]} == numbers_of(known)


def test_columns_that_widen_one_after_another_all_stay_wide(source: Path, tmp_path: Path) -> None:
    first = b'{"a":1,"b":2,"c":3}\n' * 1100
    source.write_bytes(first + b'{"a":1.5,"b":2,"c":3}\n' + first + b'{"a":1,"b":2.5,"c":3}\n' + first + b'{"c":0.5}\n')
    summary = Calculation.from_sql("a + b + c AS d").run(source, tmp_path / "output", **ONE_PROCESS)
    assert {name: dtype for name, (dtype, _) in summary.schema.items()} == dict.fromkeys("abc", "Float64")
    assert summary.lines_out == 3 * 1100 + 3
    assert summary.rejected == 0


def test_a_run_cannot_restart_on_a_pipe(directory: Path) -> None:
    (directory / f"output{SUFFIX}").unlink()
    message = r"holds a float\. The run cannot start again .* as the input is a pipe: .*--schema a=Float64 or "
    with pytest.raises(SchemaError, match=message):
        INFERRED.run(io.BytesIO(SAMPLED + b'{"a":1.5}\n'), directory / "output", **ONE_PROCESS)
    assert files(directory) == {"output": OLD}


def test_a_run_that_cannot_restart_keeps_its_rejects(source: Path, directory: Path) -> None:
    """On a pipe as the input, and with a pipe as the output."""
    content, rejects = BAD + SAMPLED + b'{"a":1.5}\n', directory / f"output{SUFFIX}"
    source.write_bytes(content)
    options = {**ONE_PROCESS, "chunk_bytes": 1000}
    for source_, target in ((io.BytesIO(content), directory / "output"), (source, io.BytesIO())):
        rejects.unlink(missing_ok=True)
        with pytest.raises(SchemaError, match=rf"cannot start again .*\. The rejected lines are in {rejects}$"):
            INFERRED.run(source_, target, rejects=rejects, **options)
        assert kept(rejects.read_bytes()) == [1]


def test_a_run_cannot_restart_after_writing_to_a_pipe(source: Path) -> None:
    source.write_bytes(SAMPLED + b'{"a":1.5}\n')
    target = io.BytesIO()
    with pytest.raises(SchemaError, match=r"cannot start again .* a part of the output is in a pipe already"):
        INFERRED.run(source, target, **ONE_PROCESS)
    assert transformed(1500).startswith(target.getvalue()), "nothing was written twice"


def test_a_run_can_restart_before_writing_to_a_pipe(source: Path) -> None:
    source.write_bytes(SAMPLED + b'{"a":2000.5}\n')
    target = io.BytesIO()
    INFERRED.filter(pl.col("a") > 1600).run(source, target, **ONE_PROCESS)
    assert target.getvalue() == b'{"a":2000.5,"b":2001.5}\n'


@pytest.mark.parametrize("sent_before", [True, False])
def test_rejects_are_not_sent_to_a_pipe_twice(source: Path, directory: Path, *, sent_before: bool) -> None:
    """A run cannot start again once it has sent some."""
    source.write_bytes(BAD * sent_before + SAMPLED + b'{"a":1.5}\n' + BAD)
    said = r"cannot start again with that in mind, as rejected lines are in a pipe already: .*--schema a=Float64 or "
    fails = pytest.raises(SchemaError, match=said) if sent_before else contextlib.nullcontext()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as sent:
        with os.fdopen(writer, "wb"), fails:
            INFERRED.run(source, directory / "output", rejects=f"/dev/fd/{writer}", **ONE_PROCESS)
        assert kept(sent.read()) == [1 if sent_before else 1502]
    assert ((directory / "output").read_bytes() == OLD) is sent_before


# --- the order of publishing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"", BAD], ids=["clean", "with rejects"])
def test_rejects_are_settled_before_the_output_is_renamed(bad: bytes, source: Path, directory: Path) -> None:
    source.write_bytes(lines(3) + bad)
    output = directory / "output"

    def in_the_way(_done: int, _total: int | None) -> None:
        assert files(directory)[f"output{SUFFIX}"] == OLD
        output.unlink()
        (output / "something").mkdir(parents=True)

    with pytest.raises(OutputError, match=f"^{output}: "):
        CALCULATION.run(source, output, progress=in_the_way)
    shutil.rmtree(output)
    there = files(directory)
    assert list(there) == ([f"output{SUFFIX}"] if bad else []), "no output can come to be beside rejects of another run"
    assert [kept(content) for content in there.values()] == ([[4]] if bad else [])


# --- nothing is published ------------------------------------------------------------------------------------------


def appended(source: Path) -> None:
    with source.open("ab") as file:
        file.write(b"\n")


def touched(source: Path) -> None:
    os.utime(source, ns=(1, 1))


def replaced(source: Path) -> None:
    (source.parent / "other").write_bytes(source.read_bytes())
    (source.parent / "other").replace(source)


def truncated(source: Path) -> None:
    os.truncate(source, 1 << 20)


GOOD = lines(5000, 1000)
"""More than one read takes of a file."""

CHANGES: dict[str, Callable[[Path], None]] = {
    "appended to": appended,
    "touched": touched,
    "replaced": replaced,
    "truncated": truncated,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_changes_meanwhile_publishes_nothing(change: str, source: Path, directory: Path) -> None:
    source.write_bytes(GOOD)
    changes = [CHANGES[change]]

    def progress(_done: int, _total: int | None) -> None:
        while changes:
            changes.pop()(source)

    with pytest.raises(InputError, match=f"^{source}: (changed|vanished) while it was read"):
        CALCULATION.run(source, directory / "output", progress=progress, workers=1)
    there = files(directory)
    assert there.pop("output") == OLD
    assert list(there) == [f"output{SUFFIX}"]


PACKED = gzip.compress(GOOD, 1)
FAILURES: dict[str, tuple[bytes, dict[str, Any], type[Exception], list[int] | None]] = {
    "first reject": (GOOD + BAD + lines(2) + BAD, {"on_error": "fail"}, RejectedError, [5001]),
    "one reject too many": (BAD + GOOD + BAD * 3, {"max_rejects": 1}, RejectedError, [1, 5002]),
    "too large a share": (BAD + lines(9) + BAD, {"max_rejects": "18%"}, RejectedError, [1, 11]),
    "nothing but rejects": (BAD + b"\n" + BAD, {}, RejectedError, [1, 3]),
    "cut short": (PACKED[:-1000], {}, InputError, None),
    "corrupt": (PACKED[:-5] + b"x" + PACKED[-4:], {}, InputError, None),
    "corrupt after rejects": (gzip.compress(BAD + GOOD)[:-1], {"chunk_bytes": 1 << 20}, InputError, [1]),
    "array": (b"[" + GOOD, {}, InputError, None),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_run_that_fails_keeps_the_old_output_and_its_rejects_unless_it_has_some(
    failure: str, source: Path, directory: Path
) -> None:
    content, options, error, rejected = FAILURES[failure]
    source.write_bytes(content)
    with pytest.raises(error) as caught:
        CALCULATION.run(source, directory / "output", workers=1, **options)
    there = files(directory)
    rejects = there.pop(f"output{SUFFIX}")
    assert there == {"output": OLD}
    assert (kept(rejects) if rejects != OLD else None) == rejected
    assert (f". The rejected lines are in {directory / 'output'}{SUFFIX}" in str(caught.value)) == (
        rejected is not None
    )


def test_rejects_that_cannot_be_written_whole_are_not_published(source: Path, directory: Path) -> None:
    source.write_bytes(lines(3) + (b"x" * 1000 + b"\n") * 30)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # of any file that this process writes
    try:
        with pytest.raises(OutputError, match=f"^{directory / 'output'}{SUFFIX}: file too large$"):
            CALCULATION.run(source, directory / "output", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(directory) == {"output": OLD, f"output{SUFFIX}": OLD}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ValueError("a bug")], ids=repr)
@pytest.mark.parametrize("last", [False, True], ids=["in the middle", "at the end"])
def test_a_progress_callback_that_raises_publishes_nothing(
    error: BaseException, last: bool, source: Path, directory: Path
) -> None:
    source.write_bytes(BAD + GOOD)

    def progress(done: int, total: int | None) -> None:
        if done == total or not last:
            raise error

    with pytest.raises(type(error)) as caught:
        CALCULATION.run(source, directory / "output", progress=progress, workers=1, chunk_bytes=1 << 20)
    assert caught.value is error
    assert files(directory) == {"output": OLD, f"output{SUFFIX}": OLD}, "nobody knows whether the rejects are whole"


@pytest.mark.parametrize("all_read", [False, True], ids=["while it is read", "when all is read"])
def test_an_interrupt_is_heeded_before_the_next_part(all_read: bool, source: Path, directory: Path) -> None:
    source.write_bytes(lines(900) if all_read else GOOD)  # types are inferred from all of the former
    calculation = INFERRED if all_read else CALCULATION
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs beside it ignore this
    calls: list[int] = []

    def progress(done: int, _total: int | None) -> None:
        calls.append(done)
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            calculation.run(source, directory / "output", progress=progress, **ONE_PROCESS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1
    assert files(directory) == {"output": OLD, f"output{SUFFIX}": OLD}


# --- progress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "gzip", "pipe"])
def test_progress_tells_after_each_part_how_much_was_read(kind: str, source: Path, tmp_path: Path) -> None:
    content = gzip.compress(GOOD, 0) if kind == "gzip" else GOOD
    source.write_bytes(content)
    told: list[tuple[int, int | None]] = []
    options: dict[str, Any] = {"workers": 1, "chunk_bytes": 1 << 20}
    with source.open("rb") as pipe:
        CALCULATION.run(
            io.BytesIO(pipe.read()) if kind == "pipe" else source,
            tmp_path / "output",
            progress=lambda *numbers: told.append(numbers),
            **options,
        )
    with CALCULATION.stream(source, **options) as stream:
        assert len(told) == sum(1 for _ in stream)
    assert {total for _, total in told} == {None if kind == "pipe" else len(content)}
    positions = [done for done, _ in told]
    assert positions == sorted(set(positions))
    assert positions[-1] == len(content)
    assert len(positions) > 3
