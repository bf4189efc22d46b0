"""An output of any size fits into the parts that S3 allows, and no part is larger than that takes."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transform import PartSizes

MIB, GIB, TB = 1 << 20, 1 << 30, 10**12
FIRST, RANGE = 16 * MIB, 16 * MIB
MOST_PARTS, MOST_BYTES = 10_000, 5 * GIB
"""Of S3."""


class Uploaded(NamedTuple):
    """What an output would be uploaded as."""

    parts: int
    largest: int
    written: int


def upload(size: int | None, outputs: list[float], read: int, first: int = FIRST) -> Uploaded:
    """Return what becomes of an input, of which each piece (all of one size) gives so much for a byte."""
    step = max(RANGE, -(-read // 50_000))  # of a huge one, several ranges at once: a test may not take minutes
    sizes = PartSizes(first)
    position = parts = largest = written = collected = 0
    while position < read:
        piece = min(step, read - position)
        made = int(piece * outputs[position * len(outputs) // read])
        position, written, collected = position + piece, written + made, collected + made
        if collected >= sizes.next_size(parts, written, (position, size)):
            assert collected >= 5 * MIB, "S3 refuses smaller ones, but for the last"
            parts, largest, collected = parts + 1, max(largest, collected), 0
    return Uploaded(parts + (collected > 0), max(largest, collected), written)


@pytest.mark.parametrize("first", [5 * MIB, FIRST])
@pytest.mark.parametrize(
    ("size", "gives"), [*product([10**9, 10**11, TB], [0.001, 1, 20]), (20 * TB, 0.001), (20 * TB, 1)]
)
def test_parts_are_no_larger_than_it_takes(size: int, gives: float, first: int) -> None:
    done = upload(size, [gives], size, first)
    room = max(RANGE, size // 50_000) * gives  # a part ends where a range does
    assert done.parts <= MOST_PARTS
    # Of a small share of a huge input, the parts are larger than that, as all the rest might become output.
    share = min(done.written / 600, 2.1 * size / MOST_PARTS)
    assert done.largest <= max(first, 2.1 * done.written / MOST_PARTS, share) + room


def test_an_output_of_a_terabyte_takes_little_memory() -> None:
    assert upload(TB, [1.1], TB).largest < 256 * MIB, "of which a job holds two"


@pytest.mark.parametrize("size", [GIB, 100 * GIB, TB])
def test_a_start_that_becomes_a_thousand_times_its_size_takes_little_memory(size: int) -> None:
    """As it does where a member is copied into each element of a line."""
    sizes, first = PartSizes(FIRST), 4 * MIB
    parts = written = collected = largest = 0
    for _ in range(1000):  # results of the first MiB
        written, collected = written + first, collected + first
        if collected >= sizes.next_size(parts, written, (1 + written // 1000, size)):
            parts, largest, collected = parts + 1, max(largest, collected), 0
    assert largest <= max(FIRST, written // 16) + first
    assert parts < 200


def test_as_much_as_s3_takes_fits() -> None:
    size = 47 * (1 << 40)
    done = upload(size, [1], size)
    assert done.parts <= MOST_PARTS
    assert done.largest <= MOST_BYTES + size // 50_000


@given(
    size=st.integers(10**8, 5 * TB),
    outputs=st.lists(st.sampled_from([0.2, 0.5, 1, 1.5]), min_size=1, max_size=12),
)
def test_it_fits_however_uneven_it_is(size: int, outputs: list[float]) -> None:
    assert upload(size, outputs, size).parts <= MOST_PARTS


@given(
    size=st.integers(10**8, 5 * TB),
    outputs=st.lists(st.sampled_from([0, 0, 0.01, 0.1, 0.5, 1]), min_size=1, max_size=12),
)
@example(TB, [0] * 6 + [1] * 4)
@example(TB, [0, 1])
@example(5 * TB, [0] * 9 + [1])
@example(5 * TB, [1] + [0] * 9)
@example(5 * TB, [0.01, 0.1, 0.5, 1])
@example(5 * TB, [0, 1] * 6)
def test_an_uneven_output_takes_no_larger_parts_than_one_that_is_as_large_as_the_input(
    size: int, outputs: list[float]
) -> None:
    done = upload(size, outputs, size)
    assert done.parts <= MOST_PARTS
    assert done.largest <= max(FIRST, 2.1 * size / MOST_PARTS) + max(RANGE, size // 50_000)


@given(size=st.integers(10**8, TB), outputs=st.lists(st.floats(0, 4), min_size=1, max_size=12))
@example(TB, [0] * 6 + [3] * 4)
@example(TB, [0] * 5 + [4] * 5)
@example(TB, [4] + [0] * 9)
def test_the_parts_of_one_that_becomes_larger_have_a_limit_too(size: int, outputs: list[float]) -> None:
    done, most = upload(size, outputs, size), max(1, *outputs)
    assert done.parts <= MOST_PARTS
    assert done.largest <= max(FIRST, 4.2 * most * size / MOST_PARTS) + most * max(RANGE, size // 50_000)


@given(size=st.integers(10**8, TB), filtered=st.floats(0, 0.99), gives=st.floats(0.5, 3))
def test_it_fits_where_much_comes_late(size: int, filtered: float, gives: float) -> None:
    pieces = int(filtered * 100)
    assert upload(size, [0.001] * pieces + [gives] * (100 - pieces), size).parts <= MOST_PARTS


def test_where_nothing_is_known_of_the_input_they_double() -> None:
    done = upload(None, [1], 4 * TB)
    assert done.parts <= MOST_PARTS
    assert done.largest <= 4 * GIB


@pytest.mark.parametrize("read", [(0, None), (0, 0), (0, 100), (100, 100), (200, 100), (5, None)])
def test_the_ends_are_no_exception(read: tuple[int, int | None]) -> None:
    assert PartSizes(FIRST).next_size(0, 0, read) == FIRST
    assert PartSizes(FIRST).next_size(MOST_PARTS, TB, read) <= MOST_BYTES
