"""All cores on one input: parts of it are transformed by worker processes and by this one, and taken in order.

This process is one of the workers: it takes every n-th part itself, and all of them until the others have started,
which costs each as much as a hundred megabytes of input. Workers are fresh interpreters rather than forks (polars does
not survive a fork) and rather than `multiprocessing` ones (those import the caller's main module again, which a script
or a notebook does not expect).
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
from dataclasses import replace
from multiprocessing.connection import Pipe
from types import TracebackType
from typing import Self

from transform import interrupts
from transform.errors import WorkerError
from transform.lines import Chunk, LongLine, keep
from transform.piece import Piece
from transform.ranges import Range
from transform.worker import IN_BYTES, MEMORY_BYTES, SLOTS, Answer, Order, Setting, input_of, output_of

Part = Range | Chunk | LongLine
_EXIT_S = 5.0
READY_WAIT_S = 0.0  # nobody is waited for: what a worker would have done until it is ready is done here
_MAIN = "from transform.worker import main; main()"  # as `__main__`, the module would be another than ours


class Pool:
    """Worker processes beside this one; `close` it, or they stay.

    Args:
        workers: How many in all, this process included.
        setting: What they are told.
        start_after: How many parts this process takes before it starts the others: a short stream needs none.
    """

    def __init__(self, workers: int, setting: Setting, start_after: int = 0) -> None:
        self._workers = workers
        self._setting = setting
        self._start_after = start_after
        self._children: list[_Child] = []

    def pieces(self, parts: Iterator[Part], here: Callable[[Part], Iterator[Piece]]) -> Iterator[Piece]:
        """Yield what the parts become, in order; each is valid until the next is asked for.

        Args:
            parts: The parts; a chunk may be overwritten when the next is asked for.
            here: What transforms a part in this process.

        Raises:
            TransformError: What a part raised, or a `WorkerError`.
        """
        ahead: deque[tuple[Part, _Child | None]] = deque()
        for number, part in enumerate(parts):
            if number == self._start_after:
                self._children = [_Child(self._setting) for _ in range(self._workers - 1)]
            child = self._whose(number)
            ahead.append(
                (child.give(part), child)
                if child and _fits(part)
                else (part if isinstance(part, Range) else keep(part), None)
            )
            if len(ahead) == SLOTS * self._workers:
                yield from self._next(ahead, here)
        while ahead:
            yield from self._next(ahead, here)

    def _next(
        self, ahead: "deque[tuple[Part, _Child | None]]", here: Callable[[Part], Iterator[Piece]]
    ) -> Iterator[Piece]:
        part, child = ahead.popleft()
        yield from child.answers() if child else here(part)

    def _whose(self, number: int) -> "_Child | None":
        turn = number % self._workers
        if not turn or not self._children:
            return None
        child = self._children[turn - 1]
        return child if child.is_free() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.stop(at_once=error is not None)


class _Child:
    """One worker process, as this one sees it."""

    def __init__(self, setting: Setting) -> None:
        self._connection, theirs = Pipe()
        with _shared_file() as memory:
            self._memory = memoryview(mmap.mmap(memory, MEMORY_BYTES))
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, on our own module
                [sys.executable, "-c", _MAIN, str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                process_group=0,  # Ctrl-C is for the process that can tell them to stop
            )
        theirs.close()
        self._ready = False
        self._orders: deque[int] = deque()
        self._given = 0
        self._send(setting)

    def is_free(self) -> bool:
        """Return whether it can be given one more part."""
        if not self._ready and self._connection.poll(READY_WAIT_S):
            self._ready = self._receive().last
        return self._ready and len(self._orders) < SLOTS

    def give(self, part: Part) -> Part:
        """Have a part transformed."""
        slot = self._given % SLOTS
        self._given += 1
        self._orders.append(slot)
        if isinstance(part, Chunk):
            self._memory[input_of(slot)][: len(part.data)] = part.data
            self._send(Order(slot, None, len(part.data), part.offset))
            return Chunk(memoryview(b""), part.offset)
        self._send(Order(slot, part if isinstance(part, Range) else None))
        return part

    def answers(self) -> Iterator[Piece]:
        """Yield what became of the first part that is not done."""
        output, used = self._memory[output_of(self._orders[0])], 0
        last = False
        while not last:
            answer = self._receive()
            for piece, size in answer.pieces:
                if size is None:
                    yield piece
                else:
                    yield replace(piece, output=(output[used : used + size],))
                    used += size
            last = answer.last
        self._orders.popleft()

    def stop(self, *, at_once: bool) -> None:
        self._connection.close()  # a worker that gets no more orders ends
        if at_once:
            self._process.kill()
        try:
            self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: Setting | Order) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise self._died() from None

    def _receive(self) -> Answer:
        try:
            with interrupts.waiting():
                answer: Answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if answer.error is not None:
            answer.error.add_note(f"In a worker process:\n{answer.trace}")
            raise answer.error
        return answer

    def _died(self) -> WorkerError:
        try:
            status = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            return WorkerError("a worker process no longer answers")
        if status >= 0:
            return WorkerError(f"a worker process ended with status {status}")
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give it more, or use fewer workers" if name == "SIGKILL" else ""
        return WorkerError(f"a worker process was killed by {name}{why}")


def _fits(part: Part) -> bool:
    return isinstance(part, Range) or (isinstance(part, Chunk) and len(part.data) <= IN_BYTES)


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
    return {**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
