"""What is known of a run comes through JSON as it was."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.stops import through_json
from transform import Reason, SchemaError, State, Summary, WidenError
from transform.decode.schema import INTEGER_BOUNDS, read_type
from transform.engine.run import retry_widened
from transform.io.sources import Position

if TYPE_CHECKING:
    from pathlib import Path

texts = st.text(st.characters() | st.sampled_from("\ud83d\udcff'\"\\\n\0"), max_size=8)
names = st.text(max_size=8) | st.sampled_from(["'", '"', 'it\'s "so"', "a\\", "{}", "a: Int64", "\n", "Null", "\0"])
counts = st.integers(0, 1 << 70)
scalars = st.sampled_from([pl.Null(), pl.String(), pl.Boolean(), pl.Float64(), *(dtype() for dtype in INTEGER_BOUNDS)])
types = st.recursive(
    scalars,
    lambda inner: st.builds(pl.List, inner) | st.builds(pl.Struct, st.dictionaries(names, inner, max_size=4)),
    max_leaves=8,
)
summaries = st.builds(
    Summary,
    *(texts, texts, counts, counts, counts, counts, counts, counts, counts),
    reject_reasons=st.dictionaries(texts, st.builds(Reason, counts, counts), max_size=3),
    first_rejects=st.lists(texts, max_size=3),
    nonfinite=st.dictionaries(texts, counts, max_size=3),
    schema=st.dictionaries(names, st.tuples(types.map(str), st.sampled_from(["declared", "inferred"])), max_size=4),
    notes=st.lists(texts, max_size=2),
    absent=st.dictionaries(texts, st.lists(texts, max_size=2), max_size=2),
    rejects=st.none() | texts,
    seconds=st.floats(0, allow_infinity=False),
)
codecs = st.sampled_from([None, "gzip", "zstd"])


@given(dtype=types)
@example(dtype=pl.List(pl.Struct({"it's": pl.List(pl.Null()), '"': pl.Struct({})})))
def test_a_type_is_read_as_it_was_written(dtype: pl.DataType) -> None:
    assert read_type(str(dtype)) == dtype


@pytest.mark.parametrize(
    "text", ["", "Integer", "Date", "List(", "List()", "Struct({1: Int64})", "List(" * 300 + ")" * 300]
)
def test_what_is_no_type_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # whatever it says
        read_type(text)
    plain = State().to_dict()
    plain["summary"] |= {"bytes_in": 1, "schema": {"a": {"type": text, "from": "inferred"}}}
    with pytest.raises(ValueError):  # noqa: PT011
        State.from_dict(plain)
    with pytest.raises(ValueError):  # noqa: PT011
        State.from_dict({**State().to_dict(), "widened": {"a": text}})


@given(summary=summaries)
def test_a_summary_comes_through(summary: Summary) -> None:
    plain = summary.to_dict()
    again = Summary.from_dict(json.loads(json.dumps(plain)))
    assert again == summary
    assert again.to_dict() == plain
    assert again.mb_per_s == summary.mb_per_s


@given(summary=summaries)
def test_a_summary_of_a_version_that_did_not_look_for_absent_names_is_read(summary: Summary) -> None:
    plain = summary.to_dict()
    del plain["absent"]
    assert Summary.from_dict(json.loads(json.dumps(plain))) == replace(summary, absent={})


@given(summary=summaries, copied=st.booleans())
def test_a_summary_shares_nothing_with_what_it_was_made_of(summary: Summary, copied: bool) -> None:
    plain = summary.to_dict()
    before = json.dumps(plain)
    again = summary.copy() if copied else Summary.from_dict(plain)
    assert again == summary
    again.first_rejects.append("x")
    again.notes.append("x")
    again.nonfinite["x"] = again.inexact["x"] = again.lines_in = 3
    again.schema["x"] = ("Int128", "inferred")
    again.reject_reasons["x"] = Reason(1, 2)
    for reason in again.reject_reasons.values():
        reason.count += 1
    for near in again.absent.values():
        near.append("x")
    assert json.dumps(plain) == before
    assert json.dumps(summary.to_dict()) == before


@given(summary=summaries, widened=st.dictionaries(names, types, max_size=3), codec=codecs)
def test_a_state_comes_through(summary: Summary, widened: dict[str, pl.DataType], codec: str | None) -> None:
    state = State(summary, widened, codec)
    again = through_json(state)
    assert again == state
    assert (again.position, again.columns) == (state.position, state.columns)
    if summary.bytes_in:
        assert again.position == Position(summary.bytes_in, codec)
        assert again.columns is not None
        described = {
            name: (str(column.dtype), "inferred" if column.inferred else "declared")
            for name, column in again.columns.items()
        }
        assert described == summary.schema
    else:
        assert (again.position, again.columns) == (None, None)


@given(summary=summaries, widened=st.dictionaries(names, types, max_size=3), name=names, dtype=types)
def test_a_run_that_starts_again_knows_nothing_but_the_wider_types(
    summary: Summary, widened: dict[str, pl.DataType], name: str, dtype: pl.DataType
) -> None:
    again = through_json(State(summary, widened, "gzip").restarted(name, dtype))
    assert again == State(widened={**widened, name: dtype})


# --- starting again ------------------------------------------------------------------------------------------------


def test_an_attempt_that_needs_wider_types_is_made_again_with_all_of_them(tmp_path: Path) -> None:
    needed = [("a", pl.Float64()), ("b", pl.List(pl.Float64()))]
    states: list[State] = []

    def attempt(state: State) -> str:
        states.append(state)
        if needed:
            name, dtype = needed.pop(0)
            raise WidenError(name, dtype, 5)
        return "done"

    source = tmp_path / "input"
    source.write_bytes(b"")
    assert retry_widened(source, attempt) == "done"
    first, second, third = states
    assert first == State()
    assert second == State(widened={"a": pl.Float64()})
    assert third == State(widened={"a": pl.Float64(), "b": pl.List(pl.Float64())})


def test_an_input_that_cannot_be_read_again_is_an_error_that_says_what_to_declare() -> None:
    attempts: list[State] = []

    def attempt(state: State) -> None:
        attempts.append(state)
        raise WidenError("it's", pl.Float64(), 5)

    message = r"cannot start again .* as the input is a pipe: .*--schema 'it'\"'\"'s=Float64' or \.with_schema"
    for source in (io.BytesIO(b""), "-"):
        with pytest.raises(SchemaError, match=message):
            retry_widened(source, attempt)
    assert len(attempts) == 2


def test_any_other_error_is_raised_at_once(tmp_path: Path) -> None:
    attempts: list[State] = []

    def attempt(state: State) -> None:
        attempts.append(state)
        raise SchemaError("no")

    with pytest.raises(SchemaError, match=r"^no$"):
        retry_widened(tmp_path, attempt)
    assert len(attempts) == 1
