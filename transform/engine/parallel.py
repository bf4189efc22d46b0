"""The results of an input: made here, or by as many processes as there are cores."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from transform.decode.rejects import ChunkResult
from transform.io.chunks import MIN_RANGES, Chunk, LongLine, RandomAccess, Range, cut, prefetch_range, read_range
from transform.io.sources import Reader, open_version

if TYPE_CHECKING:
    from transform.engine.pool import WorkItem

_MIN_CHUNKS = 16  # the same, where only the end of a stream tells how long it is


class Transforms(Protocol):
    """What makes results of chunks."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""


@contextlib.contextmanager
def chunk_results(
    plan: Transforms,
    reader: Reader,
    chunks: Iterator[Chunk | LongLine],
    workers: int,
    range_bytes: int,
    chunk_bytes: int,
    notes: list[str],
) -> Iterator[Iterator[ChunkResult]]:
    """Yield the results that an input becomes, in order.

    What can be read from anywhere is cut into ranges that each worker reads for itself; of anything else this process
    reads the chunks and hands them out.

    Args:
        plan: What makes results of chunks.
        reader: The input.
        chunks: All of it, in this process.
        workers: How many processes to use at most, this one included.
        range_bytes: How large the ranges are.
        chunk_bytes: How much of them to read at a time.
        notes: Where to say so if only this process could be used.
    """
    travelling = _travelling(plan, notes) if workers > 1 else None
    size = reader.size if reader.version is not None and reader.size is not None else None
    start = reader.start.offset if reader.start is not None else 0
    if travelling is None or (size is not None and size - start <= MIN_RANGES * range_bytes):
        yield map(plan.transform, chunks)
        return
    from transform.engine.pool import Pool  # noqa: PLC0415 - only inputs that take several processes need it
    from transform.engine.pool_worker import WorkerSetup  # noqa: PLC0415 - likewise

    setup = WorkerSetup(travelling, reader.version, chunk_bytes, plan.max_line_bytes)

    def here(item: "WorkItem") -> Iterator[ChunkResult]:
        if not isinstance(item, Range):
            return iter([plan.transform(item)])
        assert anywhere is not None  # noqa: S101 - there are ranges only of what can be read from anywhere
        return map(plan.transform, read_range(anywhere, item, chunk_bytes, plan.max_line_bytes))

    anywhere: RandomAccess | None = None
    if size is None or reader.version is None:
        with Pool(workers, setup, start_after=_MIN_CHUNKS) as pool:
            yield pool.results(chunks, here, lambda _: None)
    else:
        with open_version(reader.version) as anywhere, Pool(workers, setup) as pool:
            yield reader.follow(
                pool.results(cut(size, range_bytes, start), here, lambda item: prefetch_range(anywhere, item))
            )


def _travelling(plan: Transforms, notes: list[str]) -> bytes | None:
    """Return the plan as it travels to other processes, None if it cannot."""
    import cloudpickle  # noqa: PLC0415 - only inputs that take several processes need it

    travelling: bytes | None
    try:
        travelling = cloudpickle.dumps(plan)
    except Exception as error:  # noqa: BLE001 - whatever a user's object does when it is pickled
        notes.append(f"used one process only, as the calculation cannot be sent to others: {error}")
        travelling = None
    return travelling
