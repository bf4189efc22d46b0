"""The pieces of an input: made here, or by as many processes as there are cores."""

import contextlib
import pickle
from collections.abc import Iterator

from transform.lines import Chunk, LongLine
from transform.plan import Piece, Plan
from transform.pool import Part, Pool
from transform.ranges import Range, cut, read_range
from transform.sources import Reader, open_pin
from transform.worker import Setting

_MIN_RANGES = 4  # an input of fewer is done before another process has started
_MIN_CHUNKS = 32  # the same, where only the end of a stream tells how long it is


@contextlib.contextmanager
def pieces_of(
    plan: Plan,
    reader: Reader,
    chunks: Iterator[Chunk | LongLine],
    workers: int,
    range_bytes: int,
    chunk_bytes: int,
) -> Iterator[Iterator[Piece]]:
    """Yield the pieces that an input becomes, in order.

    What can be read from anywhere is cut into ranges that each worker reads for itself; of anything else this process
    reads the chunks and hands them out.

    Args:
        plan: What makes pieces of chunks.
        reader: The input.
        chunks: All of it, in this process.
        workers: How many processes to use at most, this one included.
        range_bytes: How large the ranges are.
        chunk_bytes: How much of them to read at a time.
    """
    travelling = _travelling(plan) if workers > 1 else None
    size = reader.size if reader.pin is not None and reader.size is not None else None
    if travelling is None or (size is not None and size <= _MIN_RANGES * range_bytes):
        yield map(plan.transform, chunks)
        return
    setting = Setting(travelling, reader.pin, chunk_bytes, plan.max_line_bytes)
    read_at = open_pin(reader.pin) if reader.pin is not None else None

    def here(part: Part) -> Iterator[Piece]:
        if not isinstance(part, Range):
            return iter([plan.transform(part)])
        assert read_at is not None  # noqa: S101 - there are ranges only of what can be read from anywhere
        return map(plan.transform, read_range(read_at, part, chunk_bytes, plan.max_line_bytes))

    if size is None:
        with Pool(workers, setting, start_after=_MIN_CHUNKS) as pool:
            yield pool.pieces(chunks, here)
    else:
        with Pool(workers, setting) as pool:
            yield reader.follow(pool.pieces(cut(size, range_bytes), here))


def _travelling(plan: Plan) -> bytes | None:
    """Return the plan as it travels to other processes, None if it cannot."""
    try:
        return pickle.dumps(plan)
    except Exception:  # noqa: BLE001 - whatever a user's object does when it is pickled
        return None
