"""Distributes the items of one input over processes, and yields their results in order.

An item is a range of the input, or a chunk that was read from it. This process takes part: it transforms the items that
the workers have no room for, and all items until they have started, which takes as long as transforming 100 MB.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from transform import _process
from transform.decode.rejects import ChunkResult
from transform.engine.pool_worker import IN_BYTES, SLOTS, WorkItem
from transform.io.chunks import Chunk, Range

MAX_PREFETCHED = 2
"""How many ranges this process may have taken and not transformed: the next one, and one that is read meanwhile."""


class Worker(Protocol):
    """Transforms items elsewhere; see `RemoteWorker`."""

    def is_free(self) -> bool:
        """Return whether it has room for one more item."""

    def give(self, item: WorkItem) -> None:
        """Send an item to be transformed."""

    def has_answered(self) -> bool:
        """Return whether `answers` would yield something without waiting."""

    def answers(self) -> Iterator[ChunkResult]:
        """Yield the results of the first item that is not done."""

    def stop(self, *, at_once: bool) -> None:
        """Stop the worker: at once, or after the items that it has."""


class Local(Protocol):
    """Transforms items in this process."""

    def results(self, item: WorkItem) -> Iterator[ChunkResult]:
        """Yield the results of an item; each is valid until the next is asked for."""

    def prefetch(self, item: Range) -> None:
        """Start to read a range that `results` will be called with."""


class LocalItem:
    """An item that this process has taken: transformed when its turn comes, or earlier."""

    def __init__(self, item: WorkItem, local: Local) -> None:
        self._item = item
        self._local = local
        self._results: list[ChunkResult] = []
        self._error: Exception | None = None
        self.done = False

    def transform(self) -> None:
        """Transform it now, and keep the results."""
        self.done = True
        try:
            for result in self._local.results(self._item):
                _process.check_interrupts()
                self._results.append(replace(result, output=[_copied(data) for data in result.output]))
        except Exception as error:  # noqa: BLE001 - raised when its turn comes
            self._error = error

    def has_answered(self) -> bool:
        """Return whether `answers` would yield something without waiting for others."""
        return True

    def answers(self) -> Iterator[ChunkResult]:
        """Yield its results."""
        yield from self._results if self.done else self._local.results(self._item)
        if self._error is not None:
            raise self._error


class Pool:
    """Worker processes beside this one, started when `results` needs them and ended with the context.

    Args:
        local: Transforms items in this process.
        start_worker: Starts a worker.
        workers: How many to start.
        start_after: How many items this process transforms before it starts them: a short stream needs none.
    """

    def __init__(self, local: Local, start_worker: Callable[[], Worker], workers: int, *, start_after: int = 0) -> None:
        self._local = local
        self._start_worker = start_worker
        self._count = workers
        self._start_after = start_after
        self._workers: list[Worker] = []
        self._queue: deque[Worker | LocalItem] = deque()  # for each item whose results are not out yet, where it is

    def results(self, items: Iterator[WorkItem]) -> Iterator[ChunkResult]:
        """Yield the results of the items, in order; each is valid until the next is asked for.

        A worker that has room is given the next item. When all are busy and the next result is not there yet, this
        process takes an item itself, so that no process waits for another. It takes ranges one early, so that one can
        be read while the one before is transformed.

        Args:
            items: The items; a chunk may be overwritten when the next item is asked for.

        Raises:
            TransformError: What an item raised, or a `WorkerError`.
        """
        for number, item in enumerate(items):
            if number == self._start_after:
                self._start()
            while (worker := self._free_worker(item)) is None and self._queue and not self._can_take(item):
                yield from self._next_results()
            if worker is not None:
                worker.give(item)
                self._queue.append(worker)
            elif self._queue:
                self._take(item)
            else:
                yield from self._local.results(item)
        while self._queue:
            yield from self._next_results()

    def _start(self) -> None:
        for _ in range(self._count):
            self._workers.append(self._start_worker())

    def _free_worker(self, item: WorkItem) -> Worker | None:
        """Return a worker that has room for an item, None if no worker has."""
        fits = isinstance(item, Range) or (isinstance(item, Chunk) and len(item.data) <= IN_BYTES)
        return next((worker for worker in self._workers if worker.is_free()), None) if fits else None

    def _can_take(self, item: WorkItem) -> bool:
        """Return whether this process can take one more item while it waits for the next result."""
        done = [entry.done for entry in self._queue if isinstance(entry, LocalItem)]
        has_room = done.count(False) < MAX_PREFETCHED if isinstance(item, Range) else done.count(True) < SLOTS
        return has_room and not self._queue[0].has_answered()

    def _take(self, item: WorkItem) -> None:
        """Take an item for this process: a range for later, a chunk now, before it is overwritten."""
        entry = LocalItem(item, self._local)
        self._queue.append(entry)
        if isinstance(item, Range):
            self._local.prefetch(item)
        else:
            entry.transform()

    def _next_results(self) -> Iterator[ChunkResult]:
        """Yield the results of the first item; if they have not arrived, transform another item and yield nothing.

        That is one of the items that this process has taken. It keeps the results of at most `SLOTS` of them.
        """
        taken = [entry for entry in self._queue if isinstance(entry, LocalItem)]
        undone = [entry for entry in taken if not entry.done]
        if undone and len(taken) - len(undone) < SLOTS and not self._queue[0].has_answered():
            undone[0].transform()
        else:
            yield from self._queue.popleft().answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop(at_once=error is not None)


def _copied(data: memoryview) -> memoryview:
    """Return bytes that stay valid: if they are writable, they are in the buffer that the next chunk is read into."""
    return data if data.readonly else memoryview(bytes(data))
