"""All cores on one input: parts of it are transformed by worker processes and by this one, and taken in order.

This process is one of the workers: it takes what the others have no room for, and all parts until they have started,
which costs each as much as a hundred megabytes of input. Workers are fresh interpreters rather than forks (polars does
not survive a fork) and rather than `multiprocessing` ones (those import the caller's main module again, which a script
or a notebook does not expect).
"""

import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from transform import interrupts
from transform.ahead import EXIT_S, take_worker
from transform.errors import WorkerError
from transform.lines import Chunk, LongLine
from transform.piece import Piece
from transform.ranges import Range
from transform.worker import IN_BYTES, SLOTS, Answer, Order, Setting, input_of, output_of

Part = Range | Chunk | LongLine
EXPECTED = 2
"""How many ranges this process may have taken and not done: one to be done, and one to be read meanwhile."""
READY_WAIT_S = 0.0  # nobody is waited for: what a worker would have done until it is ready is done here


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

    def pieces(
        self, parts: Iterator[Part], here: Callable[[Part], Iterator[Piece]], expect: Callable[[Range], None]
    ) -> Iterator[Piece]:
        """Yield what the parts become, in order; each is valid until the next is asked for.

        A worker that has room is given the next part. When all are busy and what comes next is not done yet, this
        process takes a part itself, so that nobody waits for anybody, whatever else there is to be done here. Ranges
        it takes one early, so that they can be read while it does the one before.

        Args:
            parts: The parts; a chunk may be overwritten when the next is asked for.
            here: What transforms a part in this process.
            expect: Hears which ranges will be transformed in this process.

        Raises:
            TransformError: What a part raised, or a `WorkerError`.
        """
        ahead: deque[_Child | _Own] = deque()
        for number, part in enumerate(parts):
            if number == self._start_after:
                for _ in range(self._workers - 1):
                    self._children.append(_Child(self._setting))
            while (child := self._taker_of(part)) is None and ahead and not _can_take(part, ahead):
                yield from _go_on(ahead)
            if child is not None:
                child.give(part)
                ahead.append(child)
            elif not ahead:
                yield from here(part)
            else:
                ahead.append(own := _Own(part, here))
                if isinstance(part, Range):
                    expect(part)
                else:
                    own.do()
        while ahead:
            yield from _go_on(ahead)

    def _taker_of(self, part: Part) -> "_Child | None":
        """Return a worker that has room for a part, None if none has."""
        return next((child for child in self._children if child.is_free()), None) if _fits(part) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.stop(at_once=error is not None)


class _Own:
    """A part that this process has taken: done when its turn comes, or before that."""

    def __init__(self, part: Part, here: Callable[[Part], Iterator[Piece]]) -> None:
        self._part = part
        self._here = here
        self._pieces: list[Piece] = []
        self._error: Exception | None = None
        self.done = False

    def do(self) -> None:
        """Do it, and keep what becomes of it."""
        self.done = True
        try:
            for piece in self._here(self._part):
                interrupts.check()
                self._pieces.append(replace(piece, output=[_kept(part) for part in piece.output]))
        except Exception as error:  # noqa: BLE001 - raised when its turn comes
            self._error = error

    def has_answered(self) -> bool:
        """Return whether there is something to go on with."""
        return True

    def answers(self) -> Iterator[Piece]:
        """Yield what becomes of it."""
        yield from self._pieces if self.done else self._here(self._part)
        if self._error is not None:
            raise self._error


def _can_take(part: Part, ahead: "deque[_Child | _Own]") -> bool:
    """Return whether this process can take one more part, rather than to go on with what it has taken."""
    own = [entry.done for entry in ahead if isinstance(entry, _Own)]
    room = own.count(False) < EXPECTED if isinstance(part, Range) else own.count(True) < SLOTS
    return room and not ahead[0].has_answered()


def _go_on(ahead: "deque[_Child | _Own]") -> Iterator[Piece]:
    """Do what this process has taken while what comes next is not done, unless that is much already."""
    own = [entry for entry in ahead if isinstance(entry, _Own)]
    undone = [entry for entry in own if not entry.done]
    if undone and len(own) - len(undone) < SLOTS and not ahead[0].has_answered():
        undone[0].do()
    else:
        yield from ahead.popleft().answers()


def _kept(part: memoryview) -> memoryview:
    """Return bytes that stay as they are: what can be written to is the buffer that the next chunk is read into."""
    return part if part.readonly else memoryview(bytes(part))


class _Child:
    """One worker process, as this one sees it."""

    def __init__(self, setting: Setting) -> None:
        self._worker = take_worker()
        self._connection, self._memory = self._worker.connection, self._worker.memory
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

    def has_answered(self) -> bool:
        """Return whether there is something to go on with: also if that is the news that it has died."""
        return self._connection.poll()

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
        self._worker.stop(at_once=at_once)

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
            status = self._worker.process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            return WorkerError("a worker process no longer answers")
        if status >= 0:
            return WorkerError(f"a worker process ended with status {status}")
        name = signal.Signals(-status).name
        why = ", most likely for want of memory: give it more, or use fewer workers" if name == "SIGKILL" else ""
        return WorkerError(f"a worker process was killed by {name}{why}")


def _fits(part: Part) -> bool:
    return isinstance(part, Range) or (isinstance(part, Chunk) and len(part.data) <= IN_BYTES)
