"""The sample that types are inferred from: lines that the kernel has found in bulk count as those looked at alone."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.support.hostile import Lines
from transform.decode.inference import Sample, SampleSize, take_sample
from transform.decode.schema import Read, Use
from transform.io.chunks import Chunk, LongLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READS = {
    "a": Read(("a",)),
    "b": Read(("b",), Use.PRESENCE),
    "customer.a": Read(("customer", "a")),
    "a.n": Read(("a", "n")),
    "é": Read(("é",), elements=frozenset({("a",)})),
}
JUST_A = {"a": READS["a"]}
BAD = b"no JSON"
"""A line for which its neighbours are looked at alone, too."""


def chunks(lines: Sequence[bytes], each: int) -> Iterator[Chunk | LongLine]:
    offset = 0
    for start in range(0, len(lines), each):
        data = b"".join(line + b"\n" for line in lines[start : start + each])
        yield Chunk(memoryview(bytearray(data)), offset)
        offset += len(data)


def sample_of(
    lines: Sequence[bytes], each: int = 10**6, size: SampleSize | None = None, reads: Mapping[str, Read] = READS
) -> Sample:
    return take_sample(chunks(lines, each), 1000, size or SampleSize(), reads)[0]


def counted(sample: Sample) -> tuple[object, ...]:
    members = {name: astuple(member)[:5] for name, member in sample.members.items() if member.present}
    return sample.lines, sample.whole, members


@pytest.mark.parametrize("each", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_lines_in_bulk_count_as_lines_alone(seed: int, each: int) -> None:
    made = Lines(seed, sane=True).lines(500)
    lines = [line for line in made if len(line) <= 1000 and line.strip(b" \t\r")]
    found = sample_of(lines, each)  # the kernel is not sure about some of them, and about their neighbours
    assert counted(found) == counted(sample_of([BAD, *lines]))
    assert found.members["a"].present > 50


def test_the_sample_ends_with_its_lines_or_bytes() -> None:
    lines = [b'{"a":%d}' % number for number in range(10)] + [b"", b'{"a":"text"}', b'{"a":1.5}']

    def kinds(lines: Sequence[bytes], each: int, size: SampleSize) -> tuple[dict[str, int], bool]:
        sample = sample_of(lines, each, size, JUST_A)
        assert sample.lines == sample.members["a"].present
        return dict(sample.members["a"].kinds), sample.whole

    for each in (1, 5, 100):
        assert kinds(lines, each, SampleSize(10)) == ({"integer": 10}, False)
        assert kinds(lines, each, SampleSize(max_bytes=4 * 8 + 1)) == ({"integer": 5}, False)
        assert kinds(lines[:9] + [b""] * 5 + lines[9:], each, SampleSize(10)) == ({"integer": 10}, False)
        assert kinds(lines, each, SampleSize(11)) == ({"integer": 10, "string": 1}, False)
        assert kinds(lines, each, SampleSize()) == ({"integer": 10, "string": 1, "float": 1}, True)


def test_values_that_occur_several_times_are_counted() -> None:
    member = sample_of([b'{"a":1}', b'{"a":2}', b'{"a":1}', b"{}", b'{"a":null}'], reads=JUST_A).members["a"]
    assert (member.present, dict(member.kinds)) == (4, {"integer": 3, "null": 1})


def test_types_of_objects_have_their_members_in_order_of_appearance() -> None:
    lines = [b'{"a":{"y":1}}', b'{"a":{"x":1}}', b'{"a":{"y":1,"b":1}}']
    for each in (1, 3):
        dtype = sample_of(lines, each, reads=JUST_A).members["a"].dtype
        assert dtype == pl.Struct({"y": pl.Int128(), "x": pl.Int128(), "b": pl.Int128()})


def test_the_names_of_a_sample_are_known_where_a_member_is_missing() -> None:
    sample = sample_of([b'{"A":1,"customer":{"b":1}}', b'{"z":2}'])
    assert [*sample.names] == ["A", "customer", "z"]
    assert [*sample.members["customer.a"].beside] == ["b"]


def test_a_line_over_the_limit_does_not_count() -> None:
    sample = sample_of([b'{"a":1}', b'{"a":"%s"}' % (b"x" * 1000)], reads=JUST_A)
    assert (sample.lines, sample.first_error) == (1, "longer than 1000 bytes")
