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

GROWTH = 2
"""How many times as large the ranges of a file become if little of them is written.

A filter that keeps a tenth took 8 to 15 % less CPU time and 15 % less time on two cores, in 143 instead of 125 MiB.
"""

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
        writes_little: Whether the last result, with its rejected lines, was less than half of its input, so that twice
            as much of a range can be read at a time in the same memory.
    """

    def __init__(
        self, transform: Callable[[Chunk | LongLine], ChunkResult], count: int, chunk_bytes: int, max_line_bytes: int
    ) -> None:
        self._transform = transform
        self._count = count
        self.chunk_bytes = chunk_bytes
        self.writes_little = False
        self._stop = -1  # of the last result
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
            for result in results:
                written = sum(map(len, result.output)) + len(result.rejects.texts)
                self.writes_little = 2 * written < result.stop - self._stop if self._stop >= 0 else False
                self._stop = result.stop
                yield result

    def _chunk_results(self, chunk: Chunk | LongLine) -> Results:
        return [self._transform(chunk)]

    def _range_results(self, source: RandomAccess, item: Range) -> Results:
        # With this room, a range that is one chunk is read at once, up to the end of its last line.
        size = max(self.chunk_bytes, min(item.stop - item.start, GROWTH * self.chunk_bytes)) + LOOK_BYTES
        if len(getattr(self._kept, "buffer", b"")) < size:
            self._kept.buffer = new_buffer(size)
        chunks = read_range(source, item, size, self._max_line_bytes, self._kept.buffer[:size])
        return list(map(self._transform, chunks))
