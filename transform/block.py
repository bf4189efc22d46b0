"""A range of an object in the pieces that it came in, as joining them would have it twice in memory for a moment."""

from bisect import bisect_right
from collections.abc import Sequence


class Block:
    """A range of an object.

    Args:
        start: Where in the object it starts.
        pieces: Its content.
    """

    def __init__(self, start: int, pieces: Sequence[bytes] = ()) -> None:
        self._pieces = pieces
        self._starts = [start]
        for piece in pieces:
            self._starts.append(self._starts[-1] + len(piece))

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._starts[-1] - self._starts[0]

    def holds(self, offset: int) -> bool:
        """Return whether an offset in the object is within it."""
        return self._starts[0] <= offset < self._starts[-1]

    def read_at(self, view: memoryview, offset: int) -> int:
        """Fill a part of the view from an offset in the object on; return how many bytes, 0 outside of the block."""
        filled, number = 0, bisect_right(self._starts, offset) - 1
        while filled < len(view) and 0 <= number < len(self._pieces):
            piece = memoryview(self._pieces[number])[offset + filled - self._starts[number] :]
            part = piece[: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            number += 1
        return filled
