"""What a calculation needs to know of an input is found in its first chunks, and none of these is lost."""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.support.example import lines
from transform import Calculation
from transform.decode.inference import SampleSize
from transform.decode.schema import Column, Read, Use
from transform.engine.spec import VALUE_LIBRARIES, digest, library_version
from transform.io.chunks import Chunk, read_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transform.engine.plan import ExpressionPlan
    from transform.engine.spec import ExpressionSpec

LIMIT = 1000
INFERRED = Calculation.from_sql("a + 1 AS b").spec_for("")
DECLARED = Calculation.from_sql("a + 1 AS b").with_schema({"a": "Int64"}).spec_for("")
WITHOUT_COLUMNS = Calculation(b=pl.lit(1)).spec_for("")
CONTENT = lines(100)
READ = Read(("a",))


class Reading:
    """The chunks of an input, of a line each, and how many were read."""

    def __init__(self, content: bytes) -> None:
        self.count = 0
        self._content = content

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in read_chunks(io.BytesIO(self._content).readinto, 1):
            assert isinstance(chunk, Chunk)
            self.count += 1
            yield chunk


def prepare(
    spec: ExpressionSpec,
    content: bytes,
    widened: Mapping[str, pl.DataType] | None = None,
    known_columns: Mapping[str, Column] | None = None,
    sample_size: SampleSize | None = None,
) -> tuple[ExpressionPlan, int]:
    """Return the plan, and how many chunks it took; all chunks have to come out."""
    reading = Reading(content)
    plan, chunks = spec.prepare(iter(reading), LIMIT, widened or {}, known_columns, sample_size)
    taken = reading.count
    assert b"".join(bytes(chunk.data) for chunk in chunks if isinstance(chunk, Chunk)) == content
    return plan, taken


@pytest.mark.parametrize("spec", [DECLARED, WITHOUT_COLUMNS])
def test_where_there_is_nothing_to_infer_the_first_chunk_is_enough(spec: ExpressionSpec) -> None:
    plan, taken = prepare(spec, CONTENT)
    assert taken == 1
    assert plan.result_types.keys() == {"b"}


@pytest.mark.parametrize(("size", "taken"), [(SampleSize(max_lines=4), 4), (SampleSize(max_bytes=100), 6), (None, 100)])
def test_types_are_inferred_from_a_sample(size: SampleSize | None, taken: int) -> None:
    plan, count = prepare(INFERRED, CONTENT, sample_size=size)
    assert plan.columns == {"a": Column(pl.Int128(), inferred=True, read=READ)}
    assert count == taken


def test_a_wider_type_counts_for_more_than_the_sample() -> None:
    plan, _ = prepare(INFERRED, CONTENT, widened={"a": pl.Float64()})
    assert plan.columns == {"a": Column(pl.Float64(), inferred=True, read=READ)}
    assert plan.result_types == {"b": pl.Float64}


def test_the_plan_of_the_last_input_is_used_again_for_the_same_types() -> None:
    spec = Calculation.from_sql("a + 1 AS b").spec_for("")
    first, _ = prepare(spec, CONTENT)
    assert prepare(spec, CONTENT)[0] is first
    floats = prepare(spec, b'{"a":1.5}\n')[0]
    assert floats.columns == {"a": Column(pl.Float64(), inferred=True, read=READ)}
    again = prepare(spec, CONTENT)[0]
    assert again is not first
    assert again.columns == first.columns
    longer, _ = spec.prepare(read_chunks(io.BytesIO(CONTENT).readinto), LIMIT + 1, {})
    assert longer.max_line_bytes == LIMIT + 1


@pytest.mark.parametrize("rest", [b'{"a":"text"}\n' * 9, b'{"c":1}\n' * 9, b"no\n" * 9, b""])
def test_known_columns_are_not_inferred_again(rest: bytes) -> None:
    known = {"a": Column(pl.Int128(), inferred=True)}  # as a state has it
    plan, taken = prepare(INFERRED, rest, known_columns=known)
    assert (plan.columns, taken) == ({"a": Column(pl.Int128(), inferred=True, read=READ)}, min(1, len(rest)))
    assert plan.result_types == {"b": pl.Int128}


@pytest.mark.parametrize("content", [b"", b"\n \n", b"no\n[1]\n"])
def test_of_an_input_without_lines_nothing_is_computed(content: bytes) -> None:
    plan, _ = prepare(INFERRED, content)
    assert (plan.columns, plan.result_types) == ({}, {})
    again, taken = prepare(INFERRED, CONTENT, known_columns=plan.columns)
    assert (again.columns, again.result_types, taken) == ({}, {}, 1), "nor once it is resumed"
    plan, _ = prepare(WITHOUT_COLUMNS, content)
    assert plan.result_types == {"b": pl.Int32}, "what reads nothing can be computed of nothing"


def test_a_column_that_is_declared_and_not_read_is_a_note() -> None:
    spec = Calculation.from_sql("a AS b").with_schema({"a": "Int64", "aa": "Int64"}).spec_for("")
    assert [note[:26] for note in spec.notes] == ["the schema declares `aa`, "]
    for known in (None, {"a": Column(pl.Int64())}):
        plan, _ = prepare(spec, CONTENT, known_columns=known)
        assert plan.columns == {"a": Column(pl.Int64(), read=Read(("a",), Use.BYTES))}


# --- the digest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updated", VALUE_LIBRARIES)
def test_another_version_of_a_library_that_makes_values_is_another_calculation(updated: str) -> None:
    before = digest([b"a"], lambda _: "1.0")
    assert digest([b"a"], lambda name: "1.1" if name == updated else "1.0") != before
    assert digest([b"a"], lambda _: "1.0") == before


def test_versions_are_those_that_are_installed() -> None:
    assert {name: library_version(name) for name in VALUE_LIBRARIES} == {
        name: importlib.import_module(name).__version__ for name in VALUE_LIBRARIES
    }
    assert library_version("yaml") == importlib.import_module("yaml").__version__, "its metadata have another name"
    assert digest([]) == digest([], library_version)


def test_the_division_into_parts_counts() -> None:
    assert len({digest(parts) for parts in ([b"ab"], [b"a", b"b"], [b"", b"ab"], [b"ab", b""], [])}) == 5
