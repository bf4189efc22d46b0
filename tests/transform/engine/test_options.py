"""Options of a run are checked when they enter, all at once, and have the defaults that are documented."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

from tests.support.example import CALCULATION, lines, transformed
from transform import available_cores
from transform.engine.options import EngineOptions, Policy, RunOptions
from transform.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD: RunOptions = {
    "on_error": "fail",
    "max_line_bytes": 1,
    "max_inflation": 2,
    "workers": 3,
    "chunk_bytes": 4,
    "range_bytes": 5,
}


def run(**options: Any) -> object:
    return CALCULATION.run(io.BytesIO(lines(3)), io.BytesIO(), **options)


def stream(**options: Any) -> object:
    with CALCULATION.stream(io.BytesIO(lines(3)), **options) as opened:
        return list(opened)


CALLS = pytest.mark.parametrize("call", [run, stream])


def test_defaults_are_those_that_are_documented() -> None:
    assert EngineOptions.from_run_options({}) == EngineOptions(Policy(), workers=available_cores())
    made = EngineOptions()
    assert (made.max_line_bytes, made.chunk_bytes, made.range_bytes) == (256 << 20, 4 << 20, 16 << 20)
    assert made.max_inflation is None
    text = CALCULATION.run.__doc__ or ""
    assert all(f"by default {size}" in text for size in ("256 MiB", "4 MiB", "16 MiB"))


@pytest.mark.parametrize(("workers", "mebibytes"), [(1, 4), (2, 4), (4, 8), (8, 16), (100, 16)])
def test_more_threads_read_more_at_a_time_unless_the_user_says_how_much(workers: int, mebibytes: int) -> None:
    options: RunOptions = {"workers": workers}
    assert EngineOptions.from_run_options(options).thread_chunk_bytes == mebibytes << 20
    assert EngineOptions.from_run_options({**options, "chunk_bytes": 4 << 20}).thread_chunk_bytes == 4 << 20
    assert EngineOptions.from_run_options({**options, "range_bytes": 1000}).thread_chunk_bytes == 4 << 20
    assert EngineOptions.from_run_options({**options, "range_bytes": 1 << 30}).thread_chunk_bytes == mebibytes << 20


def test_none_stands_for_the_default() -> None:
    options: RunOptions = {"max_rejects": None, "max_inflation": None, "workers": None}
    assert EngineOptions.from_run_options(options) == EngineOptions.from_run_options({})


def test_every_option_arrives() -> None:
    assert EngineOptions.from_run_options(GOOD) == EngineOptions(Policy(max_lines=0), 1, 2, 3, 4, 5, fixed_chunks=True)
    assert EngineOptions.from_run_options({"max_rejects": 7}).policy == Policy(max_lines=7)
    assert GOOD.keys() | {"max_rejects"} == get_type_hints(RunOptions).keys(), "an option that no test here sets"


@CALLS
def test_every_option_is_taken(call: Callable[..., object]) -> None:
    call(**GOOD | {"max_line_bytes": 100}, max_rejects="5%")


@CALLS
@pytest.mark.parametrize("name", ["max_reject", "Workers", "progres", "spec"])
def test_an_option_that_there_is_not_is_named_as_python_does(call: Callable[..., object], name: str) -> None:
    message = rf"^Runnable\.{call.__name__}\(\) got an unexpected keyword argument '{name}'$"
    with pytest.raises(TypeError, match=message):
        call(**{name: 1})


def test_what_only_run_takes_is_no_option_of_stream() -> None:
    for name in ("rejects", "progress"):
        with pytest.raises(TypeError, match=rf"^Runnable\.stream\(\) got an unexpected keyword argument '{name}'$"):
            stream(**{name: None})


@CALLS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error is `reject` or `fail`, not 'ignore'"),
        ({"max_rejects": -1}, "max_rejects is a number of lines or a share such as 5%, not -1"),
        ({"max_rejects": "101%"}, "max_rejects is a number of lines or a share such as 5%, not '101%'"),
    ],
)
def test_a_bad_value_is_refused(call: Callable[..., object], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        call(**options)


def test_nothing_is_written_or_read_before_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        CALCULATION.run(tmp_path / "none", tmp_path / "out", max_reject=1)  # type: ignore[call-arg]
    with pytest.raises(OptionError):
        CALCULATION.run(tmp_path / "none", tmp_path / "out", on_error="ignore")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_type_checker_knows_the_types_of_options(tmp_path: Path) -> None:
    # mypy complains of an ignored error that there is not, so that these lines hold it to what it knows.
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(3))
    CALCULATION.run(source, tmp_path / "out", workers=1, max_rejects="5%", chunk_bytes=100, max_inflation=None)
    assert (tmp_path / "out").read_bytes() == transformed(3)
    with pytest.raises(OptionError):
        CALCULATION.run(source, tmp_path / "out", chunk_bytes=100.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError), CALCULATION.stream(source, range_byte=1):  # type: ignore[call-arg]
        pass
    with pytest.raises(OptionError):
        CALCULATION.run(source, tmp_path / "out", workers="2")  # type: ignore[arg-type]
