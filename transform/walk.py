"""A look at the lines of an input without an output: for whatever tells of a calculation rather than running it."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from transform.engine import restarted
from transform.errors import WidenError
from transform.layout import NEWLINE
from transform.lines import Chunk, LongLine
from transform.sources import Source
from transform.state import State

T = TypeVar("T")


def retry_widened(source: Source, attempt: Callable[[State], T]) -> T:
    """Return what an attempt gives that has not to start again with a wider type for a column.

    Args:
        source: What it reads.
        attempt: Is called anew, with the types that turned out to be needed.

    Raises:
        SchemaError: It has to start again, and the source cannot be read again.
    """
    state = State()
    while True:
        try:
            return attempt(state)
        except WidenError as error:
            state = restarted(state, error, source)


class FirstLines:
    """Yields the chunks up to a number of lines, blank ones among them.

    Args:
        chunks: Of a whole input.
        max_lines: How many lines; None for all.

    Attributes:
        whole: Whether that was the whole input; known at the end.
    """

    def __init__(self, chunks: Iterator[Chunk | LongLine], max_lines: int | None) -> None:
        self._chunks = chunks
        self._max_lines = max_lines
        self.whole = False

    def __iter__(self) -> Iterator[Chunk | LongLine]:
        left = self._max_lines
        for chunk in self._chunks:
            if left is None:
                yield chunk
            elif left == 0:
                return
            elif isinstance(chunk, LongLine):
                yield chunk
                left -= 1
            else:
                ends = np.flatnonzero(np.frombuffer(chunk.data, np.uint8) == NEWLINE)
                cut = len(chunk.data) if len(ends) < left else int(ends[left - 1]) + 1
                more = cut < len(chunk.data)
                yield Chunk(chunk.data[:cut], chunk.offset)
                if more:
                    return
                left -= len(ends)
        self.whole = True
