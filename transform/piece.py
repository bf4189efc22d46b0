"""What a chunk of lines becomes."""

from collections.abc import Sequence
from dataclasses import dataclass

from transform.rejects import Reject


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What a chunk became.

    Attributes:
        output: Bytes to be written one after the other; valid as long as the chunk is.
        rejects: In the order of the lines.
        lines: How many lines came in; the next are of these.
        kept: How many are in the output.
        filtered: How many the filters dropped.
        blank: How many were blank.
        nonfinite: By result, how many NaN and infinite numbers were written as null.
        stop: Where the chunk ends in the input.
    """

    output: Sequence[memoryview]
    rejects: Sequence[Reject]
    lines: int
    kept: int
    filtered: int
    blank: int
    nonfinite: dict[str, int]
    stop: int
