"""Transforms one input in threads of this process, and yields the results in order.

The kernel and polars release the interpreter lock, so that threads use as many cores as there are. What a thread works
on is a chunk that was read here, or a range of the input, which it reads itself.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Self

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

HELD_BYTES = 8 << 20
"""How many bytes of results may wait for their turn, for each thread, before a thread stops within a chunk.

From the elements of a line, a thread makes results of a few MiB each. If more than this waits, it makes the next one
only when that is needed. Results that are all of a chunk have no such limit: they take a few times its size at most.
"""

Results = Callable[[Chunk | LongLine], Iterable[ChunkResult]]
"""Yields what a chunk becomes, in order, as `RowsPlan.results` does."""


@dataclass(eq=False, slots=True)
class _Task:
    """What a thread has to do, and what it has done of it.

    Attributes:
        opened: What is open until it is done.
        results: Its results that were not used yet.
        is_done: Whether there will be no others.
        error: What it has raised after these.
    """

    opened: contextlib.ExitStack
    results: deque[ChunkResult] = field(default_factory=deque)
    is_done: bool = False
    error: BaseException | None = None


class Threads:
    """Transforms chunks and ranges in threads; to be used as a context, which ends them.

    Args:
        transform: What a chunk becomes.
        count: How many threads there are.
        chunk_bytes: How much of a range to read at a time.
        max_line_bytes: A longer line is rejected.

    Attributes:
        chunk_bytes: As above.
        writes_little: Whether the last result, with its rejected lines, was less than half of its input, so that twice
            as much of a range can be read at a time in the same memory.
    """

    def __init__(self, transform: Results, count: int, chunk_bytes: int, max_line_bytes: int) -> None:
        self._transform = transform
        self._count = count
        self.chunk_bytes = chunk_bytes
        self.writes_little = False
        self._stop = -1  # of the last result
        self._max_line_bytes = max_line_bytes
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="transform")
        self._kept = threading.local()
        # All below is guarded by this, and each change to it is notified.
        self._changed = threading.Condition()
        self._pending = deque[_Task]()
        self._held = 0  # bytes of all results that were not used yet
        self._is_closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for task in self._pending:
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
            self._submit(partial(self._transform, copy_chunk(chunk)), contextlib.ExitStack())
            yield from self._wait_for_some(self._count + AHEAD)
        for item in ranges:
            opened = contextlib.ExitStack()
            assert version is not None  # noqa: S101 - who has ranges has it
            source = opened.enter_context(open_version(version))
            prefetch_range(source, item)
            self._submit(partial(self._range_results, source, item), opened)
            yield from self._wait_for_some(self._count + AHEAD)
        yield from self._wait_for_some(1)

    def _submit(self, work: Callable[[], Iterable[ChunkResult]], opened: contextlib.ExitStack) -> None:
        task = _Task(opened)
        with self._changed:
            self._pending.append(task)
        self._executor.submit(self._do, task, work)

    def _do(self, task: _Task, work: Callable[[], Iterable[ChunkResult]]) -> None:
        """Do a task, in a thread."""
        try:
            results = iter(work())
            while self._add_next(task, results):
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are waited for
            task.error = error
        finally:
            with self._changed:
                task.is_done = True
                self._changed.notify_all()

    def _add_next(self, task: _Task, results: Iterator[ChunkResult]) -> bool:
        """Add a result to those of a task, and within a chunk wait for room for another; return whether to make one."""
        result = next(results, None)
        if result is None:
            return False
        is_last = result.is_last
        with self._changed:
            task.results.append(result)
            self._held += result.size
            self._changed.notify_all()
            del result  # so that it is gone once it was used
            if not is_last:
                self._changed.wait_for(lambda: self._has_room(task))
            return not self._is_closing

    def _has_room(self, task: _Task) -> bool:
        """Return whether a task may make another result of a chunk: one is always made of the task whose turn it is."""
        is_needed = task is self._pending[0] and not task.results
        return self._is_closing or is_needed or self._held < self._count * HELD_BYTES

    def _wait_for_some(self, most: int) -> Iterator[ChunkResult]:
        """Yield the results of the first tasks, until fewer than this number are left."""
        while len(self._pending) >= most:
            written = 0
            for result in self._results_of(self._pending[0]):
                written += result.size
                if result.is_last:
                    self.writes_little = 2 * written < result.stop - self._stop if self._stop >= 0 else False
                    self._stop, written = result.stop, 0
                yield result

    def _results_of(self, task: _Task) -> Iterator[ChunkResult]:
        """Yield the results of the first task, as soon as each is there; then it is not pending any more."""
        while True:
            with _process.interruptible(), self._changed:
                self._changed.wait_for(lambda: task.results or task.is_done)
                if not task.results:
                    self._pending.popleft()
                    self._changed.notify_all()
                    break
                result = task.results.popleft()
                self._held -= result.size
                self._changed.notify_all()
            yield result
        task.opened.close()
        if task.error is not None:
            raise task.error

    def _range_results(self, source: RandomAccess, item: Range) -> Iterator[ChunkResult]:
        # With this room, a range that is one chunk is read at once, up to the end of its last line.
        size = max(self.chunk_bytes, min(item.stop - item.start, GROWTH * self.chunk_bytes)) + LOOK_BYTES
        if len(getattr(self._kept, "buffer", b"")) < size:
            self._kept.buffer = new_buffer(size)
        chunks = read_range(source, item, size, self._max_line_bytes, self._kept.buffer[:size])
        for chunk in chunks:
            yield from self._transform(chunk)
