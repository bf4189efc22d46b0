"""Transforms one input in threads of this process, and yields the results in order.

The kernel and polars release the interpreter lock, so that threads use as many cores as there are. What a thread works
on is a chunk that was read here, or a range of the input, which it reads itself.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self

from transform import _process
from transform.decode.rejects import ChunkResult
from transform.io.chunks import Chunk, LongLine, copy_chunk, new_buffer
from transform.io.ranges import LOOK_BYTES, RandomAccess, Range, prefetch_range, read_range
from transform.io.sources import InputVersion, open_version

AHEAD = 2
"""How many chunks or ranges are read or wait for a thread while all threads work."""

Results = list[ChunkResult]


class Transforms(Protocol):
    """Turns chunks into their results: the part of a plan (`run.Plan`) that is used here."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side, as no Python code runs for each line."""

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""


@dataclass(frozen=True, slots=True)
class _Task:
    """What a thread has to do.

    Attributes:
        results: Its results, some time.
        opened: What is open until then.
    """

    results: Future[Results]
    opened: contextlib.ExitStack


class Threads:
    """Transforms chunks and ranges in threads; to be used as a context, which ends them.

    Args:
        transform: What is done to a chunk.
        count: How many threads there are.
        chunk_bytes: How much of a range to read at a time.
        max_line_bytes: A longer line is rejected.

    Attributes:
        chunk_bytes: As above.
    """

    def __init__(
        self, transform: Callable[[Chunk | LongLine], ChunkResult], count: int, chunk_bytes: int, max_line_bytes: int
    ) -> None:
        self._transform = transform
        self._count = count
        self.chunk_bytes = chunk_bytes
        self._buffer_bytes = chunk_bytes + LOOK_BYTES  # so that a range of `chunk_bytes` is one chunk
        self._max_line_bytes = max_line_bytes
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="transform")
        self._kept = threading.local()
        self._pending = deque[_Task]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._pending:
            task.results.cancel()
            task.opened.close()  # which ends what a thread may be waiting for
        self._executor.shutdown(cancel_futures=True)

    def results(
        self, chunks: Iterable[Chunk | LongLine], version: InputVersion | None = None, ranges: Iterable[Range] = ()
    ) -> Iterator[ChunkResult]:
        """Yield the results of chunks, and then those of ranges.

        Args:
            chunks: Each is valid until the next is read.
            version: The input that has the ranges.
            ranges: What follows the chunks.
        """
        for chunk in chunks:
            self._submit(partial(self._chunk_results, copy_chunk(chunk)), contextlib.ExitStack())
            yield from self._wait_for_some(self._count + AHEAD)
        for item in ranges:
            opened = contextlib.ExitStack()
            assert version is not None  # noqa: S101 - who has ranges has it
            source = opened.enter_context(open_version(version))
            prefetch_range(source, item)
            self._submit(partial(self._range_results, source, item), opened)
            yield from self._wait_for_some(self._count + AHEAD)
        yield from self._wait_for_some(1)

    def _submit(self, work: Callable[[], Results], opened: contextlib.ExitStack) -> None:
        self._pending.append(_Task(self._executor.submit(work), opened))

    def _wait_for_some(self, most: int) -> Iterator[ChunkResult]:
        """Yield the results of the first tasks, until fewer than this number are left."""
        while len(self._pending) >= most:
            with _process.interruptible():
                results = self._pending[0].results.result()
            self._pending.popleft().opened.close()
            yield from results

    def _chunk_results(self, chunk: Chunk | LongLine) -> Results:
        return [self._transform(chunk)]

    def _range_results(self, source: RandomAccess, item: Range) -> Results:
        if not hasattr(self._kept, "buffer"):
            self._kept.buffer = new_buffer(self._buffer_bytes)
        chunks = read_range(source, item, self._buffer_bytes, self._max_line_bytes, self._kept.buffer)
        return list(map(self._transform, chunks))
