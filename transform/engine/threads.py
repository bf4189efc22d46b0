"""Transforms the items of one input in threads of this process, and yields their results in order.

The kernel and polars release the interpreter lock, so that threads use as many cores as there are. An item is a range
of the input, which a thread reads itself, or a chunk that was read from it.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from transform import _process
from transform.decode.rejects import ChunkResult
from transform.io.chunks import LOOK_BYTES, Chunk, LongLine, Range, copy_chunk, new_buffer, prefetch_range, read_range
from transform.io.sources import InputVersion, open_version

Transform = Callable[[Chunk | LongLine], ChunkResult]
_AHEAD = 2
"""How many items are read or wait for a thread while all threads work."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """How the ranges of an input are read.

    Attributes:
        version: The input.
        chunk_bytes: How much of a range to read at a time.
        max_line_bytes: A longer line is rejected.
    """

    version: InputVersion
    chunk_bytes: int
    max_line_bytes: int


class Threads:
    """Transforms items in threads; to be used as a context, which ends them.

    Args:
        transform: What is done to a chunk.
        count: How many threads there are.
    """

    def __init__(self, transform: Transform, count: int) -> None:
        self._transform = transform
        self._count = count

    @contextlib.contextmanager
    def results_of_chunks(self, chunks: Iterator[Chunk | LongLine]) -> Iterator[Iterator[ChunkResult]]:
        """Yield the results of chunks, each of which is valid until the next is read."""
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(_executor(self._count))
            yield _in_order((executor.submit(self._one, copy_chunk(chunk)) for chunk in chunks), self._count + _AHEAD)

    def _one(self, chunk: Chunk | LongLine) -> list[ChunkResult]:
        return [self._transform(chunk)]

    @contextlib.contextmanager
    def results_of_ranges(self, ranges: Ranges, items: Iterator[Range]) -> Iterator[Iterator[ChunkResult]]:
        """Yield the results of ranges of an input."""
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(_executor(self._count))
            open_now = dict[Future[list[ChunkResult]], contextlib.ExitStack]()
            stack.callback(lambda: [opened.close() for opened in open_now.values()])  # type: ignore[func-returns-value]
            kept = threading.local()
            size = ranges.chunk_bytes + LOOK_BYTES  # so that a range of `chunk_bytes` is one chunk

            def submit(item: Range) -> Future[list[ChunkResult]]:
                opened = contextlib.ExitStack()
                source = opened.enter_context(open_version(ranges.version))
                prefetch_range(source, item)

                def work() -> list[ChunkResult]:
                    if not hasattr(kept, "buffer"):
                        kept.buffer = new_buffer(size)
                    chunks = read_range(source, item, size, ranges.max_line_bytes, kept.buffer)
                    return list(map(self._transform, chunks))

                future = executor.submit(work)
                open_now[future] = opened
                return future

            def done(future: Future[list[ChunkResult]]) -> None:
                open_now.pop(future).close()

            yield _in_order(map(submit, items), self._count + _AHEAD, done)


@contextlib.contextmanager
def _executor(count: int) -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(count, thread_name_prefix="transform")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _in_order(
    futures: Iterator[Future[list[ChunkResult]]],
    most: int,
    done: Callable[[Future[list[ChunkResult]]], None] = lambda _: None,
) -> Iterator[ChunkResult]:
    """Yield the results of futures in order, of which at most so many are asked for ahead."""
    pending = deque[Future[list[ChunkResult]]]()
    while True:
        while len(pending) < most and (future := next(futures, None)) is not None:
            pending.append(future)
        if not pending:
            return
        with _process.interruptible():
            results = pending[0].result()
        done(pending.popleft())
        yield from results
