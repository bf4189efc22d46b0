"""All cores on one input: items of it are transformed by worker processes and by this one, and taken in request.

This process is one of the workers: it takes what the others have no room for, and all items until they have started,
which costs each as much as a hundred megabytes of input. Workers are fresh interpreters rather than forks (polars does
not survive a fork) and rather than `multiprocessing` ones (those import the caller's main module again, which a script
or a notebook does not prefetch).

Worker processes, started when they are needed or ahead of that.

A worker takes about as long to start as this process does. Where it is plain from the start that there will be work for
it, as on the command line, it starts while this process imports what it needs.
"""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Self

from transform import _process
from transform.decode.rejects import ChunkResult
from transform.engine.pool_worker import (
    IN_BYTES,
    MEMORY_BYTES,
    SLOTS,
    Answer,
    WorkerSetup,
    WorkRequest,
    input_of,
    output_of,
)
from transform.errors import WorkerError
from transform.io.chunks import Chunk, LongLine, Range

EXIT_S = 5.0
"""How long a process may take to end."""
_MAIN = "from transform.engine.pool_worker import main; main()"  # as `__main__`, the module would be another than ours


class WorkerProcess:
    """A process that runs `transform.engine.pool_worker`, the connection to it, and the memory that it shares."""

    def __init__(self) -> None:
        self.connection: Connection
        self.connection, theirs = Pipe()
        with _shared_file() as memory:
            self.memory = memoryview(mmap.mmap(memory, MEMORY_BYTES))
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                [sys.executable, "-c", _MAIN, str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the process that can tell them to stop
            )
        theirs.close()

    def stop(self, *, at_once: bool) -> None:
        """End it, and wait until it has ended."""
        self.connection.close()  # a worker that gets no more orders ends
        if at_once:
            self.process.kill()
        try:
            self.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_STARTED: ContextVar[tuple[WorkerProcess, ...]] = ContextVar("started", default=())


@contextlib.contextmanager
def started_ahead(count: int) -> Iterator[None]:
    """Start so many workers at once, for the runs within; those that none has taken end with it."""
    token = _STARTED.set(tuple(WorkerProcess() for _ in range(count)))
    try:
        yield
    finally:
        for worker in _STARTED.get():
            worker.stop(at_once=True)
        _STARTED.reset(token)


def take_worker() -> WorkerProcess:
    """Return a worker that was started ahead, or a new one; it is the caller's to stop."""
    started = _STARTED.get()
    if not started:
        return WorkerProcess()
    _STARTED.set(started[1:])
    return started[0]


@contextlib.contextmanager
def _shared_file() -> Iterator[int]:
    """Yield a file of no name for two processes to map; it goes when neither does any more, however they end."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("transform")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, MEMORY_BYTES)
        yield descriptor
    finally:
        os.close(descriptor)


def _environment() -> dict[str, str]:
    """Return the environment of a worker: it finds what this process finds, and uses one core."""
    return {
        **os.environ,
        "POLARS_MAX_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


WorkItem = Range | Chunk | LongLine
MAX_PREFETCHED = 2
"""How many ranges this process may have taken and not done: one to be done, and one to be read meanwhile."""
READY_WAIT_S = 0.0  # nobody is waited for: what a worker would have done until it is ready is done here


class Pool:
    """Worker processes beside this one; `close` it, or they stay.

    Args:
        workers: How many in all, this process included.
        setup: What they are said.
        start_after: How many items this process takes before it starts the others: a short stream needs none.
    """

    def __init__(self, workers: int, setup: WorkerSetup, start_after: int = 0) -> None:
        self._workers = workers
        self._setup = setup
        self._start_after = start_after
        self._children: list[RemoteWorker] = []

    def results(
        self,
        items: Iterator[WorkItem],
        here: Callable[[WorkItem], Iterator[ChunkResult]],
        prefetch: Callable[[Range], None],
    ) -> Iterator[ChunkResult]:
        """Yield what the items become, in request; each is valid until the next is asked for.

        A worker that has room is given the next item. When all are busy and what comes next is not done yet, this
        process takes an item itself, so that nobody waits for anybody, whatever else there is to be done here. Ranges
        it takes one early, so that they can be read while it does the one before.

        Args:
            items: The items; a chunk may be overwritten when the next is asked for.
            here: What transforms an item in this process.
            prefetch: Hears which ranges will be transformed in this process.

        Raises:
            TransformError: What an item raised, or a `WorkerError`.
        """
        ahead: deque[RemoteWorker | LocalPart] = deque()
        for number, item in enumerate(items):
            if number == self._start_after:
                for _ in range(self._workers - 1):
                    self._children.append(RemoteWorker(self._setup))
            while (child := self._taker_of(item)) is None and ahead and not _can_take(item, ahead):
                yield from _go_on(ahead)
            if child is not None:
                child.give(item)
                ahead.append(child)
            elif not ahead:
                yield from here(item)
            else:
                ahead.append(own := LocalPart(item, here))
                if isinstance(item, Range):
                    prefetch(item)
                else:
                    own.do()
        while ahead:
            yield from _go_on(ahead)

    def _taker_of(self, item: WorkItem) -> "RemoteWorker | None":
        """Return a worker that has room for an item, None if none has."""
        return next((child for child in self._children if child.is_free()), None) if _fits(item) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.stop(at_once=error is not None)


class LocalPart:
    """An item that this process has taken: done when its turn comes, or before that."""

    def __init__(self, item: WorkItem, here: Callable[[WorkItem], Iterator[ChunkResult]]) -> None:
        self._item = item
        self._here = here
        self._results: list[ChunkResult] = []
        self._error: Exception | None = None
        self.done = False

    def do(self) -> None:
        """Do it, and keep what becomes of it."""
        self.done = True
        try:
            for result in self._here(self._item):
                _process.check_interrupts()
                self._results.append(replace(result, output=[_kept(data) for data in result.output]))
        except Exception as error:  # noqa: BLE001 - raised when its turn comes
            self._error = error

    def has_answered(self) -> bool:
        """Return whether there is something to go on with."""
        return True

    def answers(self) -> Iterator[ChunkResult]:
        """Yield what becomes of it."""
        yield from self._results if self.done else self._here(self._item)
        if self._error is not None:
            raise self._error


def _can_take(item: WorkItem, ahead: "deque[RemoteWorker | LocalPart]") -> bool:
    """Return whether this process can take one more item, rather than to go on with what it has taken."""
    own = [entry.done for entry in ahead if isinstance(entry, LocalPart)]
    room = own.count(False) < MAX_PREFETCHED if isinstance(item, Range) else own.count(True) < SLOTS
    return room and not ahead[0].has_answered()


def _go_on(ahead: "deque[RemoteWorker | LocalPart]") -> Iterator[ChunkResult]:
    """Do what this process has taken while what comes next is not done, unless that is much already."""
    own = [entry for entry in ahead if isinstance(entry, LocalPart)]
    undone = [entry for entry in own if not entry.done]
    if undone and len(own) - len(undone) < SLOTS and not ahead[0].has_answered():
        undone[0].do()
    else:
        yield from ahead.popleft().answers()


def _kept(data: memoryview) -> memoryview:
    """Return bytes that stay as they are: what can be written to is the buffer that the next chunk is read into."""
    return data if data.readonly else memoryview(bytes(data))


class RemoteWorker:
    """One worker process, as this one sees it."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._worker = take_worker()
        self._connection, self._memory = self._worker.connection, self._worker.memory
        self._ready = False
        self._requests: deque[int] = deque()
        self._given = 0
        self._send(setup)

    def is_free(self) -> bool:
        """Return whether it can be given one more item."""
        if not self._ready and self._connection.poll(READY_WAIT_S):
            self._ready = self._receive().last
        return self._ready and len(self._requests) < SLOTS

    def give(self, item: WorkItem) -> WorkItem:
        """Have an item transformed."""
        slot = self._given % SLOTS
        self._given += 1
        self._requests.append(slot)
        if isinstance(item, Chunk):
            self._memory[input_of(slot)][: len(item.data)] = item.data
            self._send(WorkRequest(slot, None, len(item.data), item.offset))
            return Chunk(memoryview(b""), item.offset)
        self._send(WorkRequest(slot, item if isinstance(item, Range) else None))
        return item

    def has_answered(self) -> bool:
        """Return whether there is something to go on with: also if that is the news that it has died."""
        return self._connection.poll()

    def answers(self) -> Iterator[ChunkResult]:
        """Yield what became of the first item that is not done."""
        output, used = self._memory[output_of(self._requests[0])], 0
        last = False
        while not last:
            answer = self._receive()
            for result, size in answer.results:
                if size is None:
                    yield result
                else:
                    yield replace(result, output=(output[used : used + size],))
                    used += size
            last = answer.last
        self._requests.popleft()

    def stop(self, *, at_once: bool) -> None:
        """End the process; see `WorkerProcess.stop`."""
        self._worker.stop(at_once=at_once)

    def _send(self, message: WorkerSetup | WorkRequest) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._died() from None

    def _receive(self) -> Answer:
        try:
            with _process.interruptible():
                answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if answer.error is not None:
            answer.error.add_note(f"In a worker process:\n{answer.trace}")
            raise answer.error
        return answer

    def _died(self) -> WorkerError:
        try:
            status = self._worker.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            return WorkerError("a worker process no longer answers")
        if status >= 0:
            return WorkerError(f"a worker process ended with status {status}")
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give it more, or use fewer workers" if name == "SIGKILL" else ""
        return WorkerError(f"a worker process was killed by {name}{why}")


def _fits(item: WorkItem) -> bool:
    return isinstance(item, Range) or (isinstance(item, Chunk) and len(item.data) <= IN_BYTES)
