"""How large the parts of a multipart upload have to be, so that an object fits into as many as S3 allows."""

MAX_PARTS = 10_000
MAX_PART_BYTES = 5 << 30
"""Both from the quotas of S3 (Amazon S3 User Guide, "Amazon S3 multipart upload limits")."""

ReadSoFar = tuple[int, int | None]
"""How many bytes of an input were read, and how many it has, None where only its end tells."""

_SPARE = 2  # half of the parts that are left are kept for output that comes to more than it seems now
_PARTS_BEFORE_GROWTH = 1000  # where nothing is known of how much is to come
_LAST_PARTS = 1000
_LAST_PARTS_BEFORE_GROWTH = 100


def part_size(first: int, parts: int, written: int = 0, read: ReadSoFar = (0, None)) -> int:
    """Return how many bytes the next part of an upload should have.

    A part is kept in memory, so none is larger than it has to be: what is still to come, reckoned from what has come
    of the input so far, has to fit into the parts that are left. Of an output of 1 TB they have 200 MB at most. Where
    the size of the input is not known, they double after every 1,000.

    Args:
        first: The size of the parts of an output that is not huge.
        parts: How many there are already.
        written: How many bytes of output there are so far, in parts or not.
        read: How much of the input these came of.

    Example:
        >>> part_size(16 << 20, parts=0, written=16 << 20, read=(16 << 20, 1 << 40)) >> 20
        209
        >>> part_size(16 << 20, parts=1000) >> 20
        32
    """
    position, size = read
    if not position or size is None:
        return min(first << (parts // _PARTS_BEFORE_GROWTH), MAX_PART_BYTES)
    parts_left = max(1, MAX_PARTS - parts)
    even = _SPARE * written * max(0, size - position) // (position * parts_left)
    # Should most of it come at the input's end, the last parts grow whatever was reckoned.
    last = first << (max(0, parts - MAX_PARTS + _LAST_PARTS) // _LAST_PARTS_BEFORE_GROWTH)
    return min(max(first, even, last), MAX_PART_BYTES)
