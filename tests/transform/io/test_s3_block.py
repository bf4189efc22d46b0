"""A block gives what its pieces joined would, wherever it is read from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transform.io.s3_reader import Block


@given(
    start=st.integers(0, 2**40),
    pieces=st.lists(st.binary(max_size=5), max_size=5),
    before=st.integers(0, 3),
    skipped=st.integers(0, 30),
    size=st.integers(0, 30),
)
def test_it_is_read_as_if_it_was_in_one_piece(
    start: int, pieces: list[bytes], before: int, skipped: int, size: int
) -> None:
    whole = b"".join(pieces)
    block = Block(start, pieces)
    assert block.size == len(whole)
    assert not any(block.holds(start - 1 - number) for number in range(before))
    assert block.holds(start + skipped) is (skipped < len(whole))
    view = memoryview(bytearray(b"?" * size))
    count = block.read_at(view, start + skipped)
    wanted = whole[skipped : skipped + size]
    assert (bytes(view[:count]), bytes(view[count:])) == (wanted, b"?" * (size - len(wanted)))
