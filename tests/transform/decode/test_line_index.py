"""Where bytes stand in a chunk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transform.decode.line_index import NEWLINE, _positions_of

rare = st.lists(st.sampled_from([b"\n", b"\n\n", b"\x0b", b"x" * 7, b"y" * 8, b"z" * 30, b"\0\xff"]), max_size=12)
datas = st.binary(max_size=40) | rare.map(b"".join)


@given(data=datas, byte=st.sampled_from([NEWLINE, 0, 1, 0xFF]) | st.integers(0, 255), skipped=st.integers(0, 9))
@example(data=b"", byte=NEWLINE, skipped=0)
@example(data=b"\n", byte=NEWLINE, skipped=0)
@example(data=b"\n" * 17, byte=NEWLINE, skipped=1)
@example(data=b"x" * 9, byte=NEWLINE, skipped=0)
def test_positions_are_those_of_flatnonzero(data: bytes, byte: int, skipped: int) -> None:
    array = np.frombuffer(data, np.uint8)[skipped:]  # it need not start where a word does
    found = _positions_of(byte, array)
    assert found.tolist() == np.flatnonzero(array == byte).tolist()
    assert found.dtype == np.int64


@pytest.mark.parametrize("size", range(26))
def test_one_or_two_are_found_wherever_they_stand(size: int) -> None:
    for first in range(size):
        for second in range(first, size):
            data = np.full(size, 0x8A, np.uint8)
            data[[first, second]] = NEWLINE
            assert _positions_of(NEWLINE, data).tolist() == sorted({first, second})


def test_positions_far_from_the_start_are_exact() -> None:
    data = np.zeros((16 << 20) + 100, np.uint8)
    expected = [3, (16 << 20) + 1, (16 << 20) + 17, (16 << 20) + 99]
    data[expected] = NEWLINE
    assert _positions_of(NEWLINE, data).tolist() == expected
